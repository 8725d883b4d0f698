"""Thermal curves shared by twin and guard."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DERATE_FROM_C = 75.0
"""Heat-sink temperature above which power is cut."""
DERATE_TO_ZERO_C = 85.0
"""Heat-sink temperature at which nothing flows."""


def derate(temperature_c: Array) -> Array:
    """Share of rated power, 0..1, at a heat-sink temperature: 1 to 75 degC, linear to 0 at 85 degC."""
    return np.clip((DERATE_TO_ZERO_C - temperature_c) / (DERATE_TO_ZERO_C - DERATE_FROM_C), 0.0, 1.0)
