"""Vehicles ahead: how many will be connected, how many bays are free, what energy arrives; from the visits so far.

Numbers connected and energy arriving are series with a week in them, as a building's load is: the same forecast serves
(`gridtide.plan.forecast`). What one vehicle will do is in `gridtide.plan.forecast_departures`.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from gridtide.plan.forecast import LEVELS, Forecast, LoadModel, LoadSettings, new_model, predict, update
from gridtide.plan.forecast_calendar import Floats


class Visit(Struct, frozen=True):
    """One vehicle at one bay."""

    arrived_s: float
    """UTC epoch s."""
    departs_s: float
    """UTC epoch s; infinite while it is there."""
    need_kwh: float = 0.0
    """Energy it took or was to take, AC."""
    driver: str = ""
    """Whose it is, empty if not known."""


class SiteModel(Struct, frozen=True, eq=False):
    """Presence and need of one car park."""

    bays: int
    connected: LoadModel
    """Mean number of vehicles connected per step, in the place of kW."""
    need: LoadModel
    """Mean arriving need per step, kWh per hour."""


class SiteForecast(Struct, frozen=True, eq=False):
    """Quantiles per step ahead; rows do not fall along the levels."""

    starts_s: Floats
    """(n,) UTC epoch s."""
    levels: Floats
    """(q,)"""
    expected_connected: Floats
    """(n,)"""
    connected: Floats
    """(n, q) vehicles, 0 to the number of bays."""
    free: Floats
    """(n, q) bays."""
    expected_need_kwh: Floats | None
    """(n,) need of the vehicles that arrive within the step; None while no need is known."""
    need_kwh: Floats | None
    """(n, q)"""


def connected_series(visits: Sequence[Visit], starts_s: Floats, step_s: float) -> Floats:
    """Mean number of vehicles connected in each step that begins at `starts_s` (n,), regular and rising."""
    if len(starts_s) == 0:
        return np.zeros(0)
    arrived, departs = _times(visits)
    return (_seconds_before(arrived, starts_s, step_s) - _seconds_before(departs, starts_s, step_s)) / step_s


def arriving_need_series(visits: Sequence[Visit], starts_s: Floats, step_s: float) -> Floats:
    """Need of the vehicles that arrive in each step, kWh per hour, shape (n,).

    Where a need is known only at departure, a step's value is known once all of its vehicles have left: feed it with that delay.
    """
    if len(starts_s) == 0:
        return np.zeros(0)
    arrived, _ = _times(visits)
    place = np.floor((arrived - starts_s[0]) / step_s)
    inside = (place >= 0) & (place < len(starts_s))
    need = np.array([visit.need_kwh for visit in visits], dtype=np.float64)
    sums = np.bincount(place[inside].astype(np.int64), weights=need[inside], minlength=len(starts_s))
    return np.asarray(sums * 3_600.0 / step_s)


def _times(visits: Sequence[Visit]) -> tuple[Floats, Floats]:
    arrived = np.array([visit.arrived_s for visit in visits], dtype=np.float64)
    departs = np.array([visit.departs_s for visit in visits], dtype=np.float64)
    if not np.isfinite(arrived).all() or (departs < arrived).any() or np.isnan(departs).any():
        msg = "a visit without an arrival, or that ends before it begins: leave it out"
        raise ValueError(msg)
    return arrived, departs


def _seconds_before(at_s: Floats, starts_s: Floats, step_s: float) -> Floats:
    """For each step the seconds left in it after the instants, summed over all instants."""
    order = np.sort(at_s)
    sums = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(order), order, 0.0))])
    ends = starts_s + step_s
    before, within = np.searchsorted(order, starts_s), np.searchsorted(order, ends)
    return np.asarray(before * step_s + (within - before) * ends - (sums[within] - sums[before]))


def new_site(bays: int, settings: LoadSettings | None = None) -> SiteModel:
    """A car park without history; only calendar and step of the settings matter. Raises `ValueError` for no bays."""
    if bays < 1:
        msg = f"{bays} bays: give at least one"
        raise ValueError(msg)
    chosen = replace(settings or LoadSettings(), lowest_kw=0.0)
    return SiteModel(bays, new_model(chosen), new_model(chosen))


def update_connected(model: SiteModel, starts_s: Floats, connected: Floats) -> SiteModel:
    """The model after mean numbers connected (n,) in steps from `starts_s` (n,)."""
    return replace(model, connected=update(model.connected, starts_s, connected))


def update_need(model: SiteModel, starts_s: Floats, need_kwh_per_h: Floats) -> SiteModel:
    """The model after arriving needs (n,), kWh per hour, of steps from `starts_s` (n,) whose vehicles' needs are all known."""
    return replace(model, need=update(model.need, starts_s, need_kwh_per_h))


def predict_site(
    model: SiteModel, now_s: float, horizon_s: float, levels: tuple[float, ...] = LEVELS
) -> SiteForecast | None:
    """Presence, free bays and arriving need ahead; None without any history. Raises as `gridtide.plan.forecast.predict`."""
    connected = predict(model.connected, now_s, horizon_s, levels)
    if connected is None:
        return None
    counts = np.minimum(connected.quantiles_kw, model.bays)
    need = predict(model.need, now_s, horizon_s, levels)
    hours = connected.step_s / 3_600.0
    q = connected.levels
    return SiteForecast(
        starts_s=connected.starts_s,
        levels=q,
        expected_connected=np.minimum(connected.middle_kw, model.bays),
        connected=counts,
        free=_mirrored(connected, model.bays),
        expected_need_kwh=None if need is None else need.middle_kw * hours,
        need_kwh=None if need is None else need.quantiles_kw * hours,
    )


def _mirrored(connected: Forecast, bays: int) -> Floats:
    """Quantiles of `bays` less the number connected: level p is `bays` less level 1 - p."""
    rows = [np.interp(1.0 - connected.levels, connected.levels, row) for row in connected.quantiles_kw]
    return np.asarray(bays - np.minimum(np.array(rows), bays))
