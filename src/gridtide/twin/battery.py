"""Batteries as columns: charge, the taper at both ends, and two separate ledgers (AC meter and battery)."""

import numpy as np
from msgspec import Struct

from gridtide.model import losses, taper
from gridtide.model.fleet import Floats


class Batteries(Struct, frozen=True, eq=False):
    """What is plugged into each row, (n,); an empty row has capacity 0."""

    capacity_kwh: Floats
    energy_kwh: Floats
    charge_kw: Floats
    """Highest battery-side charging power."""
    discharge_kw: Floats
    knee_soc: Floats
    """Where the taper begins when charging."""
    empty_soc: Floats
    """The vehicle's own floor: nothing comes out below."""
    knee_low: Floats
    """Stretch above `empty_soc` over which discharging tapers, in soc."""

    @property
    def soc(self) -> Floats:
        """Charge 0..1; nan where nothing is plugged in."""
        plugged = self.capacity_kwh > 0.0
        if not np.count_nonzero(plugged):
            return np.full(plugged.size, np.nan)
        return np.where(plugged, self.energy_kwh / np.where(plugged, self.capacity_kwh, 1.0), np.nan)


class Flow(Struct, frozen=True, eq=False):
    """Energies of one step, kWh >= 0, (n,)."""

    ac_in_kwh: Floats
    ac_out_kwh: Floats
    loss_kwh: Floats
    into_kwh: Floats
    """Change of the battery's energy (signed)."""


def flow(batteries: Batteries, energy_kwh: Floats, ac_kw: Floats, hours: Floats, efficiency: Floats) -> Flow:
    """Energies when AC power `ac_kw` (n,) is wished for `hours` (n,), starting from `energy_kwh`: the taper may give less."""
    plugged = batteries.capacity_kwh > 0.0
    capacity = np.where(plugged, batteries.capacity_kwh, 1.0)
    soc = energy_kwh / capacity
    wish = losses.battery_kw(ac_kw, efficiency)
    gives = wish < 0.0
    room, width, full = 1.0 - soc, 1.0 - batteries.knee_soc, batteries.charge_kw
    any_gives = np.count_nonzero(gives) > 0
    if any_gives:
        room = np.where(gives, soc - batteries.empty_soc, room)
        width = np.where(gives, batteries.knee_low, width)
        full = np.where(gives, batteries.discharge_kw, full)
    moved = taper.energy_kwh(np.abs(wish), hours, np.maximum(room, 0.0), width, capacity, full)
    moved = np.where(plugged, moved, 0.0)
    into = np.where(gives, -moved, moved) if any_gives else moved
    # The conversion is linear, so that it turns energies into energies as it turns powers into powers.
    ac_kwh = losses.ac_kw(into, efficiency)
    return Flow(np.maximum(ac_kwh, 0.0), np.maximum(-ac_kwh, 0.0), losses.loss_kw(ac_kwh, efficiency), into)
