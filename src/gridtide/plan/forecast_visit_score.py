"""How good the forecast of single departures and needs is, each made at the arrival from the visits that had ended by then."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from gridtide.plan.forecast import LEVELS
from gridtide.plan.forecast_calendar import Floats
from gridtide.plan.forecast_departures import VisitSettings, add_visits, no_visits, one_visit
from gridtide.plan.forecast_score import pinball
from gridtide.plan.forecast_visits import Visit


class VisitScore(Struct, frozen=True):
    """Means over visits; stays in hours, needs in kWh. The rival is all earlier visits, whatever their time of day."""

    visits: int
    stay_mae_h: float
    """Of the median."""
    stay_pinball_h: float
    stay_within: float
    rival_stay_mae_h: float
    rival_stay_pinball_h: float
    need_mae_kwh: float
    need_pinball_kwh: float
    need_within: float
    rival_need_mae_kwh: float
    rival_need_pinball_kwh: float
    early: float
    """Share that left before the lowest level: what a planner that trusts it would miss."""


def score_visits(settings: VisitSettings, visits: Sequence[Visit], from_s: float, until_s: float) -> VisitScore:
    """Scores of the visits that began within `from_s` to `until_s` (UTC epoch s). Raises `ValueError` where there are none."""
    levels = np.asarray(LEVELS)
    middle = LEVELS.index(0.5)
    model = no_visits(settings)
    waiting = sorted(visits, key=lambda visit: visit.departs_s)
    rows: list[list[float]] = []
    done = 0
    for visit in sorted(visits, key=lambda visit: visit.arrived_s):
        if not from_s <= visit.arrived_s < until_s:
            continue
        ready = done
        while ready < len(waiting) and waiting[ready].departs_s <= visit.arrived_s:
            ready += 1
        model, done = add_visits(model, waiting[done:ready]), ready
        found = one_visit(model, visit.arrived_s, visit.arrived_s, LEVELS, visit.driver)
        if found is None:
            continue
        truth = ((visit.departs_s - visit.arrived_s) / 3_600.0, visit.need_kwh)
        mine = ((found.departs_s - visit.arrived_s) / 3_600.0, found.need_kwh)
        theirs = (np.quantile(model.stay_s, levels) / 3_600.0, np.quantile(model.need_kwh, levels))
        rows.append(
            [value for part in zip(truth, mine, theirs, strict=True) for value in _errors(*part, levels, middle)]
        )
    if not rows:
        msg = "no visit with a past lies in the span: give a longer span"
        raise ValueError(msg)
    stay, need = np.split(np.array(rows).mean(axis=0), 2)
    return VisitScore(len(rows), *(float(value) for value in (*stay[:5], *need[:5], stay[5])))


def _errors(truth: float, mine: Floats, theirs: Floats, levels: Floats, middle: int) -> list[float]:
    """Absolute error, pinball loss, whether within; the rival's error and loss; whether below the lowest level."""
    losses = [float(pinball(np.array([truth]), row[None, :], levels).mean()) for row in (mine, theirs)]
    within = float(mine[0] <= truth <= mine[-1])
    return [
        abs(truth - float(mine[middle])), losses[0], within, abs(truth - float(theirs[middle])), losses[1],
        float(truth < mine[0]),
    ]  # fmt: skip
