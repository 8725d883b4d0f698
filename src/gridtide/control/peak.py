"""The peak controller: how much the fleet must give, or may take, so that no billed interval ends above its limit.

`budget` (default) spends the energy the interval still has instead of reacting to instantaneous power. For every billed window
that contains now, with r seconds left, E(t) used, M the load's running mean and F the fleet's power, it keeps

    debt    = E(t) + expected(r) - L T                     what the window ends above its budget if the fleet stops now
    reserve = max(0, A min(r, tau) - F r)                  what a late burst of height A could take and the fleet not repay
    debt + reserve <= 0

and repays at once what exceeds it, instead of spreading it over r: the energy is the same, but early payment leaves the fleet's
whole power for the next burst. It does nothing while every window can absorb the load, pays back what a burst borrowed even
after the burst is over, and lets vehicles charge only with what debt and reserve leave. A and its spread are learned from this
very load. Sub-intervals yet to come (rolling tariffs) are expected to be held at the limit, with the rest of the fleet's power
as their help against bursts.

`threshold` discharges whatever exceeds limit - buffer; it is the simple mode of the specification.
"""

import math
from typing import Literal

from msgspec import Struct, structs

from gridtide.control.demand_clock import DemandState, floor_kw, windows
from gridtide.model.demand import DemandInterval


class PeakSettings(Struct, frozen=True, kw_only=True):
    """Run-time settings of the peak controller."""

    mode: Literal["budget", "threshold", "off"] = "budget"
    limit_kw: float = 500.0
    buffer_kw: float = 50.0
    """Discharge may begin only above limit - buffer."""
    margin: float = 0.004
    """Share of the interval's energy kept unused to its very end (command delay, meter error)."""
    early_margin: float = 0.005
    """Further share kept at the (sub-)interval's start and released in proportion to the time left: room for a second burst."""
    ratchet: float = 0.0
    """Share of earlier period peaks that is billed anyway."""
    lifted: bool = True
    """What is billed anyway lifts the limit. False where the limit already counts it, as a plan's for the hours of its register."""
    mean_s: float = 300.0
    """Time constant of the load's running mean."""
    calm_share: float = 0.03
    """Deviations beyond this share of the mean (or 2.5 sigma) are bursts: they move the mean only as far as this."""
    sigmas: float = 0.25
    """Standard deviations of the running mean added to the projection."""
    noise_s: float = 90.0
    """Correlation time of the load's deviations from its mean, for their sum over the time left."""
    burst_s: float = 30.0
    """How long a running burst is expected to go on."""
    reserve_s: float = 150.0
    """The tau of the reserve: how long a late burst may last at most."""
    burst_sigmas: float = 1.0
    """The reserve covers the learned mean burst height plus this many standard deviations."""
    charge_sigmas: float = 3.0
    """The same for the reserve that charging must leave: energy taken late is the dearest."""
    pay_s: float = 10.0
    """Debt is paid back within this time (or one cycle), as far as the fleet's power goes."""
    scarce_h: float = 0.5
    """With less than this many hours of full discharge left, reserves shrink in proportion: energy is worth more than insurance."""
    burst_weight: float = 0.15
    """Weight of the newest burst in the learned height."""
    start_share: float = 0.0025
    """Discharge starts only when debt and reserve exceed the budget by this share of it."""


class PeakState(Struct, frozen=True):
    """What the rule remembers of the load."""

    mean_kw: float = math.nan
    variance: float = 0.0
    height_kw: float = 0.0
    """Running mean of the bursts' heights above the mean; 0 before the first."""
    height_var: float = 0.0
    rising_kw: float = 0.0
    """Highest excess of the burst that is running; 0 in calm."""
    active: bool = False
    away_s: float = 0.0
    """How long the load has been beyond the calm band, on one side: + above, - below."""


class LoadNow(Struct, frozen=True):
    """The uncontrolled load of this cycle, kW."""

    low_kw: float
    """What more discharge may be based on: a single spike does not count."""
    high_kw: float
    """What more charging must be based on."""
    fixed_kw: float = 0.0
    """Charging that goes before the peak target (drivers who must leave, manual wishes)."""


class FleetRoom(Struct, frozen=True):
    """What the fleet could give from now on."""

    power_kw: float
    energy_kwh: float


class PeakPlan(Struct, frozen=True):
    """What the peak target asks of the fleet this cycle, kW; both are >= 0."""

    discharge_kw: float
    charge_room_kw: float
    """Most the vehicles may charge with."""
    limit_kw: float
    """The limit in force: target, or the peak that is billed anyway."""
    allow_kw: float


def step(
    state: PeakState,
    demand: DemandState,
    interval: DemandInterval,
    load: LoadNow,
    fleet: FleetRoom,
    dt_s: float,
    settings: PeakSettings,
) -> tuple[PeakState, PeakPlan]:
    """One cycle: `load` is the uncontrolled load, `fleet` what could be given now, `dt_s` the time since the last cycle."""
    state = _learn(state, load.low_kw, dt_s, settings)
    limit_kw = held_kw(settings, demand)
    if settings.mode == "off":
        return state, PeakPlan(0.0, math.inf, limit_kw, math.inf)
    if settings.mode == "threshold":
        return _threshold(state, load, limit_kw, settings)
    return _budget(state, demand, interval, load, fleet, dt_s, limit_kw, settings)


def held_kw(settings: PeakSettings, demand: DemandState) -> float:
    """The limit in force: the target, or the peak that is billed anyway where that lifts it."""
    return max(settings.limit_kw, floor_kw(demand, settings.ratchet)) if settings.lifted else settings.limit_kw


