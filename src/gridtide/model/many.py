"""The same study with many seeds: the figures of each, and how far they spread."""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from gridtide.model.study import StudyResult

SPREAD_OF = (
    "peak_kw_with", "saving", "bill_with", "drivers_short", "discharged_kwh", "wear_cost", "failed_shaves",
)  # fmt: skip
"""Figures of a seed whose spread is told."""


class SeedFigures(Struct, frozen=True):
    """What one seed's study found; meanings and units as of `StudyResult`."""

    seed: int
    sessions: int
    peak_kw_building: float
    peak_kw_without: float
    peak_kw_with: float
    peak_kw_clairvoyant: float
    bill_without: float
    bill_with: float
    saving: float
    """Bill without less bill with."""
    drivers_short: int
    charged_kwh: float
    discharged_kwh: float
    wear_cost: float
    failed_shaves: int
    intervals_over: int
    energy_residual_kwh: float


class Spread(Struct, frozen=True):
    """One figure over all seeds: mean, extremes, and quantiles by straight lines between the sorted values."""

    figure: str
    mean: float
    min: float
    q05: float
    median: float
    q95: float
    max: float


class ManyResult(Struct, frozen=True):
    """A study with many seeds. Powers kW, energies kWh, money in `currency`, instants UTC epoch s."""

    site: str
    timezone: str
    currency: str
    start_s: float
    end_s: float
    mode: str
    limit_kw: float
    spreads: list[Spread]
    seeds: list[SeedFigures]
    """In order of the seeds."""
    elapsed_s: float = 0.0


def seed_figures(seed: int, result: StudyResult) -> SeedFigures:
    """The figures that are kept of one seed's study."""
    kept = {name: getattr(result, name) for name in SeedFigures.__struct_fields__ if name not in ("seed", "saving")}
    return SeedFigures(seed=seed, saving=result.bill_without - result.bill_with, **kept)


def spread_of(figure: str, values: Sequence[float]) -> Spread:
    """How far the values of a figure spread. Raises `ValueError` where there are none or one is not finite."""
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{figure}: give at least one value, all finite")
    low, q05, median, q95, high = (
        float(q) for q in np.quantile(np.asarray(values, float), (0.0, 0.05, 0.5, 0.95, 1.0))
    )
    mean = min(max(math.fsum(values) / len(values), low), high)
    return Spread(figure, mean, low, q05, median, q95, high)


def spreads(seeds: Sequence[SeedFigures]) -> list[Spread]:
    """The spread of every figure of `SPREAD_OF`."""
    return [spread_of(name, [float(getattr(seed, name)) for seed in seeds]) for name in SPREAD_OF]
