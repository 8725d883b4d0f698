"""The CC-CV taper: battery power falls linearly to zero over the last stretch of charge, and likewise near empty.

Charging: p_max(s) = Pb for s <= s_cv, Pb (1 - s)/(1 - s_cv) above; integrated in closed form with
tau = capacity (1 - s_cv)/Pb. Discharging mirrors it near the bottom. `room` is the distance to the end in soc
(1 - s when charging, s - s_min when discharging) and `width` the taper's stretch, so one law serves both.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def energy_kwh(power_kw: Array, hours: Array, room: Array, width: Array, capacity_kwh: Array, full_kw: Array) -> Array:
    """Battery energy moved, kWh >= 0, in `hours` at a wished battery `power_kw` >= 0 under the taper; all (n,)."""
    full = np.maximum(full_kw, 1e-9)
    wished = np.minimum(power_kw, full)
    knee = wished * width / full
    straight_kwh = np.maximum(room - knee, 0.0) * capacity_kwh
    linear = wished * hours
    if bool((linear <= straight_kwh).all()):
        return linear
    tau_h = np.maximum(capacity_kwh * width / full, 1e-12)
    rest_h = np.maximum(hours - straight_kwh / np.maximum(wished, 1e-12), 0.0)
    tail = np.minimum(room, knee) * capacity_kwh * -np.expm1(-rest_h / tau_h)
    return np.minimum(linear, straight_kwh + tail)


def power_kw(room: Array, width: Array, full_kw: Array) -> Array:
    """Highest battery power, kW, at a distance `room` from the end."""
    return full_kw * np.clip(room / np.maximum(width, 1e-9), 0.0, 1.0)


def hours_to_charge(soc: Array, target_soc: Array, capacity_kwh: Array, full_kw: Array, knee_soc: Array) -> Array:
    """Hours to go from `soc` to `target_soc` at full battery power `full_kw` with the taper above `knee_soc`; all (n,).

    A target of 1 is never reached by an exponential: it is read as 0.995.
    """
    target = np.minimum(target_soc, 0.995)
    rate = np.maximum(full_kw, 1e-9) / np.maximum(capacity_kwh, 1e-9)
    straight = np.maximum(np.minimum(target, knee_soc) - soc, 0.0) / rate
    start = np.maximum(soc, knee_soc)
    curved = target > start
    if bool(curved.any()):
        width = np.maximum(1.0 - knee_soc, 1e-9)
        tail = width / rate * np.log(np.maximum(1.0 - start, 1e-9) / np.maximum(1.0 - target, 1e-9))
        return straight + np.where(curved, tail, 0.0)
    return straight
