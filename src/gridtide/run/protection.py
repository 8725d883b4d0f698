"""What the grid, wired protections and the building tell a site: voltage and frequency, a relay that tripped, load to be shed.

Every source of a load shedding is told by name. What is wired is only seen here: a relay's trip is latched like an emergency
stop, and nothing in this program closes what it opened.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
import structlog
from msgspec import Struct, structs

from gridtide.control import grid_protection
from gridtide.control import site as control
from gridtide.model.decision import GridSample
from gridtide.run.clock import Clock
from gridtide.run.store import Store, StoreError
from gridtide.wire.modbus.reading import MeterReading
from gridtide.wire.modbus.registers import RegisterMap

log = structlog.get_logger(__name__)
PHASES = ("voltage_l1_v", "voltage_l2_v", "voltage_l3_v")
SINGLE = ("voltage_v", "voltage_ln_v")
BETWEEN_PHASES = "voltage_ll_v"
RELAY, SHED_COIL, SHED_KW = "relay_trip", "load_shed", "load_shed_kw"
"""Names in the register map: a wired protection has tripped; load is to be shed; import limit, kW."""
TRIP, SHED = "grid_trip", "load_shed"
"""Settings in the store: both outlive a restart."""
LONGEST_MIN = 10_080.0
NoteEvent = Callable[[str, str, str], None]


class Kept(Struct, frozen=True):
    """A load shedding that a person or a building management system asked for, as stored."""

    limit_kw: float
    actor: str
    until_s: float | None = None
    """UTC epoch s; None: until it is ended."""


def measured(device: RegisterMap) -> tuple[bool, bool]:
    """Whether a meter with this map tells frequency, and voltage."""
    names = {register.name for register in device.registers}
    return "frequency_hz" in names, not names.isdisjoint((*PHASES, *SINGLE, BETWEEN_PHASES))


def grid_sample(reading: MeterReading) -> GridSample:
    """Voltage, frequency, reactive power and air temperature of one read; nan where the meter gave no usable number."""
    values = reading.values
    return GridSample(
        reading.monotonic_s,
        _number(values, "frequency_hz"),
        _voltages_v(values),
        _number(values, "reactive_kvar"),
        _number(values, "ambient_c"),
    )


def _voltages_v(values: Mapping[str, float | None]) -> tuple[float, ...]:
    """Phase to neutral; a phase that the map has and the meter does not tell is nan."""
    for names in (PHASES, SINGLE):
        found = tuple(_number(values, name) for name in names if name in values)
        if found:
            return found
    return (_number(values, BETWEEN_PHASES) / math.sqrt(3.0),) if BETWEEN_PHASES in values else ()


def _number(values: Mapping[str, float | None], name: str) -> float:
    value = values.get(name)
    return math.nan if value is None else value


class ProtectionDesk:
    """A site's inputs for protection, and what of them outlives a restart."""

    def __init__(self, settings: control.Settings, store: Store, clock: Clock, note: NoteEvent) -> None:
        self._settings, self._store, self._clock, self._note = settings, store, clock, note
        self._tasks: set[asyncio.Task[None]] = set()
        self._trip_owed: bool | None = None
        self.relay = False
        """A wired protection says that it has tripped."""
        self._register_kw: float | None = None
        self._coil = False
        self._asked: Kept | None = None
        self._asked_until_s = math.inf
        self._restore()

    # --- after a start ----------------------------------------------------------------------------------------------
    def _restore(self) -> None:
        raw = self._store.settings().get(SHED)
        if raw is None:
            return
        try:
            kept = msgspec.json.decode(raw, type=Kept | None)
        except (msgspec.DecodeError, ValueError):
            kept = Kept(0.0, "a record that cannot be read")
        if kept is None:
            return
        left_s = math.inf if kept.until_s is None else kept.until_s - self._clock.wall()
        if left_s > 0.0:
            self._asked, self._asked_until_s = kept, self._clock.monotonic() + left_s
            self._note("load_shed", kept.actor, f"Import at most {kept.limit_kw:g} kW, as before the restart.")

    def restored(self, state: control.State) -> control.State:
        """The state with the trip that held before the restart: the wait for a good grid begins anew."""
        if self._store.settings().get(TRIP) != b"true":
            return state
        tripped = grid_protection.fresh(tripped="tripped before the restart")
        return structs.replace(state, protection=structs.replace(state.protection, grid=tripped))

    # --- inputs -----------------------------------------------------------------------------------------------------
    def take(self, reading: MeterReading) -> None:
        """Relay and load-shedding inputs of one read."""
        relay = bool(reading.flag(RELAY))
        if relay and not self.relay:
            self._note("relay_trip", RELAY, "")
        self.relay = relay
        coil, register_kw = bool(reading.flag(SHED_COIL)), reading.values.get(SHED_KW)
        self._tell_input(SHED_COIL, self._coil, coil, self._settings.limits.shed_kw)
        self._tell_input(SHED_KW, self._register_kw is not None, register_kw is not None, register_kw or 0.0)
        self._coil, self._register_kw = coil, register_kw

    def _tell_input(self, name: str, was: bool, now: bool, limit_kw: float) -> None:
        if now and not was:
            self._note("load_shed", f"input {name}", f"Import at most {limit_kw:g} kW.")
        elif was and not now:
            self._note("load_shed_ended", f"input {name}", "")

    def shed_kw(self, now_s: float) -> float | None:
        """Lowest import limit that any source asks for at monotonic `now_s`; None when none does."""
        if self._asked is not None and not now_s < self._asked_until_s:
            self._note("load_shed_ended", self._asked.actor, "Its time is over.")
            self._asked = None
        found = [] if self._register_kw is None else [self._register_kw]
        found += [self._settings.limits.shed_kw] if self._coil else []
        found += [self._asked.limit_kw] if self._asked is not None else []
        return min(found) if found else None

    async def shed(self, limit_kw: float, minutes: float | None, actor: str) -> None:
        """Import at most `limit_kw` from the next cycle on, whatever anybody wishes; None: until it is ended. Raises ValueError."""
        if not (math.isfinite(limit_kw) and 0.0 <= limit_kw <= 100_000.0):
            raise ValueError(f"limit_kw is {limit_kw}: give a power between 0 and 100000 kW")
        if minutes is not None and not 0.0 < minutes <= LONGEST_MIN:
            raise ValueError(f"minutes is {minutes}: give more than 0 and at most {LONGEST_MIN:g}, or leave it out")
        until_s = None if minutes is None else self._clock.wall() + 60.0 * minutes
        kept = Kept(limit_kw, actor, until_s)
        # In force before it is stored: a failing store only delays the record.
        self._asked = kept
        self._asked_until_s = math.inf if minutes is None else self._clock.monotonic() + 60.0 * minutes
        self._note(
            "load_shed", actor, f"Import at most {limit_kw:g} kW" + (f" for {minutes:g} min." if minutes else ".")
        )
        await self._store.put_setting(SHED, msgspec.json.encode(kept), actor, self._clock.wall())

    async def end_shed(self, actor: str) -> bool:
        """End what `shed` began; inputs hold on. False when there is none."""
        if self._asked is None:
            return False
        await self._store.put_setting(SHED, b"null", actor, self._clock.wall())
        self._asked = None
        self._note("load_shed_ended", actor, "")
        return True

    # --- what outlives a restart ------------------------------------------------------------------------------------
    def look(self, events: tuple[str, ...]) -> None:
        """After a cycle: keep a trip, or its end, in the store; tried again with every cycle until the store takes it."""
        if "grid_trip" in events:
            self._trip_owed = True
        elif "grid_returned" in events:
            self._trip_owed = False
        if self._trip_owed is not None and not self._tasks:
            task = asyncio.ensure_future(self._pay(self._trip_owed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pay(self, tripped: bool) -> None:
        try:
            await self._store.put_setting(TRIP, b"true" if tripped else b"false", "grid protection", self._clock.wall())
        except StoreError:
            self._note("store_failed", "site", "A grid trip could not be stored yet; it holds and is tried again.")
            return
        if self._trip_owed is tripped:
            self._trip_owed = None


Look = Callable[[], Coroutine[Any, Any, None]]


async def look_forever(look: Look, clock: Clock, period_s: float, offset_s: float) -> None:
    """Call `look` on the clock's grid for ever; what takes too long is not caught up."""
    start_s, k = clock.monotonic() + offset_s, 0
    while True:
        k = max(k + 1, math.ceil((clock.monotonic() - start_s) / period_s))
        await clock.sleep_until(start_s + k * period_s)
        await look()
