"""Each invariant can fail: defects planted in the real code (or, for what is the plant's own, in the plant), each reported as the
invariant that it breaks."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from msgspec import Struct, structs

from gridtide.control import dispatch, guard, meter, needs
from gridtide.control import site as control
from gridtide.model.decision import MeterSample
from gridtide.run import watch
from gridtide.run.csms import setpoints
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.intake import Intake
from gridtide.run.csms.preparation import Preparation
from gridtide.run.csms.service import Csms
from gridtide.run.csms.setpoints import SetpointSender
from gridtide.run.csms.transactions import Transactions
from gridtide.run.emulator.power_stage import PowerStage
from gridtide.run.emulator.site import EmulatedSite
from gridtide.run.emulator.v2x import V2x
from gridtide.run.site import SiteService
from gridtide.run.store import MemoryStore, sql
from gridtide.run.store.rows import FIRST_HASH
from gridtide.run.verify.case import Case
from gridtide.run.verify.faults import read
from gridtide.run.verify.rig import Rig
from gridtide.twin import plant as twin
from gridtide.wire.ocpp.dialects import Setpoint
from tests.day.verify_kit import chatty, giving_case, show, stay

Patch = pytest.MonkeyPatch
L2_S = 92.0
"""Service is judged from 90 s on."""


class Defect(Struct, frozen=True, eq=False, kw_only=True):
    """One planted defect."""

    name: str
    breaks: str
    plant: Callable[[Patch], None]
    case: Callable[[], Case] = giving_case
    faults: str = ""
    duration_s: float = 20.0
    act: Callable[[Rig], None] = lambda _rig: None


# --- sites ------------------------------------------------------------------------------------------------------------
def little_room() -> Case:
    """The limit asks for more than the building leaves above the import margin."""
    return giving_case(6, limit_kw=15.0, building_kw=40.0)


def full_connection() -> Case:
    """Vehicles that must charge under a building that fills the connection."""
    return giving_case(6, limit_kw=1000.0, building_kw=390.0, stays=[_empty(row) for row in range(6)])


def _empty(row: int) -> Any:
    return stay(row, soc=0.3, target=0.9, leaves_s=3600.0)


def almost_at_the_floor() -> Case:
    """A charge just above the floor of 20 %."""
    return giving_case(2, stays=[stay(row, soc=0.2003, target=0.1) for row in range(2)])


def leaves_soon() -> Case:
    """Drivers who need three hours of charging and leave in one and a half."""
    return giving_case(2, stays=[stay(row, soc=0.5, target=0.9, leaves_s=5400.0) for row in range(2)])


def up_and_down() -> Case:
    """A building that is above the limit for 15 s and far below it for 15 s, and vehicles that want energy in the evening."""

    def building_kw(at_s: float) -> float:
        return (200.0 if at_s % 30.0 < 15.0 else 40.0) + math.sin(at_s)

    return giving_case(2, building_kw=building_kw, stays=[stay(row, soc=0.6, target=0.8) for row in range(2)])


def one_way() -> Case:
    """One of two vehicles cannot give."""
    return giving_case(2, stays=[stay(0), stay(1, may=False)])


def wants_energy() -> Case:
    """Room under the limit, and vehicles that charge."""
    return giving_case(2, limit_kw=1000.0, building_kw=60.0, stays=[stay(row, soc=0.6, target=0.8) for row in range(2)])


# --- I1: export -------------------------------------------------------------------------------------------------------
def no_export_bound(patch: Patch) -> None:
    patch.setattr(guard, "_export_bound", lambda *_: None)


def other_rows_do_not_count(patch: Patch) -> None:
    bound = guard._export_bound

    def apart(cut: Any, verdict: Any, limits: Any, unsure: Any, known: Any, order: Any) -> None:
        bound(cut, verdict, limits, unsure, 2.0 * known, order)

    patch.setattr(guard, "_export_bound", apart)


def margin_forgotten(patch: Patch) -> None:
    bound = guard._export_bound

    def without(cut: Any, verdict: Any, limits: Any, unsure: Any, known: Any, order: Any) -> None:
        bound(cut, verdict, structs.replace(limits, import_margin_kw=0.0), unsure, known, order)

    patch.setattr(guard, "_export_bound", without)


def meter_in_other_units(patch: Patch) -> None:
    sample = SiteService._sample

    def scaled(self: SiteService, reading: Any) -> MeterSample | None:
        found = sample(self, reading)
        return None if found is None else structs.replace(found, power_kw=3.0 * found.power_kw)

    patch.setattr(SiteService, "_sample", scaled)


# --- I2: import -------------------------------------------------------------------------------------------------------
def no_import_bound(patch: Patch) -> None:
    patch.setattr(guard, "_import_bounds", lambda *_: False)


def building_forgotten(patch: Patch) -> None:
    bound = guard._import_bounds

    def blind(cut: Any, snapshot: Any, verdict: Any, *rest: Any) -> bool:
        return bound(cut, snapshot, structs.replace(verdict, power_kw=0.0), *rest)

    patch.setattr(guard, "_import_bounds", blind)


def nothing_has_to_fit(patch: Patch) -> None:
    fit = guard._fit
    patch.setattr(guard, "_fit", lambda power, share, cap_kw, order: fit(power, share, max(cap_kw, 70.0), order))


def charging_on_the_whole_connection_for_a_minute(patch: Patch) -> None:
    """5 % too much: allowed for 60 s and no longer."""
    bound = guard._import_bounds

    def generous(cut: Any, snapshot: Any, verdict: Any, table: Any, limits: Any, *rest: Any) -> bool:
        more = structs.replace(limits, transformer_kw=1.05 * limits.transformer_kw)
        return bound(cut, snapshot, verdict, table, more, *rest)

    patch.setattr(guard, "_import_bounds", generous)


# --- I3: floor and drivers --------------------------------------------------------------------------------------------
def floor_at_zero(patch: Patch) -> None:
    def none(table: Any, fleet: Any, _settings: Any) -> tuple[Any, Any]:
        return np.zeros(table.size), np.zeros(table.size)

    patch.setattr(guard, "lowest_soc", none)
    patch.setattr(needs, "lowest_soc", none)


def charge_read_too_high(patch: Patch) -> None:
    read_values = Transactions.read

    def higher(self: Transactions, row: int, values: Any, heard_s: float) -> bool:
        found = read_values(self, row, values, heard_s)
        board = self._desk.board
        if values and board.soc[row] < 0.5:
            board.soc[row] += 0.4
        return found

    patch.setattr(Transactions, "read", higher)


def needs_ignored(patch: Patch) -> None:
    assess = needs.assess

    def nobody(table: Any, fleet: Any, settings: Any, cycle_s: float) -> needs.Needs:
        found = assess(table, fleet, settings, cycle_s)
        no = np.zeros(table.size, dtype=np.bool_)
        return structs.replace(
            found, missing_kwh=0.0 * found.missing_kwh, spare_s=found.spare_s + np.inf, wants=no, must=no
        )

    patch.setattr(needs, "assess", nobody)
    patch.setattr(guard, "_ready_after_giving", lambda fleet, *_: np.ones_like(fleet.connected))


def departures_in_another_zone(patch: Patch) -> None:
    sample = EvidenceBoard.sample

    def later(self: EvidenceBoard, now_s: float) -> Any:
        found = sample(self, now_s)
        return structs.replace(found, left_s=found.left_s + 6 * 3600.0)

    patch.setattr(EvidenceBoard, "sample", later)


# --- I4: authority ----------------------------------------------------------------------------------------------------
def lease_without_end(patch: Patch) -> None:
    real = Setpoint
    patch.setattr(setpoints, "Setpoint", lambda **fields: real(**{**fields, "lease_s": 1_000_000}))


def sign_swapped(patch: Patch) -> None:
    real = Setpoint
    patch.setattr(setpoints, "Setpoint", lambda **fields: real(**{**fields, "power_kw": -fields["power_kw"]}))


def rows_mixed_up(patch: Patch) -> None:
    """Each station gets its neighbour's setpoint."""
    apply = SetpointSender.apply

    def shifted(self: SetpointSender, decision: Any, stations: Any) -> None:
        apply(self, structs.replace(decision, setpoint_kw=np.roll(decision.setpoint_kw, 1)), stations)

    patch.setattr(SetpointSender, "apply", shifted)


