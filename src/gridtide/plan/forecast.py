"""Load hours to days ahead, with quantiles: calendar profiles, the drift of the last hours, and the errors made so far.

The expected load is a weighted sum of a few values that anyone can read off: the mean of days of the same kind, last week, the
same time yesterday, how far the last hours were from usual, and, where given, temperature and occupancy. The weights are learned
per lead (`forecast_weights`), the quantiles are those of the errors made over the same lead at that time of day (`forecast_bands`).
With little history it is yesterday or the last value with a wide band; where it does worse than last week for days
(`forecast_drift`) it says so, and last week or the last value take its place until it is better again. A model is never changed:
`update` returns a new one.
"""

from enum import IntEnum

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from gridtide.plan.forecast_bands import ErrorPool, empty_pool, put, quantile_errors, widened
from gridtide.plan.forecast_calendar import DAY_S, Calendar, Floats, Ints, Moments, local_index, moments
from gridtide.plan.forecast_drift import Drift, DriftFinding, counted, finding
from gridtide.plan.forecast_features import Known, Memory, absorb, empty_memory, influences, known, refresh
from gridtide.plan.forecast_weights import Weights, fresh_weights, learn, solve

LEADS_S = (900, 1_800, 3_600, 7_200, 14_400, 28_800, 57_600, 86_400, 172_800, 604_800)
"""Leads for which weights and errors are kept; between them they are interpolated."""
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
LONGEST_S = 14 * DAY_S
_SOLVE_EVERY_S = 7_200
_SPANS_S = (1.0, 3_600.0, 21_600.0, 86_400.0)
_SCALE_DAYS = 7.0


class Method(IntEnum):
    """How a forecast is made, from the simplest."""

    PERSISTENCE = 0
    """The last value."""
    DAY_BEFORE = 1
    LAST_WEEK = 2
    """Seasonal-naive."""
    FULL = 3


class LoadSettings(Struct, frozen=True):
    """What a load forecast needs to know beforehand."""

    calendar: Calendar = Calendar()
    step_s: int = 900
    """Length of a step; divides an hour."""
    lowest_kw: float = 0.0
    """The load is never below; -inf behind a meter that sees generation."""
    kind_pace: float = 0.3
    """Weight of a new day in the mean of its kind."""
    group_pace: float = 0.18
    forget_days: float = 45.0
    """Memory of the weights."""
    ridge: float = 20.0
    """Weight of the rule of thumb, in steps."""
    depth: int = 30
    """Days of errors per group of days that the bands come from."""

    def __post_init__(self) -> None:
        if self.step_s <= 0 or 3_600 % self.step_s or self.step_s < 60:
            msg = f"a step of {self.step_s} s: give 60 s or more that divide an hour"
            raise ValueError(msg)


class LoadModel(Struct, frozen=True, eq=False):
    """All that was learned; treat the arrays as constants."""

    settings: LoadSettings
    memory: Memory
    weights: Weights
    pool: ErrorPool
    drift: Drift = Drift()
    newest_s: float | None = None
    """Start of the newest step taken in (UTC epoch s)."""
    newest_index: int = 0
    highest_index: int = -1
    """Highest step of the local clock learned; in autumn an hour falls below it a second time."""
    steps: int = 0
    refused: int = 0
    """Samples left out: not finite, not newer than the newest, or off all bounds."""

    @property
    def known_until_s(self) -> float | None:
        """End of the newest step: a forecast can be made from then on."""
        return None if self.newest_s is None else self.newest_s + self.settings.step_s

    @property
    def method(self) -> Method:
        """What `predict` uses now: as much as the history allows, less while the forecast does worse than last week."""
        days = self.steps * self.settings.step_s / DAY_S
        wrong = self.finding
        if wrong is not None:
            return Method.LAST_WEEK if wrong.instead == "last_week" else Method.PERSISTENCE
        return Method.PERSISTENCE if days < 1.0 else Method.DAY_BEFORE if days < 7.0 else Method.FULL

    @property
    def finding(self) -> DriftFinding | None:
        """That the forecast is worse than last week, None if it is not."""
        return finding(self.drift)


