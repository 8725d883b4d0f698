"""The transformer as it really is: top-oil and winding temperature, ageing, and how long it was over its rating.

Exponential model after IEC 60076-7 for ONAN distribution units; the usual constants, not verified for any one unit.
"""

import math

from msgspec import Struct


class TransformerModel(Struct, frozen=True, kw_only=True):
    """One unit."""

    rating_kva: float
    oil_rise_k: float = 55.0
    """Top oil over ambient at rating."""
    winding_rise_k: float = 23.0
    """Hot spot over top oil at rating."""
    loss_ratio: float = 5.0
    oil_tau_s: float = 10_800.0
    winding_tau_s: float = 240.0

    def oil_k(self, load: float) -> float:
        """Steady top-oil rise at a share of the rating, K."""
        losses = (1.0 + self.loss_ratio * load * load) / (1.0 + self.loss_ratio)
        return self.oil_rise_k * math.pow(losses, 0.8)

    def winding_k(self, load: float) -> float:
        """Steady winding rise at a share of the rating, K."""
        return self.winding_rise_k * math.pow(load, 1.6)


class TransformerHeat(Struct, frozen=True):
    """Its state."""

    oil_k: float
    winding_k: float
    aged_s: float = 0.0
    """Life used, as time at 98 degC."""
    over_s: float = 0.0
    """Time of the present stretch above the rating."""
    longest_over_s: float = 0.0
    most_share: float = 0.0

    def hot_spot_c(self, ambient_c: float) -> float:
        """Hottest winding, degC."""
        return ambient_c + self.oil_k + self.winding_k


def steady(model: TransformerModel, load: float) -> TransformerHeat:
    """The state after a very long time at that share of the rating."""
    return TransformerHeat(model.oil_k(load), model.winding_k(load))


def advance(
    heat: TransformerHeat, model: TransformerModel, load_kva: float, ambient_c: float, dt_s: float
) -> TransformerHeat:
    """Advance by `dt_s` at a constant load, in closed form; ageing by the temperature at the end."""
    share = abs(load_kva) / model.rating_kva
    oil, winding = model.oil_k(share), model.winding_k(share)
    oil += (heat.oil_k - oil) * math.exp(-dt_s / model.oil_tau_s)
    winding += (heat.winding_k - winding) * math.exp(-dt_s / model.winding_tau_s)
    over_s = heat.over_s + dt_s if share > 1.0 + 1e-9 else 0.0
    aged_s = heat.aged_s + dt_s * math.pow(2.0, (ambient_c + oil + winding - 98.0) / 6.0)
    return TransformerHeat(
        oil, winding, aged_s, over_s, max(heat.longest_over_s, over_s), max(heat.most_share, share)
    )  # fmt: skip