def everybody_may_give(patch: Patch) -> None:
    """Neither the management system nor the station asks whether the vehicle can."""

    def judge(self: Intake, station: Any, row: int) -> None:
        self.desk.board.may_discharge[row] = True

    patch.setattr(Intake, "judge", judge)
    patch.setattr(V2x, "may_discharge", property(lambda _self: True))


# --- I5: ramp ---------------------------------------------------------------------------------------------------------
def no_ramp(patch: Patch) -> None:
    patch.setattr(guard, "_hold_and_ramp", lambda *_: None)


def ramp_by_the_minute(patch: Patch) -> None:
    ramp = guard._hold_and_ramp

    def quick(cut: Any, now_s: float, table: Any, state: Any, cycle_s: float) -> None:
        ramp(cut, now_s, table, state, 60.0 * cycle_s)

    patch.setattr(guard, "_hold_and_ramp", quick)


def ramp_from_what_was_wished(patch: Patch) -> None:
    ramp = guard._hold_and_ramp

    def from_afar(cut: Any, now_s: float, table: Any, state: Any, cycle_s: float) -> None:
        ramp(cut, now_s, table, structs.replace(state, setpoint_kw=cut.power_kw), cycle_s)

    patch.setattr(guard, "_hold_and_ramp", from_afar)


