"""May the site meter be believed? Stale, invalid, frozen, sign-flipped and spiking readings, and the way back.

A wrong sign shows in two ways: import falls when charging rises, and power flows out that nothing gives.

The verdict is asymmetric on purpose: "more discharge" needs the lower of the last sample and the median of three, "less" follows
the last sample at once.
"""

import math

from msgspec import Struct, structs

from gridtide.model.decision import MeterSample, Quality


class MeterSettings(Struct, frozen=True, kw_only=True):
    """Limits of belief."""

    stale_s: float = 1.0
    """Age after which the meter counts as lost."""
    highest_kw: float = 1e5
    """Largest plausible magnitude: 1.2 times what the fuse carries."""
    frozen_s: float = 10.0
    frozen_share: float = 0.05
    """An unchanged reading is suspect once the fleet moved by this share of its rated power."""
    error_rate: float = 0.10
    good_samples: int = 3
    """Good, varying samples needed to come back."""
    sign_steps: int = 3
    generation_kw: float = 0.0
    """What generates behind the meter, rated."""
    reverse_kw: float = 1.0
    """Reverse power beyond what vehicles give and generators make, that is no noise."""
    reverse_s: float = 3.0
    """For so long it can still be a vehicle that has just stopped; longer, the sign is wrong."""


class MeterState(Struct, frozen=True):
    """What is remembered between samples."""

    at_s: float = -math.inf
    """Instant of the last good sample."""
    recent_kw: tuple[float, ...] = ()
    """The last three good readings."""
    loads_kw: tuple[float, ...] = ()
    """The same less the fleet's power of their instants: what the median is taken of, or it would lag the fleet."""
    good: int = 0
    """Good, varying samples in a row, up to the number needed."""
    same_since_s: float = -math.inf
    fleet_then_kw: float = 0.0
    """Fleet power when the reading last changed."""
    fleet_kw: float = 0.0
    noise_kw: float = 0.0
    """Running mean of the reading's steps while the fleet stood still."""
    strikes: int = 0
    sign_fault: bool = False
    gave_kw: float = 0.0
    """The most that vehicles may have given a moment ago."""
    gave_s: float = -math.inf
    explained_s: float = -math.inf
    """Instant of the last sample that shows no more reverse power than there can be."""
    lost: bool = True
    """True until enough good samples came in."""
    since_s: float = math.inf
    """Monotonic instant of the first cycle: a meter that never answers is told as well."""
    had: str = ""
    """The trouble of the last cycle, so that an event is raised once."""


class Verdict(Struct, frozen=True):
    """What the controller may use."""

    trusted: bool
    power_kw: float
    """The last good import, kW; nan before the first."""
    low_kw: float
    """Import to be assumed when more discharge is wished."""
    events: tuple[str, ...] = ()


