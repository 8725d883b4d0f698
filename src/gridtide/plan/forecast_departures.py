"""What one vehicle will do: when it leaves and what it needs, from visits that began alike and from the driver's own.

Quantiles are those of past visits, weighted by how alike they are: time of day of the arrival, kind of day, age of the record. The
driver's own visits count the more the more there are of them (shrinkage n / (n + k) to all drivers). Only visits that ended by then
are used, and of those only such as stayed at least as long as this one has.
"""

from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from gridtide.plan.forecast_calendar import DAY_S, Calendar, Floats, Ints, local_index, moments
from gridtide.plan.forecast_visits import Visit

MOST_VISITS = 8_000
"""Older ones are dropped."""
_MINUTE = 60


class VisitSettings(Struct, frozen=True):
    """How alike is alike."""

    calendar: Calendar = Calendar()
    width_s: float = 2_700.0
    """Arrivals this far apart on the clock count e^-1/2 of one at the same time."""
    other_day: float = 0.05
    """Weight of a visit on another group of days (working day, Saturday, Sunday or holiday)."""
    half_life_days: float = 45.0
    clock_share: float = 0.5
    """0: a vehicle that came later stays as long; 1: it leaves at the same time of day."""
    own_half: float = 4.0
    """Number of own visits alike that count as much as everybody's."""


class VisitModel(Struct, frozen=True, eq=False):
    """Visits that ended, (n,) each, in the order in which they ended; treat the arrays as constants."""

    settings: VisitSettings
    arrived_s: Floats
    stay_s: Floats
    need_kwh: Floats
    clock_s: Floats
    """Local time of day of the arrival, s."""
    group: Ints
    driver: "np.ndarray[tuple[int], np.dtype[np.str_]]"
    refused: int = 0
    """Visits left out: not ended, not finite, or ending before they began."""


class OneVisit(Struct, frozen=True, eq=False):
    """Quantiles (q,) for one vehicle, not falling along the levels."""

    levels: Floats
    departs_s: Floats
    """UTC epoch s, never before now."""
    need_kwh: Floats
    """Energy of the whole visit, AC."""
    alike: float
    """Weight of the visits behind it, in visits alike: below about 5 it is more guess than record."""


def no_visits(settings: VisitSettings | None = None) -> VisitModel:
    """A model without history."""
    none = np.zeros(0)
    return VisitModel(
        settings or VisitSettings(), none, none, none, none, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.str_)
    )


def add_visits(model: VisitModel, visits: Iterable[Visit]) -> VisitModel:
    """The model after visits that ended; the oldest beyond `MOST_VISITS` are dropped, what is no ended visit is left out."""
    given = list(visits)
    good = [visit for visit in given if _ended(visit)]
    if not good:
        return replace(model, refused=model.refused + len(given))
    good.sort(key=lambda visit: visit.departs_s)
    arrived = np.array([visit.arrived_s for visit in good])
    clock, group = _when(model.settings.calendar, arrived)
    tables = {
        "arrived_s": arrived,
        "stay_s": np.array([visit.departs_s - visit.arrived_s for visit in good]),
        "need_kwh": np.array([visit.need_kwh for visit in good]),
        "clock_s": clock,
        "group": group,
        "driver": np.array([visit.driver for visit in good]),
    }
    joined = {name: np.concatenate([getattr(model, name), new])[-MOST_VISITS:] for name, new in tables.items()}
    return replace(model, refused=model.refused + len(given) - len(good), **joined)


def _ended(visit: Visit) -> bool:
    finite = np.isfinite([visit.arrived_s, visit.departs_s, visit.need_kwh]).all()
    return bool(finite and visit.departs_s >= visit.arrived_s and visit.need_kwh >= 0.0)


def _when(calendar: Calendar, at_s: Floats) -> tuple[Floats, Ints]:
    """Local time of day, s, and group of days."""
    at = moments(calendar, _MINUTE, local_index(calendar, _MINUTE, at_s))
    return at.slot.astype(np.float64) * _MINUTE, at.group


def one_visit(
    model: VisitModel,
    arrived_s: float,
    now_s: float,
    levels: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95),
    driver: str = "",
) -> OneVisit | None:
    """Departure and need of a vehicle that came at `arrived_s` and is still there at `now_s` (UTC epoch s).

    None while no visit has ended. Raises `ValueError` for times that are not finite or a `now_s` before the arrival.
    """
    if not (np.isfinite(arrived_s) and np.isfinite(now_s) and now_s >= arrived_s):
        msg = f"arrived {arrived_s} s, now {now_s} s: give instants in this order"
        raise ValueError(msg)
    q = np.asarray(levels, dtype=np.float64)
    ended = model.arrived_s + model.stay_s <= now_s
    if not ended.any():
        return None
    clock, group = _when(model.settings.calendar, np.array([arrived_s]))
    apart_s = _apart(model.clock_s, float(clock[0]))
    weight = ended * _likeness(model, apart_s, int(group[0]), now_s)
    weight, alike = _with_own(model, weight, driver)
    stay = np.maximum(model.stay_s + model.settings.clock_share * apart_s, 0.0)
    longer = weight * (stay > now_s - arrived_s)
    need = np.sort(_quantiles(model.need_kwh, longer if longer.sum() > 0.0 else weight, q))
    if longer.sum() > 0.0:
        return OneVisit(q, np.maximum(arrived_s + _quantiles(stay, longer, q), now_s), need, alike)
    # Longer than any visit so far: the same again is as likely as not.
    again = (now_s - arrived_s + 1.0) * q / (1.0 - q)
    return OneVisit(q, now_s + again, need, 0.0)


def _apart(clock_s: Floats, mine_s: float) -> Floats:
    """How much later on the clock each visit began than this one, -12 h to 12 h."""
    return np.asarray((clock_s - mine_s + DAY_S / 2) % DAY_S - DAY_S / 2)


def _likeness(model: VisitModel, apart_s: Floats, group: int, now_s: float) -> Floats:
    settings = model.settings
    near = np.exp(-0.5 * (apart_s / settings.width_s) ** 2)
    day = np.where(model.group == group, 1.0, settings.other_day)
    age_days = (now_s - model.arrived_s) / DAY_S
    # A floor keeps a visit at an hour never seen from having no past at all.
    return np.asarray((near + 1e-6) * day * 0.5 ** (age_days / settings.half_life_days))


def _with_own(model: VisitModel, weight: Floats, driver: str) -> tuple[Floats, float]:
    """Weights that sum to 1 with the driver's share, and the number of visits alike behind them."""
    everybody = weight / weight.sum()
    alike = float(weight.sum() ** 2 / (weight**2).sum()) if (weight > 1e-6).any() else 0.0
    own = weight * (model.driver == driver) if driver else np.zeros_like(weight)
    total = float(own.sum())
    if total <= 1e-6:
        return everybody, alike
    share = total / (total + model.settings.own_half)
    return (1.0 - share) * everybody + share * own / total, alike


def _quantiles(values: Floats, weight: Floats, levels: Floats) -> Floats:
    """Weighted quantiles (q,): the smallest value whose share of weight reaches the level."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order])
    place = np.searchsorted(share, levels * share[-1] - 1e-12)
    return np.asarray(values[order][np.minimum(place, len(values) - 1)])
