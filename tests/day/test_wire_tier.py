"""The wire tier decides what the fast tier decides, and what happens on the plant when a part of it fails."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

from gridtide.control import guard, site
from gridtide.control.peak import PeakSettings
from gridtide.model.decision import Decision, Reason, Snapshot
from gridtide.run import fast
from gridtide.run.assembly import ids, provisions
from gridtide.run.clock import Clock
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.registry import Registry
from gridtide.run.csms.service import Csms
from gridtide.run.csms.station import DriverDefault
from gridtide.run.modbus import MemoryMeter
from gridtide.run.net import Link
from gridtide.run.site import SiteService
from gridtide.run.store import MemoryStore, SqliteStore, TransactionEvent
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import Arrival
from gridtide.wire.modbus.registers import Register, RegisterMap
from tests.day.raw_station import RawStation, event
from tests.day.wire_site import (
    BUDGET,
    BUSY_S,
    CYCLE_S,
    FOLLOWING,
    OFFSET_S,
    START_S,
    EpochClock,
    WireSite,
    on_wire,
    period,
    settings,
    stay,
    stays,
    table,
    world,
)

HALF_BEAT_S = CYCLE_S / 2.0
"""Scenarios look at the plant between its beats."""
NOTHING_KW = 1e-9
FOLLOWS_S = 0.1
"""The EVSE model `fast` is at its new setpoint within this time."""


# --- (a) both tiers decide the same -----------------------------------------------------------------------------------
def comings_and_goings() -> list[Arrival]:
    """Six bays; one vehicle leaves and another comes to its bay, and one bay fills, all while the site shaves."""
    return [
        *(item for item in stays(6) if item.row < 4),
        stay(4, 0.0, BUSY_S + 400.0, 0.75, 0.6),
        stay(4, BUSY_S + 410.0, 9_000.0, 0.5, 0.55),
        stay(5, BUSY_S + 300.3, 9_000.0, 0.8, 0.6),
    ]


async def both_tiers(
    rule: PeakSettings, start_s: float, settle_s: float, length_s: float
) -> tuple[WireSite, fast.Run, list[Decision]]:
    """Run the wire tier; from the common state after `settle_s`, run the fast tier over the same `length_s`."""
    wire = WireSite(world(arrivals=comings_and_goings()), start_s=START_S + start_s, rule=rule)
    wire.start()
    await wire.after(settle_s + HALF_BEAT_S)
    assert wire.csms.online == 6
    plant, state, decision = wire.emulated.plant, wire.site.state, wire.decision
    wire.trace.setpoints.clear()
    await wire.after(length_s)
    await wire.stop()
    decisions: list[Decision] = []

    def keep(_snapshot: Snapshot, made: Decision, _state: site.State) -> None:
        decisions.append(made)

    # The site's loop looks at the plant a microsecond after its beat: so does the fast loop, while both plants keep one grid.
    begin_s = plant.at_s
    run = fast.controlled(
        wire.here, settings(wire.here, rule), begin_s, begin_s + length_s, CYCLE_S, state=state, on_step=keep,
        plant=twin.command(wire.here, plant, decision.setpoint_kw), period_start=lambda now_s: period(now_s)[0],
        decide_after_s=OFFSET_S,
    )  # fmt: skip
    return wire, run, decisions


@pytest.mark.parametrize(
    ("rule", "start_s", "length_s"),
    [(BUDGET, BUSY_S - 60.0, 3_600.0), (FOLLOWING, BUSY_S + 1_500.0, 480.0)],
    ids=["busiest hour", "from shaving to charging"],
)
def test_both_tiers_give_the_same_setpoints(rule: PeakSettings, start_s: float, length_s: float) -> None:
    wire, run, decisions = on_wire(lambda: both_tiers(rule, start_s, 60.0, length_s))
    assert len(decisions) == len(wire.trace.setpoints) == length_s / CYCLE_S
    found = np.array([setpoint for _, setpoint in wire.trace.setpoints])
    wanted = np.array([decision.setpoint_kw for decision in decisions])
    assert np.abs(found - wanted).max() <= 0.001 + NOTHING_KW
    assert found.sum(axis=1).min() < -10.0, "nothing was shaved"
    assert np.abs(wire.emulated.plant.batteries.soc - run.plant.batteries.soc).max() < 1e-6
    assert wire.emulated.plant.next_arrival == run.plant.next_arrival


# --- (b) one seed, one history ----------------------------------------------------------------------------------------
def digest(world_seed: int, loop_seed: int) -> tuple[str, int]:
    async def history() -> tuple[str, int]:
        wire = WireSite(world(4, seed=world_seed, model="measured_v2g"), start_s=START_S + BUSY_S)
        wire.start()
        await wire.after(240.0)
        await wire.stop()
        return wire.trace.hexdigest(), wire.trace.count

    return on_wire(history, loop_seed)


def test_one_seed_is_one_history() -> None:
    first, count = digest(1, 1)
    assert count > 400
    assert digest(1, 1) == (first, count)
    assert digest(2, 1)[0] != first


FLOAT_POWER = RegisterMap("power", 1, (Register("power_kw", 0, "float32", unit="kW"),), source="tests")
"""A meter that can say NaN."""


# --- (c) the meter fails in the middle of a shave ---------------------------------------------------------------------
async def shaving(registers: RegisterMap | None = None) -> WireSite:
    """A site that has been shaving for a while, seen between two beats."""
    wire = WireSite(world(), start_s=START_S + BUSY_S, registers=registers)
    wire.start()
    await wire.after(HALF_BEAT_S)
    return await wire.until_giving(12.0)


def giving_kw(wire: WireSite) -> float:
    """Discharge that really flows."""
    return float(-np.minimum(wire.power_kw, 0.0).sum())


@pytest.mark.parametrize(
    ("kind", "code"),
    [("silent", "meter_stale"), ("nan", "meter_invalid"), ("exception", "meter_stale"), ("disconnect", "meter_stale")],
)
def test_a_lost_meter_ends_every_discharge_within_2_s(kind: str, code: str) -> None:
    async def scenario() -> None:
        wire = await shaving(FLOAT_POWER)
        wire.break_meter(kind)
        last_good_s = wire.site.state.meter.at_s
        await wire.after(0.5)
        assert giving_kw(wire) > 12.0
        await wire.after(1.5)
        assert giving_kw(wire) == 0.0
        zero_s = next(at_s for at_s, kw in wire.trace.setpoints if at_s > last_good_s and (kw >= 0.0).all())
        assert zero_s - last_good_s + FOLLOWS_S <= 2.0
        assert code in wire.codes
        for _ in range(20):
            await wire.after(1.0)
            assert giving_kw(wire) == 0.0
        assert wire.decision.state == "idle"
        assert np.isfinite(wire.decision.setpoint_kw).all()
        wire.break_meter("none")
        await wire.after(30.0)
        assert wire.decision.state == "ok"
        await wire.until_giving(12.0, within_s=120.0)
        await wire.stop()

    on_wire(scenario)


def test_a_frozen_meter_is_found_once_the_fleet_has_moved() -> None:
    async def scenario() -> None:
        wire = WireSite(world(), start_s=START_S + BUSY_S)
        wire.start()
        await wire.after(HALF_BEAT_S)
        await wire.until_giving(1.0)
        wire.break_meter("frozen")
        await wire.after(1.0)
        before_kw = giving_kw(wire)
        await wire.site.set_limit(200.0, 10.0, "operator")
        await wire.after(2.0)
        assert giving_kw(wire) > before_kw + 4.0
        await wire.after(9.0)
        assert "meter_frozen" in wire.codes
        assert giving_kw(wire) == 0.0
        await wire.stop()

    on_wire(scenario)


def test_a_flipped_meter_ends_discharge_and_is_found() -> None:
    async def scenario() -> None:
        wire = await shaving()
        wire.break_meter("sign_flip")
        await wire.after(2.0 - CYCLE_S)
        assert giving_kw(wire) == 0.0
        for _ in range(60):
            await wire.after(1.0)
            assert giving_kw(wire) == 0.0
        wire.break_meter("none")
        found = "meter_sign" in wire.codes
        await wire.after(60.0)
        assert not found or giving_kw(wire) == 0.0, "a sign fault is latched until a person acknowledges it"
        await wire.stop()

    on_wire(scenario)


def spiked(kw: float) -> float:
    """Discharge decided in the one cycle whose sample is off by `kw`."""

    async def scenario() -> float:
        wire = await shaving()
        await wire.after(10.0)
        wire.break_meter("spike", kw)
        await wire.after(CYCLE_S)
        wire.break_meter("none")
        await wire.stop()
        return float(-wire.decision.setpoint_kw.sum())

    return on_wire(scenario)


def test_a_spike_never_gives_more_and_gives_less_at_once() -> None:
    calm = spiked(0.0)
    assert calm > 12.0
    assert spiked(150.0) <= calm + 0.1
    assert spiked(-60.0) <= calm
    assert spiked(-230.0) == 0.0, "power seems to flow back to the grid"


# --- (d) the controller dies in the middle of a shave -----------------------------------------------------------------
def test_a_dead_csms_ends_every_discharge_by_its_lease() -> None:
    async def scenario() -> None:
        wire = await shaving()
        wire.kill_csms()
        await wire.after(1.0)
        assert giving_kw(wire) > 12.0, "the lease still holds"
        await wire.after(4.0 + CYCLE_S)
        assert giving_kw(wire) == 0.0
        for _ in range(30):
            await wire.after(1.0)
            assert giving_kw(wire) == 0.0
        await wire.stop()

    on_wire(scenario)


def test_dropped_links_end_discharge_and_nothing_resumes_by_itself() -> None:
    async def scenario() -> None:
        wire = await shaving()
        for link in wire.links.values():
            link.drop()
        await wire.after(CYCLE_S)
        assert wire.csms.online == 0
        assert not wire.board.may_discharge.any()
        assert giving_kw(wire) == 0.0
        await wire.after(5.0)
        assert wire.csms.online == 6
        assert wire.board.may_discharge.all(), "every station came back into step"
        await wire.until_giving(12.0, within_s=30.0)
        assert wire.codes["station_timeout"] == 6
        assert wire.codes["station_back"] == 6
        await wire.stop()

    on_wire(scenario)


def test_a_vehicle_that_left_while_its_station_was_offline_is_gone() -> None:
    async def scenario() -> None:
        leaving = stay(0, -600.0, BUSY_S + 10.0, 0.7, 0.6)
        wire = WireSite(world(2, arrivals=[leaving, stays(2)[1]]), start_s=START_S + BUSY_S)
        wire.start()
        await wire.after(8.0 + HALF_BEAT_S)
        wire.links[0].drop()
        wire.stations[0]._dial = _after(wire.clock, 6.0, wire.stations[0]._dial)
        await wire.after(5.0)
        assert wire.board.connected[0], "nobody could have told"
        await wire.after(5.0)
        assert wire.csms.online == 2
        assert not wire.board.connected[0]
        assert wire.board.connected[1]
        assert [item.station_id for item in wire.store.open_transactions()] == ["bay-2"]
        await wire.stop()

    on_wire(scenario)


def _after(clock: Clock, pause_s: float, act: Callable[[], Awaitable[Link]]) -> Callable[[], Awaitable[Link]]:
    async def later() -> Link:
        await clock.sleep(pause_s)
        return await act()

    return later


# --- (e) one station goes silent --------------------------------------------------------------------------------------
def test_a_silent_station_is_replaced_by_the_others() -> None:
    async def scenario() -> None:
        wire = await shaving()
        row = int(np.argmin(wire.power_kw))
        before_kw = giving_kw(wire)
        assert -wire.power_kw[row] > 2.0
        wire.stations[row].silent = True
        await wire.after(3.0)
        assert wire.decision.reason[row] == Reason.SILENT
        assert wire.decision.setpoint_kw[row] == 0.0
        await wire.after(3.0)
        assert wire.power_kw[row] >= 0.0, "its lease has ended"
        assert giving_kw(wire) > before_kw - 1.0, "the others took over"
        wire.stations[row].silent = False
        await wire.after(5.0)
        assert wire.decision.reason[row] != Reason.SILENT
        await wire.stop()

    on_wire(scenario)


def test_the_power_of_a_silent_station_is_reserved() -> None:
    async def scenario() -> None:
        hungry = [stay(row, -600.0, 1_800.0, 0.3, 0.8) for row in range(4)]
        # 100 kW behind 130 kW: all four may charge with 7.5 kW each, and none can wait.
        wire = WireSite(world(4, arrivals=hungry, blocks_kw=(100.0, 100.0)), transformer_kw=130.0)
        wire.start()
        await wire.after(30.0 + HALF_BEAT_S)
        all_kw = wire.decision.setpoint_kw.sum()
        assert 22.0 < all_kw < 38.0
        wire.stations[2].silent = True
        await wire.after(10.0)
        fallback_kw = float(wire.here.table.fallback_kw[2])
        assert wire.decision.setpoint_kw[2] == 0.0
        assert (wire.decision.setpoint_kw[[0, 1, 3]] > 0.0).any()
        for _ in range(60):
            await wire.after(1.0)
            # Its last charging limit may still run at the station: the meter sees that, the reserve comes on top.
            charging_kw = wire.decision.setpoint_kw.sum()
            assert wire.decision.setpoint_kw[2] == 0.0
            known_kw = np.delete(wire.power_kw, 2).sum()
            assert wire.emulated.sample is not None
            uncontrolled_kw = wire.emulated.sample.grid_kw - known_kw
            assert charging_kw <= max(0.0, 130.0 - uncontrolled_kw - fallback_kw) + 4.0
            assert wire.emulated.sample.grid_kw <= 130.0 + 4.0
        await wire.stop()

    on_wire(scenario)


def test_an_empty_bay_with_a_living_station_is_not_silent() -> None:
    async def scenario() -> None:
        wire = WireSite(world(2, arrivals=stays(1)), start_s=START_S)
        wire.start()
        await wire.after(30.0 + HALF_BEAT_S)
        assert (wire.board.sample(wire.clock.monotonic()).age_s < 1.0).all()
        wire.links[1].drop()
        wire.stations[1]._dial = _after(wire.clock, 60.0, wire.stations[1]._dial)
        await wire.after(10.0)
        age_s = wire.board.sample(wire.clock.monotonic()).age_s
        assert age_s[0] < 1.0
        assert age_s[1] > 5.0
        await wire.stop()

    on_wire(scenario)


# --- (f) transaction events happen once -------------------------------------------------------------------------------
def no_default(_token: str, _now_s: float) -> DriverDefault | None:
    """No driver has told anything."""
    return None


class Ward:
    """A CSMS of one station over raw frames, without a plant."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        driver_default: Callable[[str, float], DriverDefault | None] = no_default,
        registry: Registry | None = None,
    ) -> None:
        self.clock = EpochClock(asyncio.get_running_loop(), START_S)
        self.store = store or MemoryStore()
        self.board = EvidenceBoard(table(1))
        self.csms = Csms(
            table(1), provisions(table(1), ("2.1",)), self.board, self.store, self.clock, ids("c"), lease_s=5.0,
            driver_default=driver_default, registry=registry,
        )  # fmt: skip
        self.ticks = asyncio.ensure_future(self.csms.tick_forever())

    async def station(self) -> RawStation:
        return await RawStation(self.csms, self.clock).boot()

    def kept(self, transaction: str = "tx-1") -> list[tuple[int, str]]:
        return [(item.seq_no, item.event_type) for item in self.store.transaction_events("bay-1", transaction)]


