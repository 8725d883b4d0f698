"""What each row's driver needs, and how much time is to spare before full power is the only way to get there."""

import numpy as np
from msgspec import Struct

from gridtide.model import taper
from gridtide.model.fleet import Bools, EvseTable, FleetSample, Floats

LONGEST_H = 1e6
"""Hours that stand for never."""


class NeedSettings(Struct, frozen=True, kw_only=True):
    """Driver's energy."""

    floor_soc: float = 0.20
    """Never discharged below."""
    window_low_soc: float = 0.40
    window_high_soc: float = 0.80
    """The part of a vehicle's battery that peak shaving may use."""
    reserve_s: float = 900.0
    """Time kept beyond what full power would need; with less than this, charging comes before the peak target."""
    give_reserve_s: float = 2700.0
    """A vehicle gives only while it keeps at least this much time to spare."""
    knee_soc: float = 0.8
    """Where the taper of an unknown battery is assumed to begin."""


class Needs(Struct, frozen=True, eq=False):
    """Per row, (n,)."""

    missing_kwh: Floats
    """AC energy missing to what the driver needs; 0 when reached."""
    hours: Floats
    """Hours at full power to get there."""
    spare_s: Floats
    """Time to departure less `hours`; inf when nothing is missing or no departure is known."""
    wants: Bools
    """Takes charge if there is room."""
    must: Bools
    """Must charge now at full power to be ready."""
    charge_kw: Floats
    """Most the row can take: rating, vehicle, derate."""


def lowest_soc(table: EvseTable, fleet: FleetSample, settings: NeedSettings) -> tuple[Floats, Floats]:
    """Per row: the charge below which nothing may be taken at all, and the one that shaving leaves."""
    floor = np.fmax(settings.floor_soc, fleet.minimum_soc)
    window = np.where(table.storage, settings.floor_soc, max(settings.window_low_soc, settings.floor_soc))
    return floor, np.fmax(window, floor)


def assess(table: EvseTable, fleet: FleetSample, settings: NeedSettings, cycle_s: float) -> Needs:
    """Needs of all rows; unknown `soc` falls back to the energy still to be delivered. Total on non-finite input."""
    rated = table.charge_kw
    charge_kw = np.where(fleet.charge_limit_kw >= 0.0, np.minimum(fleet.charge_limit_kw, rated), rated)
    if not np.count_nonzero(fleet.connected):
        zero, nobody = np.zeros(table.size), np.zeros(table.size, dtype=np.bool_)
        return Needs(zero, zero, np.full(table.size, np.inf), nobody, nobody, charge_kw)
    soc_known = (fleet.soc >= 0.0) & (fleet.soc <= 1.0) & (fleet.capacity_kwh > 0.0) & np.isfinite(fleet.capacity_kwh)
    soc = np.where(soc_known, fleet.soc, 0.0)
    capacity = np.where(soc_known, fleet.capacity_kwh, 1.0)
    target = np.where(
        fleet.need_soc >= 0.0, np.minimum(fleet.need_soc, 1.0), np.where(table.storage, settings.window_high_soc, 0.0)
    )
    has_minimum = bool(np.count_nonzero(fleet.minimum_soc >= 0.0))
    if has_minimum:
        target = np.fmax(target, np.minimum(fleet.minimum_soc, 1.0))
    missing = np.maximum(target - soc, 0.0) * capacity / table.efficiency
    if np.count_nonzero(fleet.connected & ~soc_known):
        by_energy = np.where((fleet.need_kwh > 0.0) & np.isfinite(fleet.need_kwh), fleet.need_kwh, 0.0)
        missing = np.where(soc_known, missing, by_energy)
    missing = np.where(fleet.connected & (missing > 1e-4), missing, 0.0)
    wants = missing > 0.0
    if np.count_nonzero(wants):
        hours, spare = _times(fleet, table, settings, soc_known, soc, capacity, target, missing, charge_kw)
    else:
        hours, spare = missing, np.full(table.size, np.inf)
    must = spare <= settings.reserve_s + 2.0 * cycle_s
    if has_minimum:  # below it there is nothing to wait for
        must |= soc_known & fleet.connected & (fleet.soc < fleet.minimum_soc)
    must &= ~table.storage
    return Needs(missing, hours, spare, wants, must, charge_kw)


def _times(
    fleet: FleetSample,
    table: EvseTable,
    settings: NeedSettings,
    soc_known: Bools,
    soc: Floats,
    capacity: Floats,
    target: Floats,
    missing: Floats,
    charge_kw: Floats,
) -> tuple[Floats, Floats]:
    """Hours at full power for what is missing, and the time to spare, s, of all rows (n,)."""
    full_kw = np.maximum(charge_kw * table.efficiency, 1e-6)
    curved = taper.hours_to_charge(soc, target, capacity, full_kw, np.array(settings.knee_soc))
    hours = np.where(soc_known, curved, missing / np.maximum(charge_kw, 1e-6))
    hours = np.where(missing > 0.0, hours, 0.0)
    left_s = np.fmin(fleet.left_s, np.inf)  # not told: no departure
    return hours, np.where(missing > 0.0, left_s - np.minimum(hours, LONGEST_H) * 3600.0, np.inf)
