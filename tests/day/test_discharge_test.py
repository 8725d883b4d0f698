"""The test discharge against emulated stations in virtual time, and its arithmetic."""

import asyncio
from typing import Any

import pytest

from gridtide.run.csms.discharge_test import DischargeTester, TestReport
from gridtide.run.csms.discharge_timing import Measured, Sample, judge, sentence
from gridtide.run.csms.registry import StationEntry
from tests.day.wire_site import WireSite, on_wire, stay, world

QUIET = (170.0,) * 8
"""Nothing to shave: what happens is the test's doing."""


def site(soc: float = 0.7, blocks_kw: tuple[float, ...] = QUIET, **more: Any) -> WireSite:
    """Two bays, a vehicle at the first, satisfied and in no hurry."""
    return WireSite(world(2, arrivals=[stay(0, -600.0, 8 * 3600.0, soc, 0.5)], blocks_kw=blocks_kw, **more))


async def trial(here: WireSite, kw: float = 8.0, s: float = 20.0, bay: str = "bay-1") -> TestReport:
    return await DischargeTester(here.site).run(bay, 1, kw, s, "tester")


def overrides(here: WireSite) -> int:
    return len(here.site.settings.overrides)


def test_a_station_that_follows_passes() -> None:
    async def scenario() -> None:
        here = site()
        here.start()
        await here.after(10.0)
        report = await trial(here)
        found = report.figures
        assert found.verdict == "pass", report.words
        assert found.control_path_ms is not None
        assert found.control_path_ms <= 100.0
        assert found.before_kw is not None
        assert found.before_kw > 0.0, "it begins while charging"
        assert found.station_reached_s is not None
        assert 0.0 < found.station_reached_s < 5.0
        assert found.mean_kw == pytest.approx(-8.0, abs=0.3)
        assert report.words.startswith("Passed")
        assert overrides(here) == 0
        await here.after(5.0)
        assert here.power_kw[0] > -0.1
        assert any(e.action == "discharge.test" for e in here.store.audit(20))
        await here.stop()

    on_wire(scenario)


def test_a_vehicle_that_cannot_charge_is_tested_from_rest_and_that_is_told() -> None:
    async def scenario() -> None:
        here = site(1.0)
        here.start()
        await here.after(10.0)
        report = await trial(here)
        assert report.figures.verdict == "pass", report.words
        assert report.figures.before_kw == pytest.approx(0.0, abs=0.1)
        assert "began at rest" in report.words
        await here.stop()

    on_wire(scenario)


def test_a_vehicle_that_was_just_giving_rests_twice() -> None:
    async def scenario() -> None:
        here = site()
        here.start()
        await here.after(10.0)
        await here.site.override(0, "power", -5.0, 5.0, "test")
        await here.after(5.0)
        assert here.power_kw[0] < -4.0
        await here.site.override(0, "auto", 0.0, 1.0, "test")
        await here.after(2.0)
        found = (await trial(here)).figures
        assert (found.verdict, found.note) == ("pass", "")
        assert found.before_kw == pytest.approx(8.0, abs=0.3)
        await here.stop()

    on_wire(scenario)


def test_a_slow_link_fails_the_station_and_not_us() -> None:
    """What the station takes is told apart from the control path."""

    async def scenario() -> None:
        here = site(model="measured_v2g")
        here.start()
        await here.after(10.0)
        found = (await trial(here, s=40.0)).figures
        assert found.control_path_ms is not None
        assert found.control_path_ms <= 100.0
        assert found.station_first_s is not None
        assert found.station_first_s > 3.0, "this model has a dead time of four seconds"
        await here.stop()

    on_wire(scenario)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("empty", "No vehicle"),
        ("estop", "emergency stop"),
        ("refuse", "charge only"),
        ("offline", "offline"),
        ("export", "would export"),
        ("floor", "never used below"),
        ("soc", "unknown"),
        ("meter", "meter cannot be trusted"),
        ("rating", "charge-only"),
        ("driver", "driver comes first"),
        ("by hand", "set this vehicle by hand"),
    ],
)
def test_what_keeps_a_test_from_beginning_is_told(spoil: str, said: str) -> None:
    async def scenario() -> None:
        here = site(0.39 if spoil == "floor" else 0.7, (15.0,) * 8 if spoil == "export" else QUIET)
        here.start()
        await here.after(10.0)
        if spoil == "estop":
            await here.site.estop("test")
        if spoil == "refuse":
            await here.csms.registry.put_station(StationEntry(identity="bay-1"), "test", here.clock.wall())
            await here.csms.registry.set_mode("bay-1", "charge-only", "test", here.clock.wall())
        if spoil == "offline":
            await here.links[0].close(1000, "bye")
            here.csms.stations["bay-1"].conversation = None
        if spoil == "soc":
            here.board.soc[0] = float("nan")
        if spoil == "meter":
            here.break_meter("silent")
            await here.after(5.0)
        if spoil == "driver":
            here.board.minimum_soc[0] = 0.9
            here.board.need_soc[0] = 0.9
            here.board.departs_s[0] = here.clock.monotonic() + 60.0
            await here.after(1.0)
        if spoil == "rating":
            here.site.settings.table.discharge_kw[0] = 0.0
        if spoil == "by hand":
            await here.site.override(0, "hold", 0.0, 5.0, "somebody")
        report = await trial(here, bay="bay-2" if spoil == "empty" else "bay-1")
        assert report.figures.verdict == "fail"
        assert said in report.words, report.words
        assert overrides(here) == (1 if spoil == "by hand" else 0)
        assert here.power_kw.min() > -0.1
        await here.stop()

    on_wire(scenario)


