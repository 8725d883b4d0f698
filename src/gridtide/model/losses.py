"""One loss function for twin, planner and settlement: conversion between the AC meter and the battery.

With a constant one-way efficiency eta: loss = (1 - eta) p when charging, |p| (1/eta - 1) when discharging, so that
battery power = AC power - loss for both signs. Standby loss is a constant AC power on top.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def loss_kw(ac_kw: Array, efficiency: Array) -> Array:
    """Conversion loss, kW >= 0, for AC power `ac_kw` (n,), one-way `efficiency` (n,) in (0, 1]."""
    return np.where(ac_kw > 0.0, (1.0 - efficiency) * ac_kw, -ac_kw * (1.0 / efficiency - 1.0))


def battery_kw(ac_kw: Array, efficiency: Array) -> Array:
    """Battery power, kW, that belongs to AC power `ac_kw`; both + when charging."""
    return np.where(ac_kw > 0.0, ac_kw * efficiency, ac_kw / efficiency)


def ac_kw(battery_power_kw: Array, efficiency: Array) -> Array:
    """AC power, kW, that belongs to a battery power; the inverse of `battery_kw`."""
    return np.where(battery_power_kw > 0.0, battery_power_kw / efficiency, battery_power_kw * efficiency)