def _sent(patch: Patch, change: Callable[[Any], Any]) -> None:
    apply = SetpointSender.apply

    def other(self: SetpointSender, decision: Any, stations: Any) -> None:
        apply(self, structs.replace(decision, setpoint_kw=change(decision)), stations)

    patch.setattr(SetpointSender, "apply", other)


def wish_is_sent(patch: Patch) -> None:
    """The guard decides, and what was wished goes out."""
    _sent(patch, lambda decision: decision.wish_kw)


# --- I6: hold ---------------------------------------------------------------------------------------------------------
def no_hold(patch: Patch) -> None:
    ramp = guard._hold_and_ramp

    def at_once(cut: Any, now_s: float, table: Any, state: Any, cycle_s: float) -> None:
        ramp(cut, now_s, structs.replace(table, hold_s=0.0 * table.hold_s), state, cycle_s)

    patch.setattr(guard, "_hold_and_ramp", at_once)


def hold_in_minutes(patch: Patch) -> None:
    ramp = guard._hold_and_ramp

    def short(cut: Any, now_s: float, table: Any, state: Any, cycle_s: float) -> None:
        ramp(cut, now_s, structs.replace(table, hold_s=table.hold_s / 60.0), state, cycle_s)

    patch.setattr(guard, "_hold_and_ramp", short)


def turn_forgotten(patch: Patch) -> None:
    remember: Any = guard._remember

    def forgetful(*given: Any) -> Any:
        after = remember(*given)
        return structs.replace(after, turned_s=after.turned_s - np.inf)

    patch.setattr(guard, "_remember", forgetful)


def no_hold_before_charging(patch: Patch) -> None:
    ramp = guard._hold_and_ramp

    def back_at_once(cut: Any, now_s: float, table: Any, state: Any, cycle_s: float) -> None:
        ramp(cut, now_s, structs.replace(table, hold_s=np.where(cut.power_kw > 0.0, 0.0, table.hold_s)), state, cycle_s)

    patch.setattr(guard, "_hold_and_ramp", back_at_once)


# --- I7, I8: age and time to safe -------------------------------------------------------------------------------------
def patient_meter(patch: Patch) -> None:
    watch_meter: Any = meter.watch

    def patient(*given: Any) -> Any:
        return watch_meter(*given[:-2], structs.replace(given[-2], stale_s=30.0, error_rate=1.0), given[-1])

    patch.setattr(meter, "watch", patient)


def stale_is_no_trouble(patch: Patch) -> None:
    trouble: Any = meter._trouble

    def calm(*given: Any) -> str:
        found = trouble(*given)
        return "" if found in ("meter_stale", "meter_errors") else found

    patch.setattr(meter, "_trouble", calm)


def age_against_the_sample_itself(patch: Patch) -> None:
    trouble: Any = meter._trouble

    def timeless(state: Any, _now_s: float, *rest: Any) -> Any:
        return trouble(state, state.at_s, *rest[:2], 0.0, *rest[3:])

    patch.setattr(meter, "_trouble", timeless)