def _learn(state: PeakState, load_kw: float, dt_s: float, settings: PeakSettings) -> PeakState:
    """Running mean, variance and burst height of the load; a burst moves the mean only by its share of the time constant.

    What lasts twice as long as a burst may last is the load's new level.
    """
    if math.isnan(state.mean_kw):
        return PeakState(mean_kw=load_kw)
    share = 1.0 - math.exp(-dt_s / settings.mean_s)
    above = load_kw - state.mean_kw
    calm_kw = max(2.5 * math.sqrt(state.variance), settings.calm_share * state.mean_kw)
    away_s = _away_s(state.away_s, above, calm_kw, dt_s)
    if abs(away_s) > 2.0 * settings.reserve_s:
        return structs.replace(state, mean_kw=load_kw, rising_kw=0.0, away_s=0.0)
    step_kw = min(max(above, -calm_kw), calm_kw)
    mean = state.mean_kw + share * step_kw
    variance = (1.0 - share) * (state.variance + share * step_kw * step_kw)
    height, height_var, rising = state.height_kw, state.height_var, state.rising_kw
    if above > calm_kw:
        rising = max(rising, above)
    elif rising > 0.0 and above < 0.5 * calm_kw:
        first = height == 0.0
        weight = 1.0 if first else settings.burst_weight
        off = rising - height
        height += weight * off
        height_var = (0.3 * rising) ** 2 if first else (1.0 - weight) * (height_var + weight * off * off)
        rising = 0.0
    return PeakState(mean, variance, height, height_var, rising, state.active, away_s)


def _away_s(before_s: float, above_kw: float, calm_kw: float, dt_s: float) -> float:
    """Time beyond the calm band on the side of now, signed; 0 within."""
    if abs(above_kw) <= calm_kw:
        return 0.0
    side = math.copysign(1.0, above_kw)
    return side * (dt_s + (abs(before_s) if before_s * side > 0.0 else 0.0))


def _threshold(state: PeakState, load: LoadNow, limit_kw: float, settings: PeakSettings) -> tuple[PeakState, PeakPlan]:
    gate_kw = limit_kw - settings.buffer_kw
    discharge = max(0.0, load.low_kw + load.fixed_kw - gate_kw)
    return state, PeakPlan(discharge, max(0.0, gate_kw - load.high_kw), limit_kw, gate_kw)


class _Debt(Struct, frozen=True):
    """The worst over all windows that contain now."""

    owed_kws: float
    """Debt and reserve; the fleet must give while this is positive."""
    pace_kw: float
    """Mean power that pays it by the window's end."""
    charge_kw: float
    """Charging that may run to the end of every window."""
    allow_kw: float


def _budget(
    state: PeakState,
    demand: DemandState,
    interval: DemandInterval,
    load: LoadNow,
    fleet: FleetRoom,
    dt_s: float,
    limit_kw: float,
    settings: PeakSettings,
) -> tuple[PeakState, PeakPlan]:
    debt = _worst_debt(state, windows(demand, interval), interval.length_s, load, fleet, dt_s, limit_kw, settings)
    gate = load.low_kw + load.fixed_kw > limit_kw - settings.buffer_kw
    begin_kws = settings.start_share * limit_kw * interval.length_s
    active = debt.owed_kws > 0.0 and (state.active or (gate and debt.owed_kws > begin_kws))
    after = structs.replace(state, active=active)
    if active:
        give_kw = min(debt.owed_kws / max(settings.pay_s, dt_s), max(fleet.power_kw, debt.pace_kw))
        return after, PeakPlan(give_kw, 0.0, limit_kw, debt.allow_kw)
    room_kw = min(debt.charge_kw, min(debt.allow_kw, limit_kw) - load.high_kw)
    return after, PeakPlan(0.0, max(0.0, room_kw), limit_kw, debt.allow_kw)


def _worst_debt(
    state: PeakState,
    ending: list[tuple[float, float]],
    length_s: float,
    load: LoadNow,
    fleet: FleetRoom,
    dt_s: float,
    limit_kw: float,
    settings: PeakSettings,
) -> _Debt:
    """`ending` holds (energy so far in kWs, seconds left) of every window, the earliest to end first."""
    goal_kw = limit_kw * (1.0 - settings.margin)
    mean_kw = state.mean_kw + load.fixed_kw
    held_kw = min(mean_kw, goal_kw)
    extra_kw = max(0.0, load.low_kw - state.mean_kw)
    spread_kw, unsure_kw = math.sqrt(state.height_var), settings.sigmas * math.sqrt(state.variance)
    insured = min(1.0, fleet.energy_kwh / max(fleet.power_kw * settings.scarce_h, 1e-9))
    owed, pace, charge, allow = -math.inf, 0.0, math.inf, math.inf
    near_s = max(ending[0][1], dt_s)
    for energy, left in ending:
        r = max(left, near_s)
        later_s, room = r - near_s, goal_kw * length_s - energy
        debt = mean_kw * near_s + held_kw * later_s + extra_kw * min(r, settings.burst_s) - room
        caution = unsure_kw * math.sqrt(min(r, settings.mean_s) * settings.noise_s)
        caution += settings.early_margin * limit_kw * near_s
        help_kws = fleet.power_kw * r - (mean_kw - held_kw) * later_s
        lasts_s = min(r, settings.reserve_s)
        burst = (state.height_kw + settings.burst_sigmas * spread_kw) * lasts_s
        high = (state.height_kw + settings.charge_sigmas * spread_kw) * lasts_s
        due = debt + insured * caution + max(0.0, insured * burst - help_kws)
        owed, pace, allow = max(owed, due), max(pace, due / r), min(allow, room / r)
        charge = min(charge, -(debt + insured * caution + max(0.0, high - help_kws)) / r)
    return _Debt(owed, pace, charge, allow)