def test_a_repeated_event_has_one_effect() -> None:
    async def scenario() -> None:
        ward = Ward()
        raw = await ward.station()
        await raw.tell("Started", 0)
        await raw.tell("Updated", 1, soc=55.0)
        await raw.tell("Updated", 2, soc=54.0)
        assert ward.board.soc[0] == 0.54
        assert (await raw.tell("Updated", 1, soc=55.0))[0] == 3
        assert ward.board.soc[0] == 0.54
        ended = event(ward.clock, "Ended", 3)
        first = await raw.call("TransactionEvent", ended, "same-id")
        assert not ward.board.connected[0]
        await raw.tell("Started", 0, "tx-2")
        assert await raw.call("TransactionEvent", ended, "same-id") == first
        assert (await raw.call("TransactionEvent", ended))[0] == 3
        assert ward.board.connected[0], "the old end does not end the new transaction"
        assert ward.kept() == [(0, "Started"), (1, "Updated"), (2, "Updated"), (3, "Ended")]
        assert ward.kept("tx-2") == [(0, "Started")]

    on_wire(scenario)


def test_a_late_event_is_recorded_and_has_no_effect() -> None:
    async def scenario() -> None:
        ward = Ward()
        raw = await ward.station()
        await raw.tell("Started", 0)
        await raw.tell("Updated", 2, soc=54.0)
        await raw.tell("Updated", 1, soc=80.0)
        assert ward.board.soc[0] == 0.54
        await raw.tell("Ended", 4)
        await raw.tell("Updated", 3, soc=53.0)
        assert not ward.board.connected[0], "a late update does not bring an ended transaction back"
        assert [seq_no for seq_no, _ in ward.kept()] == [0, 1, 2, 3, 4]

    on_wire(scenario)