def last_sample_again(patch: Patch) -> None:
    """A cache in front of the meter that stamps the last value anew."""
    sample = SiteService._sample

    def cached(self: SiteService, reading: Any) -> MeterSample | None:
        found = sample(self, reading)
        kept = self.__dict__.setdefault("kept_sample", found)
        if found is not None:
            self.__dict__["kept_sample"] = found
            return found
        self._reads[-1] = True
        return None if kept is None else structs.replace(kept, at_s=self.clock.monotonic())

    patch.setattr(SiteService, "_sample", cached)


def estop_unheard(patch: Patch) -> None:
    clamp: Any = guard.clamp

    def deaf(*given: Any) -> Any:
        parts = list(given)
        parts[8] = structs.replace(parts[8], estop=False)
        return clamp(*parts)

    patch.setattr(guard, "clamp", deaf)


def stop_sends_nothing(patch: Patch) -> None:
    patch.setattr(SiteService, "stop_all", lambda _self: None)


def tamper_unheeded(patch: Patch) -> None:
    patch.setattr(PowerStage, "tamper", lambda _self: None)


# --- I11: energy (the plant's own books) ------------------------------------------------------------------------------
def _books(patch: Patch, change: Callable[[twin.Ledger, twin.Ledger], twin.Ledger]) -> None:
    span = twin._span

    def wrong(here: Any, before: Any, until_s: float) -> Any:
        after, moved = span(here, before, until_s)
        return structs.replace(after, ledger=change(before.ledger, after.ledger)), moved

    patch.setattr(twin, "_span", wrong)


def given_energy_not_metered(patch: Patch) -> None:
    _books(patch, lambda old, new: structs.replace(new, import_kwh=new.import_kwh + new.ac_out_kwh - old.ac_out_kwh))


def meter_reads_too_much(patch: Patch) -> None:
    _books(
        patch,
        lambda old, new: structs.replace(new, import_kwh=old.import_kwh + 1.02 * (new.import_kwh - old.import_kwh)),
    )


def losses_unaccounted(patch: Patch) -> None:
    def lose(here: Any, state: Any, batteries: Any, *rest: Any) -> Any:
        done = step(here, state, batteries, *rest)
        return structs.replace(done, energy_kwh=done.energy_kwh * (1.0 - 1e-6))

    from gridtide.twin import evse

    step = evse.step
    patch.setattr(evse, "step", lose)


def register_runs_back(patch: Patch) -> None:
    real = EmulatedSite.meter

    def back(self: EmulatedSite) -> Any:
        told = real(self)
        return {**told, "import_kwh": 5.0 - told["import_kwh"]}

    patch.setattr(EmulatedSite, "meter", back)


def station_counts_both_ways_as_charged(patch: Patch) -> None:
    count = EmulatedSite._count

    def all_in(self: EmulatedSite) -> None:
        count(self)
        self._in_kwh, self._out_kwh = self._in_kwh + self._out_kwh, 0.0 * self._out_kwh

    patch.setattr(EmulatedSite, "_count", all_in)


# --- I9, I10: the books --------------------------------------------------------------------------------------------------
def _adds(patch: Patch, change: Callable[[Any, Any, Callable[[Any], bool]], bool]) -> None:
    """The store keeps a transaction event as `change` does it, given the connection, the event, and what would be right."""
    commit: Any = MemoryStore._commit

    def wrong(self: MemoryStore, write: Any) -> Any:
        event = getattr(write, "event", None)
        if event is None:
            return commit(self, write)
        return commit(self, lambda connection: change(connection, event, lambda one: type(write)(one)(connection)))

    patch.setattr(MemoryStore, "_commit", wrong)


def repetition_gets_a_number_of_its_own(patch: Patch) -> None:
    def both(_connection: Any, event: Any, add: Callable[[Any], bool]) -> bool:
        return add(event) or add(structs.replace(event, seq_no=event.seq_no + 10_000))

    _adds(patch, both)


def repetition_counts(patch: Patch) -> None:
    def count(connection: Any, event: Any, add: Callable[[Any], bool]) -> bool:
        is_new = add(event)
        if not is_new:
            counted = "UPDATE transaction_heads SET events = events + 1 WHERE transaction_id = ?"
            connection.execute(counted, (event.transaction_id,))
        return is_new

    _adds(patch, count)


def number_of_the_transaction_cut_short(patch: Patch) -> None:
    _adds(patch, lambda _, event, add: add(structs.replace(event, transaction_id=event.transaction_id[:4])))


def said_to_be_kept(patch: Patch) -> None:
    _adds(patch, lambda _, event, add: event.seq_no == 9 or add(event))


