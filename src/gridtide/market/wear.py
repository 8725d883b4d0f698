"""What using and keeping a battery costs (AS6, PS12): a price per kWh discharged, a price of holding charge, a report by cycles.

Wear is never one certain number: it is told as a range over cell models, each named. The table is a run of BLAST-Lite 1.1.1
(NREL) at 25 degC over ten years, made again by `tools/blast_wear.py`; chemistry changes the answer about thirtyfold, and a lower
mean charge pays for part of the cycling.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from gridtide.market.rainflow import Cycle, rainflow

Chemistry = Literal["NMC", "LFP", "NCA"]

FADE_PER_EFC: dict[Chemistry, float] = {"NMC": 5e-5, "LFP": 2e-5, "NCA": 1e-5}
"""Share of capacity lost per equivalent full cycle; for NCA deliberately above the table until a fleet is calibrated."""
PACK_PRICE_PER_KWH = 150.0
FADE_AT_END = 0.2
"""Share of capacity lost when a pack is worth nothing to its vehicle."""
_TABLE_HOURS = 10 * 8760.0
_LOW_SOC, _HIGH_SOC = 0.5, 0.8


class Pack(Struct, frozen=True):
    """What a battery is and costs. Money in the currency of `price_per_kwh`."""

    capacity_kwh: float
    chemistry: Chemistry = "NMC"
    price_per_kwh: float = PACK_PRICE_PER_KWH
    fade_at_end: float = FADE_AT_END


class CellModel(Struct, frozen=True):
    """A cell of the table: what it loses by lying at 50 and 80 % for ten years, and per equivalent full cycle."""

    name: str
    chemistry: Chemistry
    fade_50: float
    fade_80: float
    fade_per_efc: float


CELL_MODELS: tuple[CellModel, ...] = (
    CellModel("NMC_Gr_75Ah_A", "NMC", 0.0157, 0.0366, 5.3e-5),
    CellModel("NMC622 DENSO 50 Ah", "NMC", 0.0826, 0.0690, 4.9e-5),
    CellModel("LFP 250 Ah", "LFP", 0.0370, 0.0523, 1.9e-5),
    CellModel("NCA Panasonic 3 Ah", "NCA", 0.1240, 0.1768, 2e-6),
)
"""BLAST-Lite 1.1.1, see the module."""


def throughput_price(
    fade_per_efc: float, price_per_kwh: float = PACK_PRICE_PER_KWH, fade_at_end: float = FADE_AT_END
) -> float:
    """Cost of a kWh discharged: pack price times fade per equivalent full cycle over the fade at the end of life.

    A cycle discharges a kWh and charges it again; half of this price belongs to each kWh moved. Raises `ValueError` unless
    `fade_at_end` is in (0, 1] and the others are not negative.
    """
    _check(fade_per_efc, price_per_kwh, fade_at_end)
    return price_per_kwh * fade_per_efc / fade_at_end


def price_from_cycle_life(cycles: float, price_per_kwh: float = PACK_PRICE_PER_KWH) -> float:
    """Cost of a kWh discharged where only a cycle life is known: pack price over equivalent full cycles (> 0)."""
    if not (math.isfinite(cycles) and cycles > 0.0):
        raise ValueError(f"cycles = {cycles}: give a positive number of equivalent full cycles")
    return price_per_kwh / cycles


def pack_throughput_price(pack: Pack) -> float:
    """Cost of a kWh discharged from a pack, by its chemistry's default."""
    return throughput_price(FADE_PER_EFC[pack.chemistry], pack.price_per_kwh, pack.fade_at_end)


def models_of(chemistry: Chemistry) -> tuple[CellModel, ...]:
    """The cell models of a chemistry."""
    return tuple(model for model in CELL_MODELS if model.chemistry == chemistry)


def calendar_fade_per_h(model: CellModel, soc: float) -> float:
    """Share of capacity lost per hour at a charge (0..1): the table's two points, a straight line through them, never below 0."""
    slope = (model.fade_80 - model.fade_50) / (_HIGH_SOC - _LOW_SOC)
    return max(model.fade_50 + slope * (soc - _LOW_SOC), 0.0) / _TABLE_HOURS


def calendar_cost_per_h(pack: Pack, model: CellModel, soc: float) -> float:
    """What an hour at a charge costs a pack."""
    return pack.capacity_kwh * pack.price_per_kwh * calendar_fade_per_h(model, soc) / pack.fade_at_end


def holding_price(pack: Pack, model: CellModel) -> float:
    """Cost of holding one kWh more for one hour: what a planner pays for a high charge and earns by a lower one.

    Negative for a cell that lasts longer when it is kept full.
    """
    slope = (model.fade_80 - model.fade_50) / (_HIGH_SOC - _LOW_SOC) / _TABLE_HOURS
    return pack.price_per_kwh * slope / pack.fade_at_end


