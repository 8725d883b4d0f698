"""The peak controller: how much the fleet must give, or may take, so that no billed interval ends above its limit.

`budget` (default) spends the energy the interval still has instead of reacting to instantaneous power:

    allow(t) = (L T - E(t)) / (T - t)             mean power that may run to the interval's end

It does nothing while the interval is projected to end below the limit, pays back what a burst has borrowed even after
the burst is over, and keeps a reserve for a late burst that the fleet could not answer any more: with F the fleet's power, M
the load's running mean and (A, tau) the height and length of a burst as learned from this very load,

    L T - E(t) >= M r + A min(r, tau) - F r       r = T - t

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
    margin: float = 0.008
    """Share of the interval's energy kept unused to its very end (command delay, meter error)."""
    early_margin: float = 0.03
    """Further share kept at the interval's start and released in proportion to the time left: room for a second burst."""
    ratchet: float = 0.0
    """Share of earlier period peaks that is billed anyway."""
    mean_s: float = 300.0
    """Time constant of the load's running mean."""
    calm_share: float = 0.03
    """Deviations beyond this share of the mean (or 2.5 sigma) are bursts: they move the mean only as far as this."""
    sigmas: float = 0.5
    """Standard deviations of the running mean added to the projection."""
    burst_s: float = 90.0
    """How long a running burst is expected to go on."""
    reserve_s: float = 150.0
    """The tau of the reserve: how long a late burst may last at most."""
    burst_sigmas: float = 1.0
    """The reserve covers the learned mean burst height plus this many standard deviations."""
    scarce_h: float = 0.5
    """With less than this many hours of full discharge left, reserves shrink in proportion: energy is worth more than insurance."""
    burst_weight: float = 0.15
    """Weight of the newest burst in the learned height."""
    start_share: float = 0.004
    """Discharge starts only when the projection exceeds the budget by this share of it."""


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
    limit_kw = max(settings.limit_kw, floor_kw(demand, settings.ratchet))
    if settings.mode == "off":
        return state, PeakPlan(0.0, math.inf, limit_kw, math.inf)
    if settings.mode == "threshold":
        return _threshold(state, load, limit_kw, settings)
    return _budget(state, demand, interval, load, fleet, dt_s, limit_kw, settings)


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


def _burst_kw(state: PeakState, settings: PeakSettings) -> float:
    """High quantile of the height of a burst that may still come, kW."""
    return state.height_kw + settings.burst_sigmas * math.sqrt(state.height_var)


def _threshold(state: PeakState, load: LoadNow, limit_kw: float, settings: PeakSettings) -> tuple[PeakState, PeakPlan]:
    gate_kw = limit_kw - settings.buffer_kw
    discharge = max(0.0, load.low_kw + load.fixed_kw - gate_kw)
    return state, PeakPlan(discharge, max(0.0, gate_kw - load.high_kw), limit_kw, gate_kw)


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
    total = limit_kw * interval.length_s * (1.0 - settings.margin)
    extra = max(0.0, load.low_kw - state.mean_kw)
    mean_kw = state.mean_kw + load.fixed_kw
    sigma = math.sqrt(state.variance)
    fleet_kw = fleet.power_kw
    plenty = min(1.0, fleet.energy_kwh / max(fleet_kw * settings.scarce_h, 1e-9))
    burst = plenty * _burst_kw(state, settings)
    early_kw = plenty * settings.early_margin * limit_kw
    allow, need, projected_over = math.inf, 0.0, -math.inf
    for energy, left in windows(demand, interval):
        r = max(left, dt_s)
        room = total - energy - early_kw * min(r, interval.length_s)
        expected = mean_kw * r + extra * min(r, settings.burst_s)
        over = expected + settings.sigmas * sigma * math.sqrt(min(r, 300.0) * 90.0) - room
        late = mean_kw * r + burst * min(r, settings.reserve_s) - fleet_kw * r - room
        allow = min(allow, (total - energy) / r)
        projected_over = max(projected_over, over, late)
        need = max(need, (expected - room) / r, min(fleet_kw, late / dt_s))
    active = state.active and need > 0.0
    gate = load.low_kw + load.fixed_kw > limit_kw - settings.buffer_kw
    if not active and gate and projected_over > settings.start_share * total:
        active = need > 0.0
    discharge = need if active else 0.0
    room_kw = 0.0 if active else max(0.0, min(allow, limit_kw) - load.high_kw)
    after = structs.replace(state, active=active)
    return after, PeakPlan(discharge, room_kw, limit_kw, allow)