def newest_event_only(patch: Patch) -> None:
    def forget(connection: Any, event: Any, add: Callable[[Any], bool]) -> bool:
        older = "DELETE FROM transactions WHERE transaction_id = ? AND seq_no < ?"
        is_new = add(event)
        connection.execute(older, (event.transaction_id, event.seq_no))
        return is_new

    _adds(patch, forget)


def answered_all_the_same(patch: Patch) -> None:
    """What the store refuses is answered as if it were kept."""
    patch.setattr(Transactions, "_not_stored", lambda *_: None)


def restart_begins_anew(patch: Patch) -> None:
    def nothing(self: MemoryStore) -> Any:
        for table in ("transactions", "transaction_heads"):
            self._connection.execute(f"DELETE FROM {table}")
        return ()

    patch.setattr(MemoryStore, "open_transactions", nothing)


# --- I20: reasons and the audit chain -------------------------------------------------------------------------------------
def _reasons(patch: Patch, change: Callable[[Any], Any]) -> None:
    clamp: Any = guard.clamp

    def wrong(*given: Any) -> Any:
        after, setpoint, reason, codes = clamp(*given)
        return after, setpoint, change(reason), codes

    patch.setattr(guard, "clamp", wrong)


def no_reason(patch: Patch) -> None:
    _reasons(patch, np.zeros_like)


def reason_of_nobodys_list(patch: Patch) -> None:
    _reasons(patch, lambda reason: reason + np.uint8(100))


def cut_without_a_reason(patch: Patch) -> None:
    bind = guard._Cut.bind

    def quiet(self: Any, power_kw: Any, reason: Any) -> None:
        before = self.reason.copy()
        bind(self, power_kw, reason)
        self.reason[:] = before

    patch.setattr(guard._Cut, "bind", quiet)


def audit_entry_rewritten(patch: Patch) -> None:
    clear = SiteService.clear_estop

    async def cover(self: Any, actor: str) -> None:
        await clear(self, actor)
        self.store._connection.execute("UPDATE audit SET actor = 'nobody' WHERE id = 1")

    patch.setattr(SiteService, "clear_estop", cover)


def audit_without_a_chain(patch: Patch) -> None:
    """Each entry forgets the one before it."""
    append: Any = sql.append_audit

    def alone(connection: Any, *given: Any) -> int:
        number = append(connection, *given)
        connection.execute("UPDATE audit SET prev_hash = ? WHERE id = ?", (FIRST_HASH, number))
        return int(number)

    patch.setattr(sql, "append_audit", alone)


# --- I18: finite ------------------------------------------------------------------------------------------------------
def _setpoints(patch: Patch, change: Callable[[Any], Any]) -> None:
    clamp: Any = guard.clamp

    def wrong(*given: Any) -> Any:
        after, setpoint, *rest = clamp(*given)
        return (after, change(setpoint), *rest)

    patch.setattr(guard, "clamp", wrong)


def not_a_number(patch: Patch) -> None:
    _setpoints(patch, lambda setpoint: np.where(setpoint < -5.0, np.nan, setpoint))


def infinite(patch: Patch) -> None:
    _setpoints(patch, lambda setpoint: np.where(setpoint < -5.0, -np.inf, setpoint))


def divided_by_nothing(patch: Patch) -> None:
    _setpoints(patch, lambda setpoint: setpoint / (setpoint + 11.0) * (setpoint + 11.0))


# --- L1: service comes back -------------------------------------------------------------------------------------------
def never_prepared_again(patch: Patch) -> None:
    prepare = Preparation.prepare

    def first_only(self: Preparation, station: Any) -> None:
        if station.generation == 1:
            prepare(self, station)

    patch.setattr(Preparation, "prepare", first_only)


def meter_lost_for_good(patch: Patch) -> None:
    watch_meter: Any = meter.watch

    def bitter(state: Any, *rest: Any) -> Any:
        after, verdict = watch_meter(state, *rest)
        gone = after.lost and not math.isinf(after.at_s) and len(after.loads_kw) == 3
        return (structs.replace(after, good=-(10**6)) if gone else after), verdict

    patch.setattr(meter, "watch", bitter)


def estop_for_ever(patch: Patch) -> None:
    patch.setattr(control, "clear_estop", lambda state: state)


