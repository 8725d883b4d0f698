"""A building from interval data: its means are kept exactly, a seeded sub-minute texture is laid over them."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gridtide.model.fleet import Floats


class LoadSeries(Struct, frozen=True, eq=False):
    """Mean power per interval, kW, (m,), from `start_s` (UTC epoch s) in steps of `interval_s`."""

    start_s: float
    interval_s: float
    power_kw: Floats

    @property
    def end_s(self) -> float:
        """End of the last interval."""
        return self.start_s + self.interval_s * len(self.power_kw)


class Building(Struct, frozen=True, eq=False):
    """Cumulated energy on a 1 s grid: the mean over any step is a difference, so no step length changes the energy."""

    start_s: float
    cumulated_kws: Floats

    def mean_kw(self, at_s: float, until_s: float) -> float:
        """Mean power between two instants, kW; outside the data the nearest end's value holds."""
        last = len(self.cumulated_kws) - 1
        low = min(max(at_s - self.start_s, 0.0), last - 1.0)
        high = min(max(until_s - self.start_s, low + 1e-3), float(last))
        return (self._at(high) - self._at(low)) / (high - low)

    @property
    def highest_kw(self) -> float:
        """Highest mean power of a second, kW."""
        return float(np.diff(self.cumulated_kws).max(initial=0.0))

    def _at(self, offset_s: float) -> float:
        i = int(offset_s)
        base = float(self.cumulated_kws[i])
        part = offset_s - i
        return base if part == 0.0 else base + part * (float(self.cumulated_kws[i + 1]) - base)


def textured(series: LoadSeries, seed: int, texture: float = 0.03, bursts_per_h: float = 2.0) -> Building:
    """Building with noise (time constant 20 s) of `texture` times the power and bursts to 12 %, zero-mean per interval.

    A year is 31.5 million seconds: the one long array is worked on in place.
    """
    steps, level = round(series.interval_s), series.power_kw[:, None]
    rng = np.random.default_rng(seed)
    wave = _noise(rng, level.size * steps, 20.0)
    wave *= texture
    wave += _bursts(rng, wave.size, bursts_per_h)
    power = wave.reshape(-1, steps)
    power *= level
    power -= power.mean(axis=1, keepdims=True)
    depth = -power.min(axis=1, keepdims=True)
    scale = np.where(level < depth, np.abs(level) / np.maximum(depth, 1e-9), 1.0)
    power *= np.minimum(scale, 1.0)
    power += level
    cumulated = np.zeros(wave.size + 1)
    np.cumsum(wave, out=cumulated[1:])
    return Building(series.start_s, cumulated)


def _noise(rng: np.random.Generator, size: int, tau_s: float) -> NDArray[np.float64]:
    """Unit noise smoothed over about `tau_s`: white noise on a coarse grid, linearly joined."""
    knots = rng.normal(0.0, 1.0, int(size / tau_s) + 2)
    at = np.arange(size, dtype=np.float64)
    at /= tau_s
    return np.interp(at, np.arange(knots.size), knots)


def _bursts(rng: np.random.Generator, size: int, per_h: float) -> NDArray[np.float64]:
    out = np.zeros(size)
    for start in np.flatnonzero(rng.random(size) < per_h / 3600.0):
        out[start : start + int(rng.uniform(20.0, 90.0))] += rng.uniform(0.03, 0.12)
    return out