def test_what_happened_offline_is_history_but_an_end_is_an_end() -> None:
    async def scenario() -> None:
        ward = Ward()
        raw = await ward.station()
        await raw.tell("Started", 0, "tx-0", offline=True)
        await raw.tell("Ended", 1, "tx-0", offline=True)
        assert not ward.board.connected[0]
        await raw.tell("Started", 0)
        await raw.tell("Updated", 1, soc=90.0, offline=True)
        assert np.isnan(ward.board.soc[0])
        await raw.tell("Ended", 2, offline=True)
        assert not ward.board.connected[0]

    on_wire(scenario)


def test_an_event_that_is_not_stored_is_not_acknowledged_and_works_when_repeated() -> None:
    async def scenario() -> None:
        failing = {2}
        ward = Ward(MemoryStore(fails=lambda number: number in failing))
        raw = await ward.station()
        answer = await raw.tell("Started", 0)
        assert (answer[0], answer[2]) == (4, "InternalError")
        assert "rehearsed" not in msgspec.json.encode(answer).decode(), "no inner text travels"
        assert not ward.board.connected[0]
        assert (await raw.tell("Started", 0))[0] == 3
        assert ward.board.connected[0]

    on_wire(scenario)


def test_an_event_that_cannot_be_kept_is_the_stations_fault() -> None:
    async def scenario() -> None:
        ward = Ward()
        raw = await ward.station()
        answer = await raw.tell("Started", 0, "")
        assert (answer[0], answer[2]) == (4, "PropertyConstraintViolation")
        assert ward.store.events() == ()

    on_wire(scenario)


