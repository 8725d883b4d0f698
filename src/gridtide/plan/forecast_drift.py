"""Is the forecast still worth having? A cumulated sum of its errors against those of the same time last week.

Source: E. S. Page, Continuous inspection schemes, Biometrika 41, 1954 (CUSUM).
"""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

_SLACK = 0.05
"""Share of last week's usual error by which the forecast may be worse without a count."""
_ALARM_DAYS = 1.0
"""Sum at which the forecast is given up: a day's worth of last week's usual error too much."""
_TRUST_DAYS = 0.2
"""Sum at which it is trusted again."""
_CEILING_DAYS = 1.5
"""The sum stays below, so that trust comes back within days of good forecasts."""
_FINE = 0.01
_USUAL_DAYS = 14.0
_RECENT_DAYS = 2.0


class DriftFinding(Struct, frozen=True):
    """The forecast is worse than the same time last week."""

    since_s: float
    """UTC epoch s at which it was given up."""
    forecast_error: float
    """Mean absolute error of the last days, in the load's unit."""
    last_week_error: float
    persistence_error: float
    instead: Literal["last_week", "persistence"]
    """What is used meanwhile."""


class Drift(Struct, frozen=True):
    """Running errors and their cumulated difference."""

    forecast_error: float = 0.0
    last_week_error: float = 0.0
    persistence_error: float = 0.0
    usual_error: float = 0.0
    """Mean absolute error of last week's values over weeks."""
    counted_days: float = 0.0
    sum_days: float = 0.0
    given_up_s: float | None = None


def counted(drift: Drift, errors: tuple[float, float, float], scale: float, step_days: float, now_s: float) -> Drift:
    """Count one measured step: absolute errors of the forecast, of last week and of persistence (means over leads of a day).

    `scale` is the usual size of the load: errors below a hundredth of it are not weighed against one another.
    """
    forecast, last_week, persistence = errors
    days = drift.counted_days + step_days
    recent = max(step_days / _RECENT_DAYS, step_days / days)
    usual = drift.usual_error + max(step_days / _USUAL_DAYS, step_days / days) * (last_week - drift.usual_error)
    unit = max(usual, _FINE * scale)
    excess = (forecast - last_week) / unit - _SLACK if unit > 0.0 else 0.0
    total = min(max(drift.sum_days + excess * step_days, 0.0), _CEILING_DAYS)
    given_up_s = drift.given_up_s
    if given_up_s is None and total >= _ALARM_DAYS:
        given_up_s = now_s
    elif total <= _TRUST_DAYS:
        given_up_s = None
    return replace(
        drift,
        forecast_error=drift.forecast_error + recent * (forecast - drift.forecast_error),
        last_week_error=drift.last_week_error + recent * (last_week - drift.last_week_error),
        persistence_error=drift.persistence_error + recent * (persistence - drift.persistence_error),
        usual_error=usual,
        counted_days=days,
        sum_days=total,
        given_up_s=given_up_s,
    )


def finding(drift: Drift) -> DriftFinding | None:
    """What is wrong, None while the forecast is trusted."""
    if drift.given_up_s is None:
        return None
    instead: Literal["last_week", "persistence"] = (
        "last_week" if drift.last_week_error <= drift.persistence_error else "persistence"
    )
    return DriftFinding(drift.given_up_s, drift.forecast_error, drift.last_week_error, drift.persistence_error, instead)