class Forecast(Struct, frozen=True, eq=False):
    """Quantiles of the mean load of each step ahead."""

    starts_s: Floats
    """(n,) UTC epoch s."""
    step_s: float
    levels: Floats
    """(q,) within 0..1, rising."""
    middle_kw: Floats
    """(n,) the value that the quantiles are laid around: the expected load, or the plain value of a simpler method."""
    quantiles_kw: Floats
    """(n, q), not falling along a row, finite."""
    method: Method
    made_s: float
    known_until_s: float
    """End of the newest measured step behind it: its age is `made_s - known_until_s`."""

    @property
    def median_kw(self) -> Floats:
        """(n,) middle of the distribution, between the two levels around 0.5."""
        return self.at_level(0.5)

    def at_level(self, level: float) -> Floats:
        """(n,) any quantile, joined linearly between the levels; the outermost level beyond."""
        above = int(np.clip(np.searchsorted(self.levels, level), 1, max(len(self.levels) - 1, 1)))
        if len(self.levels) == 1:
            return self.quantiles_kw[:, 0].copy()
        low, high = self.levels[above - 1], self.levels[above]
        share = min(max((level - low) / (high - low), 0.0), 1.0)
        return np.asarray((1.0 - share) * self.quantiles_kw[:, above - 1] + share * self.quantiles_kw[:, above])


def new_model(settings: LoadSettings | None = None) -> LoadModel:
    """A model without history. Raises `ValueError` for a step that does not divide an hour."""
    chosen = settings or LoadSettings()
    per_day = DAY_S // chosen.step_s
    leads = _leads(chosen.step_s)
    return LoadModel(
        chosen,
        empty_memory(per_day),
        fresh_weights(leads.astype(np.float64) * chosen.step_s),
        empty_pool(len(Method), len(leads), per_day, chosen.depth),
    )


def fit(
    settings: LoadSettings,
    starts_s: Floats,
    load_kw: Floats,
    temperature_c: Floats | None = None,
    occupancy: Floats | None = None,
) -> LoadModel:
    """A model with a history; arguments as for `update`."""
    return update(new_model(settings), starts_s, load_kw, temperature_c, occupancy)


def update(
    model: LoadModel,
    starts_s: Floats,
    load_kw: Floats,
    temperature_c: Floats | None = None,
    occupancy: Floats | None = None,
) -> LoadModel:
    """The model after means `load_kw` (n,) of steps that began at `starts_s` (n,), rising; constant work a step.

    Temperature (deg C) and occupancy (any unit), both (n,), may hold NaN where unknown. A load that is not finite, or not newer
    than the newest one, is left out and counted in `refused`. Raises `ValueError` for arrays of unequal length.
    """
    starts, loads = np.asarray(starts_s, dtype=np.float64), np.asarray(load_kw, dtype=np.float64)
    extras = _extras(len(starts), temperature_c, occupancy)
    if starts.shape != loads.shape or starts.ndim != 1:
        msg = f"{starts.shape} starts for {loads.shape} loads: give as many of each"
        raise ValueError(msg)
    fine = np.isfinite(starts) & np.isfinite(loads) & (np.abs(loads) < 1e9) & (np.abs(starts) < 1e11)
    learner = replace(model, memory=model.memory.copy(), weights=model.weights.copy(), pool=model.pool.copy())
    learner = replace(learner, refused=learner.refused + int((~fine).sum()))
    step_s = model.settings.step_s
    at = moments(model.settings.calendar, step_s, local_index(model.settings.calendar, step_s, starts[fine]))
    for i, (start_s, load, extra) in enumerate(zip(starts[fine], loads[fine], extras[fine], strict=True)):
        floor_s = float(np.floor(start_s / step_s) * step_s)
        if learner.newest_s is not None and floor_s <= learner.newest_s:
            learner = replace(learner, refused=learner.refused + 1)
        else:
            learner = _taken_in(learner, floor_s, _only(at, i), float(load), extra)
    return learner