def test_a_failure_of_ours_is_told_in_fixed_words_and_ends_no_connection() -> None:
    def fail(*_: object) -> Any:
        raise ValueError("secret inner text")

    async def scenario() -> None:
        ward = Ward(driver_default=fail)
        raw = await ward.station()
        token = {"idToken": "card", "type": "ISO14443"}
        for action, payload in [
            ("TransactionEvent", event(ward.clock, "Started", 0, idToken=token)),
            ("Heartbeat", {}),
        ]:
            ward.csms._intake._actions["Heartbeat"] = fail
            assert (await raw.call(action, payload))[2:] == ["InternalError", "internal error", {}]
        assert ward.csms.online == 1
        assert (await raw.call("Authorize", {"idToken": token}))[0] == 3

    on_wire(scenario)


class SlowStore(MemoryStore):
    """Commits, and tells so only a second later."""

    async def add_transaction_event(self, event: TransactionEvent) -> bool:
        new = await super().add_transaction_event(event)
        await asyncio.sleep(1.0)
        return new


def test_a_link_that_ends_while_an_event_is_being_stored_loses_no_effect() -> None:
    async def scenario() -> None:
        ward = Ward(SlowStore())
        raw = await ward.station()
        await raw.tell("Started", 0)
        assert ward.board.connected[0]
        waiting = asyncio.ensure_future(raw.tell("Ended", 1))
        await ward.clock.sleep(0.5)
        raw.link.drop()
        await ward.clock.sleep(1.0)
        assert not ward.board.connected[0], "the repetition would have found it stored, and without effect"
        again = await ward.station()
        assert (await again.tell("Ended", 1))[0] == 3
        assert ward.kept() == [(0, "Started"), (1, "Ended")]
        waiting.cancel()

    on_wire(scenario)


