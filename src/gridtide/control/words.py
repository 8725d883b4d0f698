"""A decision in the manager's words: per vehicle one sentence, and the whole story for the opened row."""

import math
from collections.abc import Callable

from msgspec import Struct

from gridtide.control import demand_clock, peak
from gridtide.control.site import Settings, State, rule_of
from gridtide.model.decision import Decision, Reason, Snapshot
from gridtide.model.view import VehicleState

NBSP = "\u00a0"


class Said(Struct, frozen=True):
    """One row in words."""

    state: VehicleState
    reason: str
    detail: str


class _Row(Struct, frozen=True):
    """The numbers behind one row's sentence."""

    setpoint_kw: float
    power_kw: float
    soc: float
    need_soc: float
    missing_kwh: float
    spare_s: float
    left_s: float
    age_s: float
    temperature_c: float
    least_kw: float
    hold_s: float
    turned_s_ago: float
    room_kwh: float
    ready_at: str
    leaves_at: str
    floor_soc: float
    window_low_soc: float
    has_need: bool


def explain(
    row: int, snapshot: Snapshot, decision: Decision, state: State, settings: Settings, clock: Callable[[float], str]
) -> Said:
    """Why row `row` does what it does; `clock` renders UTC epoch seconds as the site's local time."""
    numbers = _numbers(row, snapshot, decision, state, settings, clock)
    reason = Reason(int(decision.reason[row]))
    sentence = _SENTENCES[reason](numbers)
    return Said(_state(reason, numbers), sentence, f"{sentence} {_detail(numbers, decision, settings)}".strip())


def _numbers(
    row: int, snapshot: Snapshot, decision: Decision, state: State, settings: Settings, clock: Callable[[float], str]
) -> _Row:
    fleet, table = snapshot.fleet, settings.table
    soc, need = float(fleet.soc[row]), float(fleet.need_soc[row])
    capacity = float(fleet.capacity_kwh[row])
    missing = max(0.0, (need - soc) * capacity / float(table.efficiency[row]))
    missing = missing if math.isfinite(missing) else max(0.0, float(fleet.need_kwh[row]))
    missing = missing if math.isfinite(missing) else 0.0
    hours = missing / max(float(table.charge_kw[row]), 1e-6)
    left = float(fleet.left_s[row])
    demand = state.demand
    limit_kw = peak.held_kw(rule_of(settings, snapshot.mono_s, demand), demand)
    used_kws = demand_clock.window_energy_kws(demand, settings.interval)
    budget = (limit_kw * settings.interval.length_s - used_kws) / 3600.0
    return _Row(
        setpoint_kw=float(decision.setpoint_kw[row]), power_kw=float(fleet.power_kw[row]), soc=soc, need_soc=need,
        missing_kwh=missing, spare_s=left - hours * 3600.0, left_s=left, age_s=float(fleet.age_s[row]),
        temperature_c=float(fleet.temperature_c[row]), least_kw=float(table.least_kw[row]),
        hold_s=float(table.hold_s[row]), turned_s_ago=snapshot.mono_s - float(state.guard.turned_s[row]),
        room_kwh=budget, ready_at=clock(snapshot.now_s + hours * 3600.0),
        leaves_at=clock(snapshot.now_s + left) if math.isfinite(left) else "",
        floor_soc=settings.need.floor_soc, window_low_soc=settings.need.window_low_soc,
        has_need=math.isfinite(need) or math.isfinite(float(fleet.need_kwh[row])),
    )  # fmt: skip


def _state(reason: Reason, row: _Row) -> VehicleState:
    if reason is Reason.NO_VEHICLE:
        return "empty"
    if reason is Reason.SILENT:
        return "silent"
    power = row.power_kw if math.isfinite(row.power_kw) else row.setpoint_kw
    if abs(power) > 0.1:
        return "charging" if power > 0.0 else "giving"
    return "waiting" if row.missing_kwh > 0.05 else "resting"


def _kw(value: float) -> str:
    return f"{abs(value):.{1 if abs(value) < 100 else 0}f}{NBSP}kW"


def _kwh(value: float) -> str:
    return f"{value:.1f}{NBSP}kWh"


def _pct(value: float) -> str:
    return f"{round(value * 100)}{NBSP}%" if math.isfinite(value) else "unknown"


def _need(row: _Row) -> str:
    return f"it still needs {_kwh(row.missing_kwh)}"


def _leaves(row: _Row) -> str:
    return f"leaves {row.leaves_at}, " if row.leaves_at else ""


def _ready(row: _Row) -> str:
    if math.isfinite(row.need_soc):
        return f"Ready: has the {_pct(row.need_soc)} its driver asked for."
    return "Ready: has the energy its driver asked for." if row.has_need else "Full."


