"""How good a forecast is: walked through a series as it would have been made, against persistence and the same time last week.

Every forecast is made by a model that has seen nothing but what lies before it; the rivals are scored on the same targets and have
bands of their own, from their own errors.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gridtide.plan.forecast import LEVELS, Forecast, LoadModel, LoadSettings, Method, new_model, predict, update
from gridtide.plan.forecast_calendar import DAY_S, HOLIDAY, WEEK_DAYS, Floats, local_index, moments

HOUR_S = 3_600.0


class Series(Struct, frozen=True, eq=False):
    """Mean loads, (n,), of steps that begin at `starts_s` (n,), regular; NaN is a gap."""

    starts_s: Floats
    load_kw: Floats
    temperature_c: Floats | None = None
    occupancy: Floats | None = None


class Score(Struct, frozen=True, eq=False):
    """One method's errors per lead; every field is (leads,)."""

    mae_kw: Floats
    """Mean absolute error of the expected value (rivals: of their plain value)."""
    pinball_kw: Floats
    """Mean pinball loss over the levels."""
    within: Floats
    """Share of targets within the outermost levels."""


class Comparison(Struct, frozen=True, eq=False):
    """Forecast and rivals on the same targets."""

    lead_h: Floats
    targets: int
    """Per lead."""
    nominal: float
    """What `within` should be."""
    mean_kw: float
    """Mean of the targets."""
    forecast: Score
    last_week: Score
    persistence: Score
    ordinary_skill: Floats
    """(leads,) skill against last week on targets without a holiday on their day or a week before; NaN without any."""
    given_up_share: float
    """Share of forecasts made while another method stood in."""

    def skill(self, rival: Score, pinball: bool = False) -> Floats:
        """(leads,) 1 - error / rival's error; 1 is perfect, 0 no better, NaN where the rival makes no error."""
        mine, theirs = (self.forecast.pinball_kw, rival.pinball_kw) if pinball else (self.forecast.mae_kw, rival.mae_kw)
        return np.where(theirs > 0.0, 1.0 - mine / np.where(theirs > 0.0, theirs, 1.0), np.nan)


def pinball(target: Floats, quantiles: Floats, levels: Floats) -> Floats:
    """Pinball loss (n, q) of quantiles (n, q) at levels (q,). Source: R. Koenker, Quantile Regression, 2005, section 1.3."""
    miss = target[:, None] - quantiles
    return np.asarray(np.maximum(levels * miss, (levels - 1.0) * miss))


def compare(
    settings: LoadSettings,
    series: Series,
    from_s: float,
    until_s: float,
    lead_h: tuple[float, ...] = tuple(range(1, 25)),
    every_s: float = HOUR_S,
    known_after_s: float = 0.0,
) -> Comparison:
    """Forecasts made every `every_s` from `from_s`, over targets that end by `until_s` (UTC epoch s).

    A lead of h hours is the step that ends h hours after the forecast is made. All of the series before a forecast is its history,
    but for the last `known_after_s` (what is told only later).
    Raises `ValueError` where no target lies in the span.
    """
    step_s = settings.step_s
    places = np.maximum(np.round(np.asarray(lead_h) * HOUR_S / step_s).astype(np.int64), 1) - 1
    horizon_s = float((places.max() + 1) * step_s)
    model = new_model(settings)
    done = 0
    tally = _Tally(places, np.asarray(LEVELS))
    for now_s in np.arange(from_s, until_s - horizon_s + 1.0, every_s):
        ready = int(np.searchsorted(series.starts_s, now_s - step_s - known_after_s, side="right"))
        model = update(model, *_cut(series, done, ready))
        done = ready
        first = int(np.searchsorted(series.starts_s, now_s))
        truth = series.load_kw[first : first + places.max() + 1]
        ahead = _cut(series, first, first + len(truth))[2:]
        tally.add(model, float(now_s), horizon_s, truth, ahead)
    return tally.comparison(np.asarray(lead_h, dtype=np.float64))


def _cut(series: Series, a: int, b: int) -> tuple[Floats, Floats, Floats | None, Floats | None]:
    """Starts, loads and outside influences of a part."""
    warm, busy = series.temperature_c, series.occupancy
    return (
        series.starts_s[a:b],
        series.load_kw[a:b],
        None if warm is None else warm[a:b],
        None if busy is None else busy[a:b],
    )


def _ordinary(settings: LoadSettings, at_s: Floats) -> NDArray[np.bool_]:
    """Where neither the day nor that of a week before is a holiday."""
    step_s = settings.step_s
    index = local_index(settings.calendar, step_s, at_s)
    week = WEEK_DAYS * DAY_S // step_s
    day, before = (moments(settings.calendar, step_s, at).kind for at in (index, index - week))
    return np.asarray((day != HOLIDAY) & (before != HOLIDAY), dtype=np.bool_)


class _Tally:
    """Sums of the walk."""

    def __init__(self, places: "np.ndarray[tuple[int], np.dtype[np.int64]]", levels: Floats) -> None:
        self.places = places
        self.levels = levels
        self.rows: list[Floats] = []
        self.target_sum = 0.0
        self.given_up = 0
        self.ordinary: list[NDArray[np.bool_]] = []

    def add(
        self,
        model: LoadModel,
        now_s: float,
        horizon_s: float,
        truth: Floats,
        ahead: tuple[Floats | None, Floats | None],
    ) -> None:
        if len(truth) <= self.places.max() or not np.isfinite(truth[self.places]).all():
            return
        target = truth[self.places]
        found: list[Floats] = []
        for method in (None, Method.LAST_WEEK, Method.PERSISTENCE):
            made = predict(model, now_s, horizon_s, LEVELS, *ahead, method=method)
            if made is None:
                return
            found.append(self._errors(made, target))
        self.rows.append(np.stack(found))
        self.ordinary.append(_ordinary(model.settings, now_s + self.places.astype(np.float64) * model.settings.step_s))
        self.target_sum += float(target.mean())
        self.given_up += model.finding is not None

    def _errors(self, made: Forecast, target: Floats) -> Floats:
        """(3, leads): absolute error, pinball loss, whether within."""
        band = made.quantiles_kw[self.places]
        inside = (target >= band[:, 0] - 1e-9) & (target <= band[:, -1] + 1e-9)
        loss = pinball(target, band, self.levels).mean(axis=1)
        return np.stack([np.abs(target - made.middle_kw[self.places]), loss, inside.astype(np.float64)])

    def comparison(self, lead_h: Floats) -> Comparison:
        if not self.rows:
            msg = "no target lies in the span: give a longer span or series"
            raise ValueError(msg)
        rows, ordinary = np.stack(self.rows), np.stack(self.ordinary)
        mean = rows.mean(axis=0)
        mine, theirs = ((rows[:, method, 0] * ordinary).sum(axis=0) for method in (0, 1))
        ordinary_skill = np.where(theirs > 0.0, 1.0 - mine / np.where(theirs > 0.0, theirs, 1.0), np.nan)
        forecast, last_week, persistence = (Score(*method) for method in mean)
        count = len(self.rows)
        nominal = float(self.levels[-1] - self.levels[0])
        share = self.given_up / count
        return Comparison(
            lead_h, count, nominal, self.target_sum / count, forecast, last_week, persistence, ordinary_skill, share
        )