def old_connection_stays(patch: Patch) -> None:
    """A connection that has ended is not forgotten: the station is a double of itself for ever."""
    patch.setattr(Csms, "_drop", lambda _self, _station: None)


# --- L2: nothing stops without a fault --------------------------------------------------------------------------------
def impatient_meter(patch: Patch) -> None:
    watch_meter: Any = meter.watch

    def impatient(*given: Any) -> Any:
        return watch_meter(*given[:-2], structs.replace(given[-2], stale_s=-0.1), given[-1])

    patch.setattr(meter, "watch", impatient)


def one_bad_read_in_ten_thousand(patch: Patch) -> None:
    watch_meter: Any = meter.watch

    def strict(*given: Any) -> Any:
        return watch_meter(*given[:-2], structs.replace(given[-2], error_rate=-1.0), given[-1])

    patch.setattr(meter, "watch", strict)


def consent_lasts_a_minute(patch: Patch) -> None:
    judge = Intake.judge

    def strict(self: Intake, station: Any, row: int) -> None:
        judge(self, station, row)
        if self.desk.clock.monotonic() % 3600.0 > 60.0:
            self.desk.board.may_discharge[row] = False

    patch.setattr(Intake, "judge", strict)


def profile_underneath_forgotten(patch: Patch) -> None:
    tick = Csms._look_after

    def forget(self: Csms, station: Any) -> None:
        tick(self, station)
        if self._clock.monotonic() % 3600.0 > 60.0:
            self._unprepare(station)

    patch.setattr(Csms, "_look_after", forget)


def nobody_ever_gives(patch: Patch) -> None:
    def none(wanted_kw: float, _turns: Any, _needs: Any, table: Any, _available: Any) -> tuple[Any, float]:
        return np.zeros(table.size), wanted_kw

    patch.setattr(dispatch, "_give", none)


def half_is_sent(patch: Patch) -> None:
    _sent(patch, lambda decision: 0.5 * decision.setpoint_kw)