def test_discharge_waits_for_the_profile_underneath_and_for_the_negotiated_service() -> None:
    async def scenario() -> None:
        ward = Ward()
        raw = RawStation(ward.csms, ward.clock)
        raw.answers = False
        await raw.boot()
        await raw.tell("Started", 0, soc=70.0)
        await raw.needs()
        assert raw.heard[0][0] == "SetChargingProfile"
        assert not ward.board.may_discharge[0], "the profile underneath is not acknowledged"
        await raw.link.close()
        again = await ward.station()
        assert not ward.board.may_discharge[0]
        await again.needs("DC")
        await again.tell("Updated", 1)
        assert 0 not in ward.csms.stations["bay-1"].bidirectional or ward.board.may_discharge[0]
        await again.needs("DC_BPT")
        assert ward.board.may_discharge[0]

    on_wire(scenario)


# --- duplicate identity, in virtual time ------------------------------------------------------------------------------
def test_a_second_connection_replaces_only_a_dead_one() -> None:
    async def scenario() -> None:
        ward = Ward()
        old = await ward.station()
        intruder = RawStation(ward.csms, ward.clock)
        await ward.clock.sleep(1.0)
        assert intruder.served.done()
        assert intruder.link.closed
        assert not old.link.closed
        old.answers = False
        heirs = [RawStation(ward.csms, ward.clock) for _ in range(2)]
        await ward.clock.sleep(10.0)
        assert old.link.closed
        assert old.served.done()
        alive = [heir for heir in heirs if not heir.link.closed]
        assert len(alive) == 1, "two that wait for the same dead one do not both take over"
        await alive[0].boot()
        assert ward.csms.online == 1

    on_wire(scenario)


