"""What looks at a running site: metrics, one line for each change of a decision, and probes that tell the truth."""

import asyncio
import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from gridtide.app.metrics import SiteMetrics
from gridtide.model.decision import Reason
from gridtide.model.events import CATALOGUE
from gridtide.run.change_log import ChangeLog
from gridtide.run.health import DEAD_S, LATE_S, START_S, Health, Heartbeat
from gridtide.run.live import LiveSite
from gridtide.run.store import MemoryStore
from gridtide.run.view import Site, Viewer
from tests.day.wire_site import BUSY_S, WireSite, on_wire, world
from tests.day.wire_site import START_S as BEGIN_S
from tests.unit.test_station_routes import TARIFF


def metrics_of(wire: WireSite) -> SiteMetrics:
    here = Site(
        name="Depot", timezone="Europe/Berlin", tariff=TARIFF, wear_per_kwh=0.05, bay_names=wire.here.table.ids, stations=6
    )  # fmt: skip
    live = SimpleNamespace(service=wire.site, csms=wire.csms, listener=SimpleNamespace(refused=3))
    return SiteMetrics(cast(LiveSite, live), Viewer(here, wire.site, lambda _row: "Van"))


def parsed(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """(sample, label values) -> value; every family has its help."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation
        for sample in family.samples:
            assert (sample.name, tuple(sample.labels.values())) not in found
            found[sample.name, tuple(sample.labels.values())] = sample.value
    return found


# --- metrics ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def scraped() -> tuple[dict[tuple[str, tuple[str, ...]], float], WireSite]:
    async def scenario() -> tuple[bytes, WireSite]:
        wire = WireSite(world(6), start_s=BEGIN_S + BUSY_S)
        metrics = metrics_of(wire)
        wire.start()
        await wire.after(120.0)
        wire.site.note("station_timeout", "bay-1", "Rehearsed.")
        wire.site.note("reverse_power", "site", "Rehearsed.")
        await wire.stop()
        return metrics._format(metrics.facts()), wire

    text, wire = on_wire(scenario)
    return parsed(text), wire


def test_metrics_tell_what_the_site_does(scraped: tuple[dict[tuple[str, tuple[str, ...]], float], WireSite]) -> None:
    found, wire = scraped
    decision = wire.decision
    for row, evse in enumerate(wire.here.table.ids):
        assert found["gridtide_evse_setpoint_kw", (evse,)] == decision.setpoint_kw[row]
    assert found["gridtide_discharge_leases", ()] == (decision.setpoint_kw < 0.0).sum() > 0
    assert found["gridtide_peak_limit_kw", ()] == 220.0
    assert found["gridtide_site_power_kw", ()] == pytest.approx(wire.site.state.demand.power_kw)
    assert found["gridtide_demand_projected_kw", ()] > 150.0
    assert (
        found["gridtide_cycles_total", ()]
        == wire.site.cycles
        == found["gridtide_cycle_latency_seconds_count", ()]
        > 100
    )
    assert found["gridtide_stations_online", ()] == 6.0
    assert found["gridtide_setpoint_messages_total", ()] == wire.csms.sender.sent > 0
    assert found["gridtide_setpoint_changes_total", ()] > 0
    assert found["gridtide_refused_logins_total", ()] == 3.0
    assert found["gridtide_state", ("ok",)] == 1.0
    assert found["gridtide_ready", ()] == 1.0
    assert found["gridtide_store_failing", ()] == 0.0


def test_events_are_counted_by_code_from_the_start(
    scraped: tuple[dict[tuple[str, tuple[str, ...]], float], WireSite],
) -> None:
    found, _ = scraped
    assert {labels[0] for name, labels in found if name == "gridtide_events_total"} == {kind.code for kind in CATALOGUE}
    assert found["gridtide_events_total", ("reverse_power",)] == 1.0
    assert found["gridtide_violations_total", ("export",)] == 1.0
    assert found["gridtide_violations_total", ("demand",)] == 0.0


def test_labels_are_bounded(scraped: tuple[dict[tuple[str, tuple[str, ...]], float], WireSite]) -> None:
    found, wire = scraped
    rows = [name for name, labels in found if set(labels) & set(wire.here.table.ids)]
    assert len(rows) == 5 * wire.here.table.size
    assert len(found) - len(rows) < len(CATALOGUE) + 90
    assert not any("Van" in label for _, labels in found for label in labels), "no names of people"


def test_what_is_not_known_is_left_out_and_never_a_number_that_is_none() -> None:
    async def scenario() -> bytes:
        wire = WireSite(world(2, arrivals=[]), start_s=BEGIN_S)
        metrics = metrics_of(wire)
        before = metrics._format(metrics.facts())
        wire.start()
        await wire.after(3.0)
        await wire.stop()
        assert b"gridtide_evse" not in before
        return metrics._format(metrics.facts())

    found = parsed(on_wire(scenario))
    assert all(math.isfinite(value) for value in found.values())
    assert ("gridtide_evse_soc", ("bay-1",)) not in found
    assert found["gridtide_evse_connected", ("bay-1",)] == 0.0


def test_metrics_are_formatted_beside_the_loop() -> None:
    async def scenario() -> WireSite:
        wire = WireSite(world(2), start_s=BEGIN_S)
        wire.start()
        await wire.after(3.0)
        await wire.stop()
        return wire

    metrics = metrics_of(on_wire(scenario))
    assert b"gridtide_cycles_total" in asyncio.run(metrics.text())


# --- one line for each change -------------------------------------------------------------------------------------------
def lines(length_s: float, start_s: float = BEGIN_S + BUSY_S) -> tuple[list[dict[str, Any]], WireSite]:
    async def scenario() -> WireSite:
        wire = WireSite(world(6), start_s=start_s)
        wire.site.watchers.append(ChangeLog(lambda at_s: f"{at_s:.0f}").cycle)
        wire.start()
        await wire.after(length_s)
        await wire.stop()
        return wire

    with capture_logs() as told:
        wire = on_wire(scenario)
    return [dict(line) for line in told if line["event"] in ("decision", "site_state")], wire


def test_one_line_for_each_change_of_a_decision() -> None:
    told, wire = lines(300.0)
    states = [(line["old"], line["new"]) for line in told if line["event"] == "site_state"]
    assert states == [("none", "idle"), ("idle", "ok")]
    changes = [line for line in told if line["event"] == "decision"]
    for line in changes:
        assert line["why"]
        assert line["reason"] in Reason.__members__
        assert len(line["inputs"]) == 3
    by_bay = {evse: [line for line in changes if line["evse"] == evse] for evse in wire.here.table.ids}
    for evse, mine in by_bay.items():
        row = wire.here.table.ids.index(evse)
        assert mine[-1]["reason"] == Reason(int(wire.decision.reason[row])).name
        for one, other in pairwise(mine):
            assert other["old_kw"] == one["new_kw"]
    assert any(line["reason"] == "SHAVING" and line["new_kw"] < 0.0 for line in changes)
    assert len(changes) < 0.2 * 6 * wire.site.cycles, "a line for a change, not for every cycle"


# --- health -------------------------------------------------------------------------------------------------------------
class Watched:
    """A site and its heartbeat on a clock moved by hand."""

    def __init__(self, wire: WireSite) -> None:
        self.now_s = 100.0
        self.wire, self.heart = wire, Heartbeat(wire.site, lambda: self.now_s)

    def look(self, after_s: float = 0.0) -> Health:
        self.now_s += after_s
        return self.heart.look()


def test_ready_only_while_the_site_is_steered() -> None:
    async def scenario() -> None:
        wire = WireSite(world(2), start_s=BEGIN_S)
        watched = Watched(wire)
        assert watched.look().reasons == ("No meter sample yet.",)
        assert watched.look().alive
        wire.start()
        await wire.after(5.0)
        assert watched.look() == Health(alive=True, ready=True, beat_age_s=0.0)
        await wire.site.estop("test")
        await wire.after(1.0)
        assert (watched.look().ready, watched.look().estop) == (True, True), "a stop is shown, and no fault"
        wire.break_meter("silent")
        await wire.after(5.0)
        assert "meter" in watched.look().reasons[0]
        await wire.stop()

    on_wire(scenario)


def test_a_store_that_fails_and_a_loop_that_stands_are_told() -> None:
    broken = {"now": False}

    async def scenario() -> None:
        wire = WireSite(world(2), start_s=BEGIN_S, store=MemoryStore(lambda _: broken["now"]))
        watched = Watched(wire)
        wire.start()
        await wire.after(5.0)
        broken["now"] = True
        await wire.after(2.0)
        assert [reason for reason in watched.look().reasons if "store" in reason]
        broken["now"] = False
        await wire.after(2.0)
        assert watched.look().ready
        await wire.stop()
        late = watched.look(LATE_S + 0.1)
        assert (late.alive, late.ready) == (True, False)
        assert "late" in late.reasons[0]
        assert not watched.look(DEAD_S).alive

    on_wire(scenario)


def test_setpoints_that_are_always_late_are_told() -> None:
    async def scenario() -> Health:
        wire = WireSite(world(2), start_s=BEGIN_S)
        watched = Watched(wire)
        wire.start()
        await wire.after(15.0)
        assert watched.look().ready
        wire.site.latencies_s.extend([0.3] * 20)
        await wire.stop()
        return watched.look()

    assert "too late" in on_wire(scenario).reasons[0]


def test_a_site_that_never_begins_is_not_alive() -> None:
    async def scenario() -> Health:
        return Watched(WireSite(world(2), start_s=BEGIN_S)).look(START_S + 1.0)

    assert not on_wire(scenario).alive