def predict(
    model: LoadModel,
    now_s: float,
    horizon_s: float,
    levels: tuple[float, ...] = LEVELS,
    temperature_c: Floats | None = None,
    occupancy: Floats | None = None,
    method: Method | None = None,
) -> Forecast | None:
    """Quantiles of the load for the steps that begin within `horizon_s` from the step that holds `now_s`.

    Uses only steps that ended by `now_s`; None without any. Temperature and occupancy are forecasts for the same steps (n,), NaN
    where unknown. `method` forces one of the simpler ways (to compare). Raises `ValueError` for levels outside 0..1 or not rising,
    a horizon outside (0, 14 days], or a model that has seen steps that end after `now_s`.
    """
    q = np.asarray(levels, dtype=np.float64)
    _check(model, now_s, horizon_s, q)
    if model.newest_s is None or model.known_until_s is None:
        return None
    step_s = model.settings.step_s
    count = max(1, round(horizon_s / step_s))
    starts = np.floor(now_s / step_s) * step_s + step_s * np.arange(count, dtype=np.float64)
    at = moments(model.settings.calendar, step_s, local_index(model.settings.calendar, step_s, starts))
    # On the local clock a step may seem not to lie ahead where clocks go back: it is the next one then.
    lead = np.maximum(at.index - model.newest_index, 1)
    seen = known(model.memory, at, lead, _extras(count, temperature_c, occupancy))
    chosen = model.method if method is None else method
    middle, spread = _middle_and_spread(model, chosen, at, lead, seen, q)
    quantiles = np.maximum(np.sort(middle[:, None] + spread, axis=1), model.settings.lowest_kw)
    middle = np.maximum(middle, model.settings.lowest_kw)
    return Forecast(starts, float(step_s), q, middle, quantiles, chosen, now_s, model.known_until_s)


def _middle_and_spread(
    model: LoadModel, method: Method, at: Moments, lead: Ints, seen: Known, levels: Floats
) -> tuple[Floats, Floats]:
    """Values (n,) and error quantiles (n, q), both interpolated between the leads that are kept."""
    leads = _leads(model.settings.step_s)
    above = np.clip(np.searchsorted(leads, lead), 1, len(leads) - 1)
    share = np.clip((lead - leads[above - 1]) / (leads[above] - leads[above - 1]), 0.0, 1.0)
    if method is Method.FULL:
        low = np.einsum("nf,nf->n", seen.rows, model.weights.theta[at.group, above - 1])
        high = np.einsum("nf,nf->n", seen.rows, model.weights.theta[at.group, above])
        middle = _scale(model.memory) * (low + share * (high - low))
    else:
        middle = (seen.latest, seen.same_slot, seen.last_week)[method]
    last = model.memory.load[model.newest_index % len(model.memory.load)]
    middle = np.where(np.isfinite(middle), middle, last)
    near, behind = quantile_errors(model.pool, method, above - 1, at.group, at.slot, levels)
    far, ahead = quantile_errors(model.pool, method, above, at.group, at.slot, levels)
    near, far = np.where(behind[:, None] > 0, near, far), np.where(ahead[:, None] > 0, far, near)
    days_ahead = lead * model.settings.step_s / DAY_S
    spread = near + share[:, None] * (far - near)
    return middle, widened(spread, np.maximum(behind, ahead), days_ahead, _scale(model.memory), levels)


