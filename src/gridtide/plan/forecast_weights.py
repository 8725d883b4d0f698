"""How much each known value counts, per lead: ridge regression with forgetting, drawn towards a rule of thumb.

Recursive least squares in its information form (Gram matrix and moment vector decay together), so that a value that is absent for
long falls back to the rule of thumb and nothing winds up. Source: L. Ljung, System Identification, 2nd ed., 1999, section 11.2.
"""

import numpy as np
from msgspec import Struct

from gridtide.plan.forecast_calendar import Floats
from gridtide.plan.forecast_features import FEATURES


class Weights(Struct, eq=False):
    """Sums and weights per lead; a copy is taken before it is changed."""

    gram: Floats
    """(leads, f, f)"""
    moment: Floats
    """(leads, f)"""
    theta: Floats
    """(leads, f) weights in force."""
    prior: Floats
    """(leads, f) rule of thumb."""

    def copy(self) -> "Weights":
        return Weights(self.gram.copy(), self.moment.copy(), self.theta.copy(), self.prior)


def rule_of_thumb(lead_s: Floats) -> Floats:
    """(leads, f): half the profile and last week, some of the latest days, of the drift what is left after hours."""
    out = np.zeros((len(lead_s), FEATURES))
    fresh = np.exp(-lead_s / 10_800.0)
    out[:, 0:3] = (0.4, 0.4, 0.2)
    out[:, 3:5] = 0.1 * (1.0 - fresh[:, None])
    out[:, 6] = 0.7 * fresh
    return out


def fresh_weights(lead_s: Floats) -> Weights:
    """Weights that follow the rule of thumb."""
    prior = rule_of_thumb(lead_s)
    shape = (len(lead_s), FEATURES)
    return Weights(np.zeros((*shape, FEATURES)), np.zeros(shape), prior.copy(), prior)


def learn(weights: Weights, rows: Floats, loads: Floats, usable: Floats, keep: float) -> None:
    """Take in one target (in place): `rows` (leads, f) and `loads` (leads,) in units of the scale, `usable` (leads,) 0 or 1.

    `keep` is the share of the past that remains.
    """
    counted = rows * usable[:, None]
    weights.gram *= keep
    weights.gram += counted[:, :, None] * rows[:, None, :]
    weights.moment *= keep
    weights.moment += counted * loads[:, None]


def solve(weights: Weights, ridge: float) -> None:
    """Renew the weights in force (in place); `ridge` is the weight of the rule of thumb in numbers of targets."""
    draw = ridge * np.eye(weights.gram.shape[1])
    weights.theta = weights.prior + np.linalg.solve(
        weights.gram + draw, (weights.moment - np.einsum("lij,lj->li", weights.gram, weights.prior))[:, :, None]
    )[:, :, 0]
