"""How much a transformer may carry now: its rating, a short tolerance above it, and less while it is hot. Pure.

Load is apparent power, and counts as if nobody discharged: discharge earns no credit. Thermal model: exponential top-oil and
winding rise after IEC 60076-7 for ONAN distribution units; the constants are the usual ones of that standard and not verified for
any one transformer. Hot-spot temperature = ambient + oil rise + winding rise.
"""

import math

from msgspec import Struct

LOSS_RATIO = 5.0
"""Load losses at rating over no-load losses (R)."""
OIL_RISE_K, OIL_EXPONENT = 55.0, 0.8
WINDING_RISE_K, WINDING_EXPONENT = 23.0, 1.6
MOST_LOAD = 5.0
"""No load counts beyond this share of the rating."""
RECOVERY_S = 900.0
"""Time below the rating after which the whole tolerance is there again."""
HOTTEST_AMBIENT_C = 80.0


class Transformer(Struct, frozen=True, kw_only=True):
    """What is known of one transformer."""

    rating_kva: float
    power_factor: float = 0.95
    """Assumed where reactive power is not measured."""
    ambient_c: float = 40.0
    """Assumed where it is not measured."""
    hot_spot_limit_c: float = 120.0
    oil_tau_s: float = 10_800.0
    winding_tau_s: float = 240.0
    tolerance_share: float = 1.1
    """Up to this share of the rating ..."""
    tolerance_s: float = 58.0
    """... is tolerated for so long (a minute less the time a cut takes); beyond it charging is cut at once."""
    horizon_s: float = 900.0
    """A load is allowed that keeps the hot spot below its limit for this long."""


class TransformerState(Struct, frozen=True):
    """What is remembered. A start assumes the temperatures of steady rated load: a restart forgets no heat."""

    oil_k: float = OIL_RISE_K
    winding_k: float = WINDING_RISE_K
    over_s: float = 0.0
    """Tolerance used up."""
    at_s: float = math.nan
    is_hot: bool = False
    is_over: bool = False
    """Charging is being cut for overload."""


class Load(Struct, frozen=True):
    """What the transformer carries."""

    power_kw: float
    """As if nobody discharged; nan unknown."""
    reactive_kvar: float = math.nan
    ambient_c: float = math.nan


def steady_oil_k(load: float) -> float:
    """Steady top-oil rise over ambient, K, at `load` (share of the rating)."""
    return OIL_RISE_K * float(((1.0 + LOSS_RATIO * load**2) / (1.0 + LOSS_RATIO)) ** OIL_EXPONENT)


def steady_winding_k(load: float) -> float:
    """Steady rise of the hot spot over the oil, K."""
    return WINDING_RISE_K * float(load**WINDING_EXPONENT)


def hot_spot_c(state: TransformerState, ambient_c: float) -> float:
    """Temperature of the hottest winding, degC."""
    return ambient_c + state.oil_k + state.winding_k


def ageing(hot_spot: float) -> float:
    """Relative rate of ageing of the insulation; 1 at 98 degC."""
    return float(2.0 ** ((hot_spot - 98.0) / 6.0))


def heated(state: TransformerState, load: float, dt_s: float, unit: Transformer) -> tuple[float, float]:
    """Oil and winding rise, K, after `dt_s` at a constant load (share of the rating)."""
    oil, winding = steady_oil_k(load), steady_winding_k(load)
    oil += (state.oil_k - oil) * math.exp(-dt_s / unit.oil_tau_s)
    winding += (state.winding_k - winding) * math.exp(-dt_s / unit.winding_tau_s)
    return oil, winding


def step(
    state: TransformerState, load: Load, now_s: float, unit: Transformer
) -> tuple[TransformerState, float, tuple[str, ...]]:
    """State, the highest import allowed now, kW (finite, >= 0), and event codes; monotonic `now_s`."""
    ambient_c = load.ambient_c if -60.0 <= load.ambient_c <= HOTTEST_AMBIENT_C else unit.ambient_c
    share = _share(load, unit)
    elapsed_s = now_s - state.at_s
    dt_s = elapsed_s if 0.0 < elapsed_s < 3600.0 else 0.0
    oil_k, winding_k = heated(state, share, dt_s, unit)
    used_s = state.over_s + dt_s if share > 1.0 else state.over_s - dt_s * unit.tolerance_s / RECOVERY_S
    over_s = min(max(used_s, 0.0), unit.tolerance_s)
    after = TransformerState(oil_k, winding_k, over_s, now_s)
    allowed = _allowed_share(after, ambient_c, unit)
    within = 1.0 < share <= unit.tolerance_share and over_s < unit.tolerance_s
    # Once charging was cut, nothing is tolerated until half of the tolerance is there again.
    cut_before = state.is_over and (share > 1.0 or over_s > 0.5 * unit.tolerance_s)
    tolerated = within and allowed >= 1.0 and not cut_before
    is_hot, is_over = allowed < 1.0, cut_before or (share > 1.0 and not tolerated)
    # What is tolerated may go on, and may not grow: a new wish finds no room above the rating.
    cap_kw = max(load.power_kw, 0.0) if tolerated else _power_kw(allowed, load, unit)
    events = ("transformer_hot",) if is_hot and not state.is_hot else ()
    events = (*events, "transformer_overload") if is_over and not state.is_over else events
    return TransformerState(oil_k, winding_k, over_s, now_s, is_hot, is_over), cap_kw, events


def _share(load: Load, unit: Transformer) -> float:
    """Load as a share of the rating; an unknown one counts as full."""
    if not math.isfinite(load.power_kw):
        return 1.0
    kva = (
        math.hypot(load.power_kw, load.reactive_kvar)
        if math.isfinite(load.reactive_kvar)
        else abs(load.power_kw) / unit.power_factor
    )
    return min(kva / unit.rating_kva, MOST_LOAD)


def _power_kw(share: float, load: Load, unit: Transformer) -> float:
    """Import at that share of the rating, kW, beside the reactive power that flows."""
    kva = share * unit.rating_kva
    if not math.isfinite(load.reactive_kvar):
        return kva * unit.power_factor
    return math.sqrt(max(kva * kva - load.reactive_kvar * load.reactive_kvar, 0.0))


def _allowed_share(state: TransformerState, ambient_c: float, unit: Transformer) -> float:
    """Largest load, 0..1, that keeps the hot spot below its limit over the horizon."""
    high = 1.0
    if _future_c(state, high, ambient_c, unit) <= unit.hot_spot_limit_c:
        return high
    low = 0.0
    for _ in range(20):
        middle = 0.5 * (low + high)
        fits = _future_c(state, middle, ambient_c, unit) <= unit.hot_spot_limit_c
        low, high = (middle, high) if fits else (low, middle)
    return low


def _future_c(state: TransformerState, load: float, ambient_c: float, unit: Transformer) -> float:
    oil_k, winding_k = heated(state, load, unit.horizon_s, unit)
    return ambient_c + oil_k + winding_k