def watch(
    state: MeterState,
    sample: MeterSample | None,
    now_s: float,
    fleet_kw: float,
    rated_kw: float,
    error_rate: float,
    settings: MeterSettings,
    given_kw: float = 0.0,
) -> tuple[MeterState, Verdict]:
    """Judge the newest sample; `fleet_kw` is the fleet's metered power at that time, `rated_kw` its rating, `given_kw` >= 0 the
    most that vehicles may be giving."""
    invalid = sample is not None and sample.quality is not Quality.LOST and not _plausible(sample, settings)
    fresh = sample is not None and not invalid and sample.quality is Quality.GOOD and sample.at_s > state.at_s
    if fresh and sample is not None:
        state = _explain(_take(state, sample, fleet_kw, rated_kw, settings), given_kw, settings)
    trouble = _trouble(state, now_s, fleet_kw, rated_kw, error_rate, settings)
    if trouble and trouble != "meter_sign":
        state = structs.replace(state, good=0, lost=True)
    elif state.lost and state.good >= settings.good_samples:
        state = structs.replace(state, lost=False)
    events: tuple[str, ...] = ("meter_invalid",) if invalid and not state.had else ()
    if math.isinf(state.since_s):
        state = structs.replace(state, since_s=now_s)
    began = math.isfinite(state.at_s) or now_s - state.since_s > settings.stale_s
    if trouble and trouble != state.had and began:
        events = (*events, trouble)
    if not trouble and not state.lost and state.had not in ("", "meter_invalid"):
        events = (*events, "meter_back")
    had = (trouble if began else "") or ("meter_invalid" if invalid else state.had if state.lost else "")
    if had != state.had:
        state = structs.replace(state, had=had)
    last = state.recent_kw[-1] if state.recent_kw else math.nan
    median_kw = sorted(state.loads_kw)[len(state.loads_kw) // 2] if state.loads_kw else math.nan
    low = min(last, median_kw + state.fleet_kw) if state.loads_kw else math.nan
    return state, Verdict(not trouble and not state.lost, last, low, events)


def _plausible(sample: MeterSample, settings: MeterSettings) -> bool:
    return (
        sample.quality is Quality.GOOD
        and math.isfinite(sample.power_kw)
        and math.isfinite(sample.at_s)
        and abs(sample.power_kw) <= settings.highest_kw
    )


def _take(
    state: MeterState, sample: MeterSample, fleet_kw: float, rated_kw: float, settings: MeterSettings
) -> MeterState:
    """A good sample: history, variation, noise and the sign test."""
    value = sample.power_kw
    previous = state.recent_kw[-1] if state.recent_kw else math.nan
    changed = value != previous
    step, moved = value - previous, fleet_kw - state.fleet_kw
    noise, strikes, fault = state.noise_kw, state.strikes, state.sign_fault
    if math.isfinite(step):
        if abs(moved) < 0.5:
            noise += 0.05 * (abs(step) - noise)
        elif abs(moved) > 1.0 + 4.0 * noise + 0.02 * rated_kw:
            ratio = step / moved
            strikes = strikes + 1 if -1.4 < ratio < -0.6 else 0
            fault = fault or strikes >= settings.sign_steps
    return MeterState(
        at_s=sample.at_s,
        recent_kw=(*state.recent_kw, value)[-3:],
        loads_kw=(*state.loads_kw, value - fleet_kw)[-3:],
        good=min(state.good + 1, settings.good_samples) if changed else state.good,
        same_since_s=sample.at_s if changed else state.same_since_s,
        fleet_then_kw=fleet_kw if changed else state.fleet_then_kw,
        fleet_kw=fleet_kw,
        noise_kw=noise,
        strikes=strikes,
        sign_fault=fault,
        gave_kw=state.gave_kw,
        gave_s=state.gave_s,
        explained_s=state.explained_s,
        lost=state.lost,
        since_s=state.since_s,
        had=state.had,
    )


def _explain(state: MeterState, given_kw: float, settings: MeterSettings) -> MeterState:
    """Reverse power that nobody gives and nothing makes, for a while: the sign is wrong, though all vehicles stand still."""
    at_s, value = state.at_s, state.recent_kw[-1]
    gave_kw, gave_s = state.gave_kw, state.gave_s
    if given_kw >= gave_kw or at_s - gave_s > settings.reverse_s:
        gave_kw, gave_s = given_kw, at_s
    most_kw = 1.1 * gave_kw + 1.05 * settings.generation_kw + settings.reverse_kw
    if value >= -most_kw or math.isinf(state.explained_s):
        return structs.replace(state, gave_kw=gave_kw, gave_s=gave_s, explained_s=at_s)
    fault = state.sign_fault or at_s - state.explained_s > settings.reverse_s
    return structs.replace(state, gave_kw=gave_kw, gave_s=gave_s, sign_fault=fault)


def _trouble(
    state: MeterState, now_s: float, fleet_kw: float, rated_kw: float, error_rate: float, settings: MeterSettings
) -> str:
    """Code of the worst trouble, or an empty string."""
    if not now_s - state.at_s <= settings.stale_s:
        return "meter_stale"
    if not error_rate <= settings.error_rate:
        return "meter_errors"
    still_s = state.at_s - state.same_since_s
    if still_s >= settings.frozen_s and abs(fleet_kw - state.fleet_then_kw) > settings.frozen_share * rated_kw:
        return "meter_frozen"
    return "meter_sign" if state.sign_fault else ""


def acknowledge_sign(state: MeterState) -> MeterState:
    """A person corrected the meter's sign."""
    return structs.replace(state, sign_fault=False, strikes=0, explained_s=-math.inf)
