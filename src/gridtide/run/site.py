"""The site loop: every 500 ms one meter sample becomes a decision, and the decision becomes leases at the stations.

Six hops, two awaits: read, decode, snapshot, decide, encode, send. The loop owns the controller's state, keeps what must survive a
restart in the store, and is the only caller of `control.site.step` on a running site.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec
import numpy as np
import structlog
from msgspec import structs

from gridtide.control import demand_clock, needs, shadow, trust
from gridtide.control import site as control
from gridtide.control.dispatch import Override
from gridtide.control.links import Bound, least_kw
from gridtide.control.meter import acknowledge_sign
from gridtide.control.shadow import Carried, ShadowState
from gridtide.model.decision import Decision, MeterSample, Quality, Snapshot
from gridtide.model.events import BY_CODE
from gridtide.model.fleet import Floats
from gridtide.run import memory
from gridtide.run.clock import Clock, ScaledClock
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.service import Csms
from gridtide.run.history import History
from gridtide.run.latches import Latches
from gridtide.run.memory import Limit
from gridtide.run.operator_limit import OperatorDesk
from gridtide.run.protection import RELAY, ProtectionDesk, grid_sample, look_forever
from gridtide.run.security_pace import SecurityPace
from gridtide.run.simloop import Trace
from gridtide.run.speed import SpeedKeeper
from gridtide.run.stay_memory import StayMemory
from gridtide.run.store import Store, StoredEvent, StoreRangeError
from gridtide.run.unstored import Unstored
from gridtide.run.watch import FleetWatch
from gridtide.wire.modbus.reading import MeterReadError, MeterReading

log = structlog.get_logger(__name__)
LATENCY_BUDGET_S = 0.2
LEVEL = frozenset({"max_capacity_reached", "latency_over_budget", "discharge_denied", "store_failed", "grid_alarm"})
"""Events that may hold cycle after cycle: each is told at most once a minute and source."""
LEVEL_EVERY_S = 60.0
WATCH_S = 0.1
"""Real seconds between two looks at the grid: a trip is seen within two of them."""

Watcher = Callable[[control.State, control.Settings, Snapshot, Decision, control.State], None]
"""Given state before, settings, snapshot, decision and state after."""


class Meter(Protocol):
    """The site meter."""

    async def read(self) -> MeterReading | MeterReadError:
        """One whole read, or why there is none."""


class SiteService:
    """One running site."""

    def __init__(
        self,
        settings: control.Settings,
        board: EvidenceBoard,
        csms: Csms,
        meter: Meter,
        store: Store,
        clock: Clock,
        *,
        period: Callable[[float], tuple[float, float]],
        state: control.State | None = None,
        carried: Carried | None = None,
        shadow_state: ShadowState | None = None,
        history: History | None = None,
        trace: Trace | None = None,
        tick_offset_s: float = 0.0,
    ) -> None:
        self.settings, self.board, self.csms, self.clock, self.store = settings, board, csms, clock, store
        self._meter, self._period, self._trace, self._offset_s = meter, period, trace, tick_offset_s
        self.state = state or control.fresh(settings)
        self.shadow = shadow_state or shadow.fresh(settings.table.size)
        self.carried = carried or Carried()
        self.history = history or History(settings.table.size)
        self.decision: Decision | None = None
        self.snapshot: Snapshot | None = None
        self.cycles = self.late_cycles = 0
        self.latencies_s: deque[float] = deque(maxlen=1_000)
        self._reads: deque[bool] = deque(maxlen=60)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._estop_input = False
        self._has_ended = False
        self._watch = FleetWatch(settings.table, settings.guard.silent_s)
        self._connected = np.zeros(settings.table.size, dtype=np.bool_)
        self._latches = Latches(store, clock, self.note)
        self._stays = StayMemory(settings.table.ids, store, clock, csms.transactions, csms.spoken)
        self._speed = SpeedKeeper(clock, self.note)
        self._presses = 0
        self._noted: dict[tuple[str, str], float] = {}
        self._security = SecurityPace()
        self.unstored = Unstored(store)
        self.stalled: Callable[[], str | None] = lambda: None
        """Asked before every decision: words on a stall of the loop that has just ended, once; the watchdog's."""
        self.applied: Callable[[], None] = lambda: None
        """Told after every decision that was sent; the watchdog's."""
        self.watchers: list[Watcher] = []
        """Told of every cycle once its setpoints are on their way; one that fails is told no more."""
        self.listeners: list[Callable[[StoredEvent], None]] = []
        """Told of every event."""
        self.closers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """Awaited before the store is flushed for the last time."""
        csms.tell(self.note)
        self._restore()
        self.operator = OperatorDesk(settings.operator, store, clock, self.note)
        self.protection = ProtectionDesk(settings, store, clock, self.note)
        self.state = self.protection.restored(self.state)

    @property
    def is_quiet(self) -> bool:
        """Nobody is asked to give power now."""
        return self.decision is None or not bool((self.decision.setpoint_kw < 0.0).any())

    # --- life -------------------------------------------------------------------------------------------------------
    def _restore(self) -> None:
        """Settings, latches and the running interval from the store."""
        damaged = getattr(self.store, "moved_to", None) is not None
        found = memory.restore(
            self.store, self.settings, self.state, self.carried, self.shadow, damaged, self.clock.monotonic()
        )
        self.settings, self.state, self.carried, self.shadow = (
            found.settings,
            found.state,
            found.carried,
            found.shadow_state,
        )
        self.note("restart", "site", " ".join(filter(None, (*found.notes, self._stays.restore()))))
        if damaged:
            # It must outlive the next restart too, when the store is sound again.
            self._latches.owe("estop", "damaged store")
        if found.state.guard.estop:
            self.note("estop", "site", "Still latched from before the restart.")

    async def run(self) -> None:
        """Cycle for ever on the clock's grid. A failure of ours stops every setpoint, then ends the loop."""
        cycle_s = self.settings.cycle_s
        start_s, k = self.clock.monotonic(), 0
        try:
            while True:
                k += 1
                await self.clock.sleep_until(start_s + k * cycle_s + self._offset_s)
                began_s = self.clock.monotonic()
                await self.cycle()
                used_s = self.clock.monotonic() - began_s
                self._speed.used(used_s / cycle_s)
                behind = int((self.clock.monotonic() - start_s - self._offset_s) / cycle_s)
                if behind > k:
                    self.late_cycles += behind - k
                    k = behind
        except Exception:
            log.exception("site_loop_failed")
            self.stop_all()
            raise
        finally:
            self._has_ended = True

    async def watch_grid(self) -> None:
        """Between two cycles, look at the grid; what cannot wait for the next cycle runs one at once. Never ends by itself."""
        period_s = WATCH_S * max(1.0, self._speed.wanted)
        await look_forever(self._look_at_grid, self.clock, period_s, self._offset_s)

    async def _look_at_grid(self) -> None:
        reading = await self._meter.read()
        if isinstance(reading, MeterReadError) or self._has_ended or self.decision is None:
            return
        mono_s = self.clock.monotonic()
        snapshot = Snapshot(
            mono_s=mono_s, now_s=self.clock.wall(), meter=_meter_sample(reading), fleet=self.board.sample(mono_s),
            estop=_is_stopped(reading), grid=grid_sample(reading),
        )  # fmt: skip
        self.state, must_act = control.watch(self.state, snapshot, self.settings)
        if must_act:
            self._decide(reading)

    def stop_all(self) -> None:
        """Every setpoint goes to zero now; when its lease ends, each station goes on at its own fallback limit."""
        if self.decision is not None:
            self._send(self.decision.setpoint_kw * 0.0)

    def lessen(self, share: float) -> bool:
        """Every discharge of the last decision goes down to `share` of it, 0..1, charging stays; False where none is going on."""
        if self.decision is None or not bool((self.decision.setpoint_kw < 0.0).any()):
            return False
        power, table = self.decision.setpoint_kw, self.settings.table
        less = np.trunc(power * min(max(share, 0.0), 1.0) * 1000.0) / 1000.0
        less = np.where(table.step_kw > 0.0, np.trunc(less / np.maximum(table.step_kw, 1e-9)) * table.step_kw, less)
        less = np.where(np.abs(less) >= table.least_kw, less, 0.0)
        self._send(np.where(power < 0.0, less, power))
        return True

    def _send(self, setpoint_kw: Floats) -> None:
        """Setpoints that no cycle decided, each nearer to zero than the last decision's."""
        if self.decision is None:
            return
        try:
            self.csms.apply(structs.replace(self.decision, setpoint_kw=setpoint_kw))
        except Exception:
            # The leases end every discharge all the same; whoever stops must not be stopped by this.
            log.exception("stop_not_sent")

    # --- one cycle --------------------------------------------------------------------------------------------------
    async def cycle(self) -> None:
        """Read, decide, send, record."""
        reading = await self._meter.read()
        self._decide(reading)

    def _decide(self, reading: MeterReading | MeterReadError) -> None:
        if (stall := self.stalled()) is not None:
            self._begin_again(stall)
            return
        sample = self._sample(reading)
        mono_s, now_s = self.clock.monotonic(), self.clock.wall()
        held = self.operator.look(mono_s)
        snapshot = Snapshot(
            mono_s=mono_s, now_s=now_s, meter=sample, fleet=self.board.sample(mono_s),
            period_start_s=self._period(now_s)[0], estop=self._estop_input,
            meter_error_rate=self._reads.count(False) / max(len(self._reads), 20),
            load_shed_kw=least_kw(self.protection.shed_kw(mono_s), held.import_kw),
            grid=None if isinstance(reading, MeterReadError) else grid_sample(reading),
        )  # fmt: skip
        trusted = self._stays.resume(self.state.trust, snapshot.fleet)
        before = self.state if trusted is self.state.trust else structs.replace(self.state, trust=trusted)
        settings = self._settings_under(held)
        self.state, decision = control.step(before, snapshot, settings)
        self.snapshot, self.decision = snapshot, decision
        self.csms.apply(decision)
        self.applied()
        self.cycles += 1
        self._judge_latency(sample)
        self._record(before, snapshot, decision)
        self._tell_watchers(before, settings, snapshot, decision)

    def _tell_watchers(
        self, before: control.State, settings: control.Settings, snapshot: Snapshot, decision: Decision
    ) -> None:
        """Records are no reason to stop: a watcher that fails is told of in the log and left out from then on."""
        for watcher in tuple(self.watchers):
            try:
                watcher(before, settings, snapshot, decision, self.state)
            except Exception:
                log.exception("watcher_failed", watcher=repr(watcher))
                self.watchers.remove(watcher)

    def _begin_again(self, stall: str) -> None:
        """The loop stood still: the first thing that leaves is zero, and the next cycle decides from there."""
        self.stop_all()
        guarded = self.state.guard
        stopped = np.zeros_like(guarded.setpoint_kw)
        moved_s = np.full_like(guarded.moved_s, self.clock.monotonic())
        self.state = structs.replace(self.state, guard=structs.replace(guarded, setpoint_kw=stopped, moved_s=moved_s))
        self.note("loop_stalled", "site", stall)

    def _settings_under(self, held: Bound) -> control.Settings:
        """The settings, with less export where the operator asks for that."""
        export_kw = self.settings.limits.export_kw
        if held.export_kw is None or held.export_kw >= export_kw:
            return self.settings
        return structs.replace(self.settings, limits=structs.replace(self.settings.limits, export_kw=held.export_kw))

    def _sample(self, reading: MeterReading | MeterReadError) -> MeterSample | None:
        if isinstance(reading, MeterReadError):
            self._reads.append(False)
            return None
        self._reads.append(True)
        self._estop_input = _is_stopped(reading)
        self.protection.take(reading)
        return _meter_sample(reading)

    def _judge_latency(self, sample: MeterSample | None) -> None:
        if sample is None:
            return
        late_s = self.clock.monotonic() - sample.at_s
        if isinstance(self.clock, ScaledClock):
            late_s /= self.clock.speed
        self.latencies_s.append(late_s)
        if late_s > LATENCY_BUDGET_S:
            self.note("latency_over_budget", "site", f"{late_s * 1000:.0f} ms from sample to setpoint.")

    def _telemetry(self, now_s: float, rows: dict[str, float]) -> None:
        """Records are no reason to stop: a clock that is off by decades is told, and control goes on."""
        try:
            self.store.put_telemetry(now_s, rows)
        except StoreRangeError as error:
            self.note("store_failed", "site", str(error))

    def _end_overrides(self, snapshot: Snapshot) -> None:
        """An override is for the vehicle it was given to: it ends when that one leaves, or with its time."""
        gone = self._connected & ~snapshot.fleet.connected
        kept = tuple(o for o in self.settings.overrides if snapshot.mono_s < o.until_s and not gone[o.row])
        self._connected = snapshot.fleet.connected
        if len(kept) != len(self.settings.overrides):
            self.settings = structs.replace(self.settings, overrides=kept)

    def _record(self, before: control.State, snapshot: Snapshot, decision: Decision) -> None:
        """Clocks of comparison, history, state, events, trace."""
        good = self.state.meter.at_s > before.meter.at_s
        power = self.state.meter.recent_kw[-1] if good else None
        if power is not None:
            self._compare(before, snapshot, power)
        why = "" if power is not None else "meter silent"
        self.history.add(snapshot.now_s, power, decision.uncontrolled_kw if power is not None else None, why)
        self.history.vehicles(snapshot.now_s, snapshot.fleet)
        self.history.close(decision.closed, self.settings.interval.length_s)
        memory.save(self.store, self.carried, self.shadow, self.settings, self.state, snapshot.now_s)
        self._stays.keep(self.state.trust)
        for code in decision.events:
            self.note(code, "site", self._detail(code, decision))
        for code, row, text in self._watch.look(snapshot, before.guard.setpoint_kw):
            self.note(code, self.settings.table.ids[row], text)
        for found in self.state.notes:
            bay = self.settings.table.ids[found.row]
            self.note(found.code, bay, found.text)
            if found.code == "contactor_welded":
                self._latches.owe(memory.welded_key(bay), "meter")
        if "estop" in decision.events and self._estop_input:
            self._latches.owe("estop", "estop input")
        self.protection.look(decision.events)
        if "meter_sign" in decision.events:
            self._latches.owe("meter_sign", "meter")
        self._end_overrides(snapshot)
        if self.cycles % 4 == 0 and self._latches.is_due:
            self._spawn(self._latches.pay())
        if self.cycles % 20 == 0 and power is not None:
            self._telemetry(snapshot.now_s, {"site_kw": power, "building_kw": decision.uncontrolled_kw})
        if self._trace is not None:
            self._trace.record(snapshot.mono_s, "site", "decision", decision.setpoint_kw.tobytes())

    def _compare(self, before: control.State, snapshot: Snapshot, power_kw: float) -> None:
        """What the building alone, and the same vehicles charged at once, would have drawn."""
        settings = self.settings
        dt_s = snapshot.mono_s - before.at_s
        dt_s = dt_s if 0.0 < dt_s < 60.0 else settings.cycle_s
        need = needs.assess(settings.table, snapshot.fleet, settings.need, dt_s)
        self.shadow, self.carried = shadow.compare(
            self.shadow, self.carried, self.state.demand, power_kw, snapshot.fleet, need, settings.table,
            settings.interval, snapshot.period_start_s, dt_s,
        )  # fmt: skip

    def _detail(self, code: str, decision: Decision) -> str:
        if code == "shaving_started":
            return f"{decision.discharge_wanted_kw:.0f} kW are wanted of the vehicles."
        if code in ("failed_shave", "new_peak"):
            return f"The period's peak is now {self.state.demand.peak_kw:.0f} kW."
        if code in ("grid_trip", "grid_alarm"):
            reason = self.state.protection.permit.reason
            return f"{reason[:1].upper()}{reason[1:]}."
        return ""

    # --- what people do ---------------------------------------------------------------------------------------------
    async def set_limit(self, limit_kw: float, buffer_kw: float, actor: str) -> None:
        """New limit and buffer, kW: stored and audited first, in force from the next cycle. Raises ValueError."""
        if not (math.isfinite(limit_kw) and 0.0 < limit_kw <= 100_000.0):
            raise ValueError(f"limit_kw is {limit_kw}: give a power between 0 and 100000 kW")
        if not (math.isfinite(buffer_kw) and 0.0 <= buffer_kw < limit_kw):
            raise ValueError(f"buffer_kw is {buffer_kw}: give a power from 0 up to the limit ({limit_kw} kW)")
        old, limit = self.settings.peak, Limit(limit_kw, buffer_kw)
        await self.store.put_setting("peak", msgspec.json.encode(limit), actor, self.clock.wall())
        self.settings = memory.with_limit(self.settings, limit)
        text = f"From {old.limit_kw:g} to {limit_kw:g} kW, buffer {buffer_kw:g} kW."
        billed_kw = demand_clock.floor_kw(self.state.demand, self.settings.peak.ratchet)
        if billed_kw > limit_kw:
            text += f" {billed_kw:.0f} kW are billed this period anyway, so that is what is held until it ends."
        self.note("limit_changed", actor, text)

    async def estop(self, actor: str) -> None:
        """Press the emergency stop: zero in the next cycle, latched beyond restarts; a failing store only delays the record."""
        self._presses += 1
        self.state = structs.replace(self.state, guard=structs.replace(self.state.guard, estop=True))
        self.note("estop", actor, f"Pressed by {actor}.")
        self._latches.owe("estop", actor)
        await self._latches.pay()

    async def clear_estop(self, actor: str) -> None:
        """Clear the emergency stop; raises ValueError while its input is active or when it was pressed meanwhile."""
        if self._estop_input:
            raise ValueError(
                "the emergency stop input is still active: release the button, or reset the wired protection, first"
            )
        presses = self._presses
        await self.store.put_setting("estop", b"false", actor, self.clock.wall())
        if self._presses != presses or self._estop_input:
            self._latches.owe("estop", actor)
            raise ValueError("the emergency stop was pressed again meanwhile: it stays latched")
        self._latches.lift("estop")
        self.state = control.clear_estop(self.state)
        self.note("estop_cleared", actor, f"Cleared by {actor}.")

    async def mark_seen(self, event_id: int, actor: str) -> bool:
        """Acknowledge an event; the meter's sign fault is latched until its event is. False when there is none."""
        found = next((e for e in self.store.events(200) if e.id == event_id), None)
        if found is not None and found.code == "meter_sign":
            await self.store.put_setting("meter_sign", b"false", actor, self.clock.wall())
            self.state = structs.replace(self.state, meter=acknowledge_sign(self.state.meter))
        if found is not None and found.code == "contactor_welded":
            await self.clear_weld(found.source, actor)
        if found is not None and found.code == "security":
            self._security.seen(found.source)
        return await self.store.mark_event_seen(event_id, actor, self.clock.wall())

    async def clear_weld(self, bay: str, actor: str) -> None:
        """A person had the contactor of `bay` replaced; ValueError while power still flows through it."""
        row = self.settings.table.ids.index(bay)
        contactors = self.state.trust.open
        if math.isfinite(contactors.first_s[row]):
            raise ValueError(f"power still flows at {bay} although its contactor should be open: switch it off first")
        await self.store.put_setting(memory.welded_key(bay), b"false", actor, self.clock.wall())
        self._latches.lift(memory.welded_key(bay))
        welded = contactors.welded & (np.arange(contactors.welded.size) != row)
        self.state = structs.replace(self.state, trust=trust.with_welds(self.state.trust, welded))

    async def override(self, row: int, mode: str, power_kw: float, minutes: float, actor: str) -> None:
        """Set one vehicle by hand for some minutes; `auto` ends it. Raises ValueError on a bad wish."""
        if mode not in ("auto", "charge", "hold", "power"):
            raise ValueError(f"mode is {mode!r}: give auto, charge, hold or power")
        if not (math.isfinite(power_kw) and math.isfinite(minutes) and 0.0 < minutes <= 1440.0):
            raise ValueError("power_kw must be a number and minutes between 0 and 1440")
        ends_s = self.clock.monotonic() + minutes * 60.0
        mine = () if mode == "auto" else (Override(row, mode, power_kw, ends_s),)
        bay = self.settings.table.ids[row]
        detail = msgspec.json.encode({"evse": bay, "mode": mode, "power_kw": power_kw, "minutes": minutes})
        await self.store.append_audit(self.clock.wall(), actor, "override", detail)
        others = tuple(o for o in self.settings.overrides if o.row != row)
        self.settings = structs.replace(self.settings, overrides=(*others, *mine))
        self.note("override", actor, f"{bay}: {mode}" + (f" {power_kw:g} kW" if mode == "power" else ""))

    def note(self, code: str, source: str, text: str) -> None:
        """Store an event of the catalogue without making the loop wait."""
        kind, now_s = BY_CODE[code], self.clock.monotonic()
        if code in LEVEL and now_s - self._noted.get((code, source), -math.inf) < LEVEL_EVERY_S:
            return
        if code in LEVEL:
            self._noted[code, source] = now_s
        if code == "security":
            told = self._security.words(source, text, now_s)
            if told is None:
                return
            text = told
        words = " ".join(part for part in (text, "" if kind.severity == "info" else kind.cure) if part)
        event = StoredEvent(
            at_s=self.clock.wall(),
            code=code,
            title=kind.title,
            text=words or kind.cause,
            severity=kind.severity,
            source=source,
        )
        self._spawn(self.unstored.put(event))
        for listener in self.listeners:
            listener(event)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("event_not_stored", error=str(task.exception()))

    async def close(self) -> None:
        """Stop discharge, let events reach the store."""
        self.stop_all()
        await asyncio.gather(*(close() for close in self.closers), return_exceptions=True)
        await asyncio.gather(*tuple(self._tasks), return_exceptions=True)
        await self.store.flush()


def _is_stopped(reading: MeterReading) -> bool:
    """Whether the emergency stop is pressed or a wired protection has tripped: both latch until a person clears them."""
    return bool(reading.flag("estop")) or bool(reading.flag(RELAY))


def _meter_sample(reading: MeterReading) -> MeterSample:
    if reading.power_kw is None:
        return MeterSample(reading.monotonic_s, math.nan, Quality.INVALID)
    return MeterSample(reading.monotonic_s, reading.power_kw, Quality.GOOD, reading.values.get("import_kwh"))