def throughput_range(discharged_kwh: float, price_per_kwh: float = PACK_PRICE_PER_KWH) -> tuple[tuple[str, float], ...]:
    """What discharged energy costs by every cell model, cheapest first: (name, cost)."""
    costs = (
        (model.name, discharged_kwh * throughput_price(model.fade_per_efc, price_per_kwh)) for model in CELL_MODELS
    )
    return tuple(sorted(costs, key=lambda item: item[1]))


class ModelWear(Struct, frozen=True):
    """Wear of a charge history by one cell model."""

    model: str
    throughput: float
    calendar: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.throughput + self.calendar


class WearReport(Struct, frozen=True):
    """Wear of a charge history: by every model of the chemistry, and by counted cycles."""

    equivalent_full_cycles: float
    discharged_kwh: float
    models: tuple[ModelWear, ...]
    cycles: tuple[Cycle, ...]
    cycle_cost: float
    """By counted cycles and a Woehler curve."""

    @property
    def low(self) -> ModelWear:
        """The model that says least."""
        return min(self.models, key=lambda item: item.total)

    @property
    def high(self) -> ModelWear:
        """The model that says most."""
        return max(self.models, key=lambda item: item.total)


class CycleLife(Struct, frozen=True):
    """Woehler curve: cycles to the end of life at a depth (0..1) are `cycles * depth ** -exponent`."""

    cycles: float = 3000.0
    exponent: float = 1.2


def cycle_damage(cycles: Sequence[Cycle], life: CycleLife | None = None) -> float:
    """Share of a life that cycles use up, by Palmgren and Miner."""
    curve = life or CycleLife()
    return math.fsum(c.count * c.depth**curve.exponent / curve.cycles for c in cycles if c.depth > 0.0)


def wear_report(
    pack: Pack, soc: Sequence[float], step_h: float, life: CycleLife | None = None, discharged_kwh: float | None = None
) -> WearReport:
    """Wear of a charge history `soc` (n,), 0..1, each held for `step_h` hours.

    `discharged_kwh`, where given, replaces the throughput that the history shows (a coarse history hides some). Raises
    `ValueError` on values that are no charge.
    """
    if not all(math.isfinite(s) and -1e-9 <= s <= 1.0 + 1e-9 for s in soc):
        raise ValueError("soc: give finite values from 0 to 1")
    if not (math.isfinite(step_h) and step_h > 0.0):
        raise ValueError(f"step_h = {step_h}: give a positive number of hours")
    moved = math.fsum(abs(b - a) for a, b in itertools.pairwise(soc))
    given_kwh = moved / 2.0 * pack.capacity_kwh if discharged_kwh is None else discharged_kwh
    counted = rainflow(soc)
    models = tuple(
        ModelWear(
            model.name,
            given_kwh * throughput_price(model.fade_per_efc, pack.price_per_kwh, pack.fade_at_end),
            math.fsum(calendar_cost_per_h(pack, model, s) for s in soc) * step_h,
        )
        for model in models_of(pack.chemistry)
    )
    cost = cycle_damage(counted, life) * pack.capacity_kwh * pack.price_per_kwh
    return WearReport(given_kwh / pack.capacity_kwh, given_kwh, models, counted, cost)


class DriverRisk(Struct, frozen=True):
    """What it is worth not to leave a driver short."""

    price_per_missing_kwh: float = 2.0
    """For a kWh that is missing at departure. The default is about three times the price at a public fast charger: a detour
    costs time, too. Well above any price of energy, so that no ordinary price is worth a short driver."""


def shortfall_cost(risk: DriverRisk, missing_kwh: float) -> float:
    """What a driver's missing energy costs, kWh at departure; nothing where there is more than needed."""
    return risk.price_per_missing_kwh * max(missing_kwh, 0.0)


def expected_shortfall_cost(risk: DriverRisk, outcomes: Sequence[tuple[float, float]]) -> float:
    """The same over outcomes (probability, missing kWh), as when the departure is known only by quantiles.

    Raises `ValueError` unless the probabilities add up to 1.
    """
    if abs(math.fsum(share for share, _ in outcomes) - 1.0) > 1e-6 or any(share < 0.0 for share, _ in outcomes):
        raise ValueError("outcomes: give probabilities that add up to 1")
    return math.fsum(share * shortfall_cost(risk, missing) for share, missing in outcomes)


def _check(fade_per_efc: float, price_per_kwh: float, fade_at_end: float) -> None:
    if not (math.isfinite(fade_at_end) and 0.0 < fade_at_end <= 1.0):
        raise ValueError(f"fade_at_end = {fade_at_end}: give a share above 0, at most 1")
    for name, value in (("fade_per_efc", fade_per_efc), ("price_per_kwh", price_per_kwh)):
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name} = {value}: give a finite number that is not negative")