# --- crash ------------------------------------------------------------------------------------------------------------
def decision_raises(patch: Patch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("planted")

    patch.setattr(dispatch, "wishes", broken)


def bad_sample_raises(patch: Patch) -> None:
    sample = SiteService._sample

    def picky(self: SiteService, reading: Any) -> MeterSample | None:
        found = sample(self, reading)
        if found is None:
            raise ValueError("planted: no sample")
        return found

    patch.setattr(SiteService, "_sample", picky)


def watcher_ends(patch: Patch) -> None:
    async def once(self: Csms, period_s: float = 0.25) -> None:
        await self._clock.sleep(period_s)

    patch.setattr(Csms, "tick_forever", once)


def old_tampering_raises(patch: Patch) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("planted")

    patch.setattr(watch.FleetWatch, "look", broken)


def connection_fails_behind_everybody(patch: Patch) -> None:
    """What serves a connection ends by an error of ours that nobody waits for."""

    def broken(self: Csms, station: Any) -> None:
        drop(self, station)
        raise RuntimeError("planted")

    drop = Csms._drop
    patch.setattr(Csms, "_drop", broken)


def _planted(breaks: str, *plants: Callable[[Patch], None], **options: Any) -> list[Defect]:
    return [Defect(name=plant.__name__, breaks=breaks, plant=plant, **options) for plant in plants]


def talks(rig: Rig) -> None:
    """Stations that have much to tell, until they have time to tell it again."""
    chatty(rig, until_s=30.0)


UNANSWERED = "FT09@14+8:0"
"""What is sent at its onset arrives, and the answer does not."""
SILENT, CUT, SLOW = "FT01a@12+6", "FT08a@12+12:1", "FT01a@12+4"
DEFECTS: Sequence[Defect] = (
    *_planted("I1", no_export_bound, other_rows_do_not_count, margin_forgotten, meter_in_other_units, case=little_room),
    *_planted("I2", no_import_bound, building_forgotten, nothing_has_to_fit, case=full_connection),
    *_planted("I2", charging_on_the_whole_connection_for_a_minute, case=full_connection, duration_s=75.0),
    *_planted("I3", floor_at_zero, charge_read_too_high, case=almost_at_the_floor, duration_s=40.0),
    *_planted("I3", needs_ignored, departures_in_another_zone, case=leaves_soon),
    *_planted("I4", lease_without_end, faults=CUT, duration_s=25.0),
    *_planted("I4", sign_swapped, case=wants_energy),
    *_planted("I4", rows_mixed_up, case=lambda: giving_case(3, limit_kw=195.0)),
    *_planted("I4", everybody_may_give, case=one_way),
    *_planted("I5", no_ramp, ramp_by_the_minute, ramp_from_what_was_wished, wish_is_sent),
    *_planted("I6", no_hold, hold_in_minutes, turn_forgotten, no_hold_before_charging, case=up_and_down, duration_s=50.0),
    *_planted("I7", patient_meter, stale_is_no_trouble, age_against_the_sample_itself, last_sample_again, faults=SILENT),
    *_planted("I8", patient_meter, stale_is_no_trouble, last_sample_again, faults=SILENT),
    *_planted("I8", lease_without_end, faults=CUT, duration_s=25.0),
    *_planted("I8", estop_unheard, faults="FT29a@12+6"),
    *_planted("I8", stop_sends_nothing, faults="FT33b@12+8"),
    *_planted("I8", tamper_unheeded, faults="FT29b@12+6:0"),
    *_planted("I9", repetition_gets_a_number_of_its_own, repetition_counts, faults=UNANSWERED, duration_s=60.0, act=talks),
    *_planted("I9", number_of_the_transaction_cut_short),
    *_planted("I10", said_to_be_kept, newest_event_only, act=chatty),
    *_planted("I10", answered_all_the_same, faults="FT15@12+6", act=chatty),
    *_planted("I10", restart_begins_anew, faults="FT33a@12+3"),
    *_planted("I11", given_energy_not_metered, meter_reads_too_much, losses_unaccounted, register_runs_back,
              station_counts_both_ways_as_charged),
    *_planted("I18", not_a_number, infinite, divided_by_nothing),
    *_planted("L1", never_prepared_again, old_connection_stays, faults=CUT, duration_s=95.0),
    *_planted("I20", no_reason, reason_of_nobodys_list, cut_without_a_reason),
    *_planted("I20", audit_entry_rewritten, audit_without_a_chain, faults="FT29a@12+4"),
    *_planted("L1", meter_lost_for_good, faults=SLOW, duration_s=L2_S),
    *_planted("L1", estop_for_ever, faults="FT29a@12+4", duration_s=L2_S),
    *_planted("L2", impatient_meter, one_bad_read_in_ten_thousand, consent_lasts_a_minute,
              profile_underneath_forgotten, duration_s=L2_S),
    *_planted("L2", nobody_ever_gives, half_is_sent, duration_s=95.0),
    *_planted("crash", decision_raises, watcher_ends, old_tampering_raises, duration_s=5.0),
    *_planted("crash", bad_sample_raises, faults="FT02@3+2", duration_s=6.0),
    *_planted("crash", connection_fails_behind_everybody, faults=CUT, duration_s=25.0),
)  # fmt: skip


def test_each_invariant_has_three_planted_defects() -> None:
    checked = ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I18", "I20", "L1", "L2", "crash")
    assert {name: sum(item.breaks == name for item in DEFECTS) >= 3 for name in checked} == dict.fromkeys(checked, True)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda item: f"{item.breaks}-{item.name}")
def test_a_planted_defect_is_reported(defect: Defect, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = read(defect.faults)
    defect.plant(monkeypatch)
    run = show(defect.case(), planned, defect.duration_s, act=defect.act)
    assert defect.breaks in run.broken, run.invariants.violations


def _sound() -> list[Any]:
    """Every combination of site, faults and duration that is used above, once."""
    seen: dict[Any, Defect] = {}
    for defect in DEFECTS:
        made = defect.case() if defect.case.__name__ == "<lambda>" else None
        name = defect.case.__name__ if made is None else f"limit {made.settings.peak.limit_kw:g}"
        key = name, defect.faults, defect.act.__name__.strip("<>")
        longer = seen.get(key)
        if longer is None or longer.duration_s < defect.duration_s:
            seen[key] = defect
    return [pytest.param(defect, id="-".join(key)) for key, defect in seen.items()]


@pytest.mark.parametrize("defect", _sound())
def test_without_the_defect_nothing_is_reported(defect: Defect) -> None:
    """What is reported above is the defect, not the site or the fault."""
    run = show(defect.case(), read(defect.faults), defect.duration_s, act=defect.act)
    assert run.invariants.violations == []