_SENTENCES: dict[Reason, Callable[[_Row], str]] = {
    Reason.RESTING: lambda r: "Ready; nothing is asked of it." if r.has_need else "Connected; no need told.",
    Reason.REACHED: _ready,
    Reason.DRIVER_FIRST: lambda r: f"Charging first: {_leaves(r)}{_need(r)}.",
    Reason.CHARGING: lambda r: f"Charging while there is room: {_need(r)}.",
    Reason.SHAVING: lambda r: f"Gives to hold the limit; {_spare(r)}.",
    Reason.WAITS_FOR_ROOM: lambda r: f"Waits for a quieter building: {_leaves(r)}{_need(r)}.",
    Reason.WAITS_TURN: lambda r: f"Waits its turn: {_need(r)}; room is shared in turns.",
    Reason.PLANNED: lambda r: "Gives as planned." if r.setpoint_kw < 0.0 else "Charges as planned.",
    Reason.WAITS_FOR_HOUR: lambda r: f"Waits for its planned hour: {_leaves(r)}{_need(r)}.",
    Reason.MANUAL: lambda _: "Set by hand; it ends by itself.",
    Reason.NO_VEHICLE: lambda _: "No vehicle.",
    Reason.SILENT: lambda r: f"No word for {_age(r.age_s)}. Its power is reserved in case it charges.",
    Reason.FAULT: lambda _: "Its station reports a fault; see the events.",
    Reason.ESTOP: lambda _: "Stopped: the emergency stop is pressed.",
    Reason.METER: lambda _: "Held: the site meter cannot be trusted now.",
    Reason.SOC_UNKNOWN: lambda _: "Level unknown, so it never gives.",
    Reason.CHARGE_ONLY: lambda _: "Its car or station can only charge, not give.",
    Reason.FLOOR: lambda r: f"At {_pct(r.soc)}: never used below {_pct(r.floor_soc)}.",
    Reason.WINDOW: lambda r: f"At {_pct(r.soc)}: gives only above {_pct(r.window_low_soc)}.",
    Reason.NEAR_FLOOR: lambda r: f"Slowing down: close to the {_pct(r.window_low_soc)} it may be used to.",
    Reason.DEPARTURE: lambda r: f"Kept for its driver: {_leaves(r)}{_need(r)}.",
    Reason.EXPORT_MARGIN: lambda _: "Gives less than it could: nothing may flow back to the grid.",
    Reason.TRANSFORMER: lambda _: "Held: the connection is full.",
    Reason.LOAD_SHED: lambda _: "Held: the building or the grid operator asked for less.",
    Reason.GRID: lambda _: (
        "Held by grid protection: voltage or frequency is not as it must be, or was not a moment ago."
    ),
    Reason.GROUP: lambda _: "Held: its circuit is full.",
    Reason.PHASE: lambda _: "Held: its phase is full.",
    Reason.RATING: lambda r: f"At the most it can {'take' if r.setpoint_kw >= 0 else 'give'}: {_kw(r.setpoint_kw)}.",
    Reason.WARM: lambda r: f"Less than it could: its charger is warm, {r.temperature_c:.0f}{NBSP}°C.",
    Reason.HOLD: lambda r: f"Rests before changing direction, {max(0.0, r.hold_s - r.turned_s_ago):.0f}{NBSP}s more.",
    Reason.RAMP: lambda _: "On its way: power rises step by step.",
    Reason.LEAST_CURRENT: lambda r: f"Waits: too little room for the least it can take, {_kw(r.least_kw)}.",
    Reason.NOT_FINITE: lambda _: "Held: the wish for it was not a number; please report this.",
    Reason.REVERSE_POWER: lambda _: "Stopped giving: power flowed back to the grid.",
}


def _spare(row: _Row) -> str:
    if not row.has_need:
        return "no departure is waiting"
    if row.missing_kwh > 0.05:
        return f"ready again by {row.leaves_at}" if row.leaves_at else "it charges again afterwards"
    return "it has more than it needs" + (f" at {row.leaves_at}" if row.leaves_at else "")


def _age(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "ever so long"
    return f"{seconds:.0f}{NBSP}s" if seconds < 120 else f"{seconds / 60:.0f}{NBSP}min"


def _detail(row: _Row, decision: Decision, settings: Settings) -> str:
    """Inputs, the constraint and the budget, in whole sentences."""
    parts = []
    if math.isfinite(row.soc):
        parts.append(
            f"At {_pct(row.soc)} now" + (f", {_pct(row.need_soc)} asked for." if math.isfinite(row.need_soc) else ".")
        )
    if row.missing_kwh > 0.05 and row.leaves_at:
        parts.append(f"At full power it would be ready by {row.ready_at}; it leaves {row.leaves_at}.")
    if decision.state == "ok" and settings.peak.mode == "budget":
        word = "has" if row.room_kwh >= 0 else "is over by"
        tail = "left" if row.room_kwh >= 0 else ""
        parts.append(f"The interval's energy budget {word} {_kwh(abs(row.room_kwh))} {tail}".strip() + ".")
    return " ".join(parts)