# --- (g) settings, the running interval and the emergency stop survive ------------------------------------------------
class HandClock:
    """A clock that a test sets by hand."""

    def __init__(self) -> None:
        self.now_s = START_S

    def monotonic(self) -> float:
        return self.now_s - START_S

    def wall(self) -> float:
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(0)

    async def sleep_until(self, monotonic_s: float) -> None:
        await asyncio.sleep(0)


POWER_ONLY = RegisterMap("power", 1, (Register("power_kw", 0, "int32", unit="W"),), source="tests")


class Desk:
    """A site service without stations on a store file, cycled by hand."""

    def __init__(self, path: Path, clock: HandClock, start_kw: float = 150.0) -> None:
        self.clock, self.power_kw = clock, start_kw
        self.store = SqliteStore.open(path, clock.wall())
        here = world(1, arrivals=[])
        board = EvidenceBoard(here.table)
        csms = Csms(here.table, provisions(here.table, ("2.1",)), board, self.store, clock, ids("c"), lease_s=5.0)
        meter = MemoryMeter(lambda: {"power_kw": self.power_kw}, POWER_ONLY, clock)
        self.service = SiteService(settings(here), board, csms, meter, self.store, clock, period=period)

    async def cycles(self, count: int) -> "Desk":
        for _ in range(count):
            self.clock.now_s += CYCLE_S
            self.power_kw += 0.001
            await self.service.cycle()
        return self

    async def close(self) -> None:
        await self.service.close()
        await self.store.close()


def test_limit_running_interval_and_estop_survive_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, clock = tmp_path / "site.db", HandClock()
        desk = await Desk(path, clock).cycles(600)
        await desk.service.set_limit(180.0, 30.0, "operator")
        await desk.service.estop("operator")
        await desk.cycles(1)
        assert desk.service.settings.peak.limit_kw == 180.0
        energy_kws = desk.service.state.demand.energy_kws
        assert energy_kws == pytest.approx(300.5 * 150.3, rel=1e-2)
        await desk.close()

        clock.now_s += 2.0
        back = Desk(path, clock)
        assert back.service.settings.peak.limit_kw == 180.0
        assert back.service.settings.peak.buffer_kw == 30.0
        assert back.service.state.guard.estop
        assert back.service.state.demand.energy_kws == pytest.approx(energy_kws)
        await back.cycles(10)
        assert back.service.decision is not None
        assert back.service.decision.state == "estop"
        assert back.service.state.demand.energy_kws == pytest.approx(energy_kws + 7.0 * 150.3, rel=1e-2)
        await back.service.clear_estop("operator")
        await back.close()

        third = Desk(path, clock)
        assert not third.service.state.guard.estop
        await third.close()

    asyncio.run(scenario())


def test_a_new_limit_holds_from_the_next_cycle() -> None:
    async def scenario() -> None:
        wire = await shaving()
        await wire.site.set_limit(350.0, 20.0, "operator")
        await wire.after(CYCLE_S)
        assert wire.decision.allow_kw > 300.0
        assert (wire.decision.setpoint_kw >= 0.0).all()
        await wire.after(CYCLE_S)
        assert giving_kw(wire) == 0.0
        with pytest.raises(ValueError, match="limit_kw"):
            await wire.site.set_limit(float("nan"), 20.0, "operator")
        await wire.stop()

    on_wire(scenario)


def test_the_emergency_stop_ends_everything_in_the_next_cycle() -> None:
    async def scenario() -> None:
        wire = await shaving()
        await wire.site.estop("operator")
        await wire.after(CYCLE_S)
        assert (wire.decision.setpoint_kw == 0.0).all()
        await wire.after(CYCLE_S)
        assert (wire.power_kw == 0.0).all()
        wire.site.state = structs.replace(wire.site.state, guard=guard.fresh(6))
        await wire.until_giving(12.0, within_s=60.0)
        await wire.stop()

    on_wire(scenario)