def _taken_in(model: LoadModel, start_s: float, at: Moments, load: float, extras: Floats) -> LoadModel:
    """Learn one step, in place on arrays that are the learner's own."""
    index, group = int(at.index[0]), int(at.group[0])
    if index <= model.highest_index:
        refresh(model.memory, at, load)
        return replace(model, newest_s=start_s, newest_index=index, steps=model.steps + 1)
    settings = model.settings
    leads = _leads(settings.step_s)
    many = Moments(*(np.repeat(getattr(at, name), len(leads)) for name in at.__struct_fields__))
    seen = known(model.memory, many, leads, np.repeat(extras[None, :], len(leads), axis=0))
    step_days = settings.step_s / DAY_S
    drift = model.drift
    if np.isfinite(seen.profile[0]):
        drift = _scored(model, at, load, seen, start_s + settings.step_s)
        keep = float(np.exp(-step_days / settings.forget_days))
        learn(model.weights, group, seen.rows, load / _scale(model.memory), seen.sound.astype(np.float64), keep)
        if index % (_SOLVE_EVERY_S // settings.step_s or 1) == 0:
            solve(model.weights, group, settings.ridge)
    spans = np.maximum(np.array(_SPANS_S) / settings.step_s, 1e-3)
    pace = (settings.kind_pace, settings.group_pace)
    absorb(model.memory, at, load, extras, float(seen.profile[0]), pace, spans)
    weight = max(step_days / _SCALE_DAYS, 1.0 / (model.steps + 1))
    model.memory.scale[0] += weight * (abs(load) - model.memory.scale[0])
    return replace(model, drift=drift, newest_s=start_s, newest_index=index, highest_index=index, steps=model.steps + 1)


def _scored(model: LoadModel, at: Moments, load: float, seen: Known, now_s: float) -> Drift:
    """Put the errors of every method and lead into the pool, in place; the drift with this step counted."""
    full = _scale(model.memory) * np.einsum("lf,lf->l", seen.rows, model.weights.theta[at.group[0]])
    guesses = np.stack([seen.latest, seen.same_slot, seen.last_week, full])
    errors = np.where(seen.sound, load - guesses, np.nan)
    group, slot = int(at.group[0]), int(at.slot[0])
    if model.memory.group_days[group, slot]:  # the first Saturday says nothing about later ones
        put(model.pool, group, slot, errors)
    within_day = seen.sound & (_leads(model.settings.step_s) * model.settings.step_s <= DAY_S)
    if not within_day.any() or model.steps * model.settings.step_s < 8 * DAY_S:
        return model.drift
    mean = np.abs(errors[:, within_day]).mean(axis=1)
    trio = (float(mean[Method.FULL]), float(mean[Method.LAST_WEEK]), float(mean[Method.PERSISTENCE]))
    return counted(model.drift, trio, _scale(model.memory), model.settings.step_s / DAY_S, now_s)


def _leads(step_s: int) -> Ints:
    """Leads kept, in steps, rising."""
    return np.unique(np.maximum(np.array(LEADS_S) // step_s, 1))


def _scale(memory: Memory) -> float:
    return float(memory.scale[0]) if memory.scale[0] > 0.0 else 1.0


def _only(at: Moments, i: int) -> Moments:
    return Moments(at.index[i : i + 1], at.kind[i : i + 1], at.group[i : i + 1], at.slot[i : i + 1])


def _extras(count: int, temperature_c: Floats | None, occupancy: Floats | None) -> Floats:
    unknown = np.full(count, np.nan)
    given = [
        unknown if series is None else np.asarray(series, dtype=np.float64) for series in (temperature_c, occupancy)
    ]
    for name, series in zip(("temperature_c", "occupancy"), given, strict=True):
        if series.shape != (count,):
            msg = f"{name} has shape {series.shape}, the steps are {count}: give one value a step"
            raise ValueError(msg)
    return influences(*(np.where(np.isfinite(series), series, np.nan) for series in given))


def _check(model: LoadModel, now_s: float, horizon_s: float, levels: NDArray[np.float64]) -> None:
    if not (np.isfinite(now_s) and 0.0 < horizon_s <= LONGEST_S):
        msg = f"now {now_s} s, horizon {horizon_s} s: give an instant and up to {LONGEST_S} s"
        raise ValueError(msg)
    if levels.size == 0 or not ((levels > 0.0) & (levels < 1.0)).all() or (np.diff(levels) <= 0.0).any():
        msg = f"levels {levels.tolist()}: give rising numbers between 0 and 1"
        raise ValueError(msg)
    if model.known_until_s is not None and model.known_until_s > now_s:
        msg = f"the model knows the load until {model.known_until_s} s, which is after now ({now_s} s)"
        raise ValueError(msg)
