"""How much each known value counts, per group of days and lead: robust ridge regression that forgets, drawn to a rule of thumb.

Recursive least squares in its information form (Gram matrix and moment vector decay together), so that a value that is absent for
long falls back to the rule of thumb and nothing winds up; a target that was missed by far counts less (Huber). Sources: L. Ljung,
System Identification, 2nd ed., 1999, section 11.2; P. J. Huber, Robust Estimation of a Location Parameter, 1964.
"""

import numpy as np
from msgspec import Struct

from gridtide.plan.forecast_calendar import GROUPS, Floats
from gridtide.plan.forecast_features import EXTRAS, FEATURES

_FAR = 0.15
"""Error, in units of the scale, from which a target counts less."""
_LIGHT = 0.05
"""Outside influences vary little and have no rule of thumb: they are drawn to nothing this much less."""


class Weights(Struct, eq=False):
    """Sums and weights; a copy is taken before it is changed."""

    gram: Floats
    """(groups, leads, f, f)"""
    moment: Floats
    """(groups, leads, f)"""
    theta: Floats
    """(groups, leads, f) weights in force."""
    prior: Floats
    """(leads, f) rule of thumb."""

    def copy(self) -> "Weights":
        return Weights(self.gram.copy(), self.moment.copy(), self.theta.copy(), self.prior)


def rule_of_thumb(lead_s: Floats) -> Floats:
    """(leads, f): half the profile and last week, some of the latest days, of the drift what is left after hours."""
    out = np.zeros((len(lead_s), FEATURES))
    fresh = np.exp(-lead_s / 10_800.0)
    out[:, 0:4] = (0.4, 0.2, 0.2, 0.2)
    out[:, 4:6] = 0.1 * (1.0 - fresh[:, None])
    out[:, 7] = 0.7 * fresh
    return out


def fresh_weights(lead_s: Floats) -> Weights:
    """Weights that follow the rule of thumb."""
    prior = rule_of_thumb(lead_s)
    shape = (GROUPS, *prior.shape)
    return Weights(np.zeros((*shape, FEATURES)), np.zeros(shape), np.repeat(prior[None], GROUPS, axis=0), prior)


def learn(weights: Weights, group: int, rows: Floats, load: float, usable: Floats, keep: float) -> None:
    """Take in one target of a group (in place): `rows` (leads, f) and `load` in units of the scale, `usable` (leads,) 0 or 1.

    `keep` is the share of the group's past that remains. A row that is not finite teaches nothing.
    """
    usable = usable * np.isfinite(rows).all(axis=1)
    rows = np.where(usable[:, None] > 0.0, rows, 0.0)
    missed = np.abs(load - np.einsum("lf,lf->l", rows, weights.theta[group]))
    counted = rows * (usable * _FAR / np.maximum(missed, _FAR))[:, None]
    weights.gram[group] *= keep
    weights.gram[group] += counted[:, :, None] * rows[:, None, :]
    weights.moment[group] *= keep
    weights.moment[group] += counted * load


def solve(weights: Weights, group: int, ridge: float) -> None:
    """Renew a group's weights in force (in place); `ridge` is the weight of the rule of thumb in numbers of targets."""
    gram = weights.gram[group]
    missing = weights.moment[group] - np.einsum("lij,lj->li", gram, weights.prior)
    draw = np.full(FEATURES, ridge)
    draw[-EXTRAS:] *= _LIGHT
    away = np.linalg.solve(gram + np.diag(draw), missing[:, :, None])
    weights.theta[group] = weights.prior + away[:, :, 0]