def test_it_gives_the_vehicle_back_when_nobody_waits_any_more() -> None:
    async def scenario() -> None:
        here = site()
        here.start()
        await here.after(10.0)
        running = asyncio.ensure_future(trial(here, s=300.0))
        await here.after(100.0)
        assert here.power_kw[0] < -5.0
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await here.after(3.0)
        assert overrides(here) == 0
        assert here.power_kw[0] > -0.1
        await here.stop()

    on_wire(scenario)


def test_an_emergency_stop_ends_it() -> None:
    async def scenario() -> None:
        here = site()
        here.start()
        await here.after(10.0)
        running = asyncio.ensure_future(trial(here, s=300.0))
        await here.after(100.0)
        await here.site.estop("test")
        report = await running
        assert report.figures.verdict == "fail"
        assert "emergency stop" in report.words
        assert overrides(here) == 0
        await here.stop()

    on_wire(scenario)


@pytest.mark.parametrize(
    ("kw", "s", "field"),
    [(0.0, 10.0, "rate_kw"), (50.0, 10.0, "rate_kw"), (float("nan"), 10.0, "rate_kw"), (5.0, 0.0, "duration_s")],
)
def test_a_bad_wish_names_field_and_cure(kw: float, s: float, field: str) -> None:
    async def scenario() -> None:
        here = site()
        with pytest.raises(ValueError, match=field):
            await trial(here, kw, s)
        with pytest.raises(KeyError, match="nowhere"):
            await trial(here, bay="nowhere")

    on_wire(scenario)


# --- arithmetic -----------------------------------------------------------------------------------------------------
def measured(**fields: Any) -> Measured:
    """8 kW decided at 100.0, sent 20 ms later, metered each second, reached with the third report."""
    samples = tuple(Sample(98.0 + k, power) for k, power in enumerate((8.0, 8.0, 8.0, -3.0, -7.9, -8.0, -8.0)))
    usual: dict[str, Any] = {
        "rate_kw": 8.0, "asked_s": 99.9, "decided_s": 100.0, "sent_s": 100.02, "allowed_kw": 8.0, "ended_s": 104.5,
        "samples": samples,
    }  # fmt: skip
    return Measured(**{**usual, **fields})


def test_figures_of_a_good_test() -> None:
    found = judge(measured())
    assert (found.verdict, found.problems) == ("pass", ())
    assert found.control_path_ms == pytest.approx(20.0)
    assert (found.station_first_s, found.station_reached_s) == (0.98, 1.98)
    assert (found.report_interval_s, found.before_kw, found.held_share) == (1.0, 8.0, 1.0)
    assert found.mean_kw == pytest.approx(-7.967)
    assert "20.0 ms" in sentence(found)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sent_s": 100.101}, "101 ms"),
        ({"allowed_kw": 5.0, "bound": "Held."}, "only 5.0 of 8.0 kW through: Held."),
        ({"samples": (Sample(99.0, 8.0), Sample(101.0, 7.0))}, "never showed"),
        ({"decided_s": None, "bound": "At 20 %."}, "let no discharge through: At 20 %."),
        ({"sent_s": None}, "Nothing was sent"),
        ({"aborted": "The vehicle left."}, "The vehicle left."),
        ({"samples": tuple(Sample(100.5 + k, p) for k, p in enumerate((-8.0, 0.0, -8.0, 0.0)))}, "not held"),
    ],
)
def test_what_fails_a_test(changed: dict[str, Any], said: str) -> None:
    found = judge(measured(**changed))
    assert found.verdict == "fail"
    assert said in sentence(found)


def test_a_hundred_milliseconds_are_within_the_budget() -> None:
    assert judge(measured(decided_s=100.0, sent_s=100.0 + 0.0999)).verdict == "pass"
