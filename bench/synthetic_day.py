"""The synthetic day behind `peak_rules.py`: 10 h at 1 s, an afternoon hump, slow noise and short hard bursts."""

import numpy as np
from numpy.typing import NDArray

SECONDS = 36_000
HUMP_TOP_KW = 560.0
BURSTS_PER_H = 3.2


def synthetic_day(draw: int, base_kw: float) -> NDArray[np.float64]:
    """Building load of one draw, kW, shape (36000,), from 08:00 to 18:00.

    A base of `base_kw` with an afternoon hump to 560 kW, slow noise (time constant 10 min, sigma 8 kW), fast noise (10 s,
    3 kW) and bursts of 60-220 kW for 20-150 s, about three an hour.
    """
    rng = np.random.default_rng(draw)
    hours = 8.0 + np.arange(SECONDS) / 3600.0
    hump = np.exp(-0.5 * ((hours - rng.uniform(13.6, 14.6)) / rng.uniform(0.5, 0.7)) ** 2)
    load = base_kw + (HUMP_TOP_KW - base_kw) * hump
    load += _noise(rng, 600.0, 8.0) + _noise(rng, 10.0, 3.0)
    for start in np.flatnonzero(rng.random(SECONDS) < BURSTS_PER_H / 3600.0):
        load[start : start + int(rng.uniform(20.0, 150.0))] += rng.uniform(60.0, 220.0)
    return np.maximum(load, 0.0)


def _noise(rng: np.random.Generator, tau_s: float, sigma_kw: float) -> NDArray[np.float64]:
    """First-order noise with time constant `tau_s` and standard deviation `sigma_kw`."""
    keep = float(np.exp(-1.0 / tau_s))
    kicks = rng.normal(0.0, sigma_kw * np.sqrt(1.0 - keep * keep), SECONDS)
    out = np.empty(SECONDS)
    value = rng.normal(0.0, sigma_kw)
    for i, kick in enumerate(kicks):
        value = keep * value + kick
        out[i] = value
    return out
