"""The grid's faults: frequency and voltage outside their windows, a lost grid, a full and a hot transformer (FT23, FT24, FT30)."""

from typing import Final

from gridtide.control.grid_profiles import Profile
from gridtide.run.verify.fault import Begin, Fault, Luck
from gridtide.run.verify.rig import Rig

LASTS_S: Final = 150.0
"""A transformer is a little over its rating for so long at most."""
FAR_S: Final = 0.5
"""The slowest trip of any profile at the frequencies and voltages chosen here."""


def _profile(rig: Rig) -> Profile:
    watched = rig.case.settings.protection.grid
    if watched is None:
        raise ValueError("this site does not watch its grid")
    return watched.profile


def _hz(*, low: bool, far: bool) -> Begin:
    """Beyond the alarm, where no profile but `strict` trips; or beyond every trip."""

    def begin(rig: Rig, _row: int, luck: Luck) -> None:
        profile = _profile(rig)
        levels = [
            trip.level for trip in profile.trips if trip.quantity == "frequency" and (trip.side == "under") == low
        ]
        if far:
            hz = min(levels) - luck.uniform(0.1, 2.0) if low else max(levels) + luck.uniform(0.1, 2.0)
        else:
            alarm = profile.alarm_low_hz if low else profile.alarm_high_hz
            hz = alarm + (-1.0 if low else 1.0) * luck.uniform(0.05, 0.4)
        rig.move_grid(frequency_hz=hz)

    return begin


def _volts(low_pu: float, high_pu: float) -> Begin:
    def begin(rig: Rig, _row: int, luck: Luck) -> None:
        rig.move_grid(voltage_pu=luck.uniform(low_pu, high_pu))

    return begin


def _either_far(rig: Rig, row: int, luck: Luck) -> None:
    _hz(low=luck.random() < 0.5, far=True)(rig, row, luck)


def _lose(rig: Rig, _row: int, luck: Luck) -> None:
    hz, pu = luck.choice(((0.0, 0.0), (0.0, None), (None, 0.0)))
    rig.move_grid(frequency_hz=hz, voltage_pu=pu)


def _good(rig: Rig, _row: int) -> None:
    rig.move_grid(frequency_hz=rig.case.here.grid.nominal_hz, voltage_pu=1.0)


def _a_little_over(rig: Rig, _row: int, luck: Luck) -> None:
    unit, sample = rig.case.settings.protection.site, rig.emulated.sample
    if unit is None or sample is None:
        return
    charging_kw = float(rig.power_kw.clip(min=0.0).sum())
    load_kw = sample.building_kw + charging_kw
    # With the building and what silent stations fall back to above the rating, no controller could hold it.
    most_kw = unit.rating_kva - float(rig.case.here.table.fallback_kw.sum())
    over_kw = unit.rating_kva * luck.uniform(1.02, 1.08) - load_kw
    rig.surge_kw = max(0.0, min(over_kw, most_kw - rig.highest_building_kw(LASTS_S)))
    rig.throw_load(rig.surge_kw)


def _back(rig: Rig, _row: int) -> None:
    rig.throw_load(-rig.surge_kw)
    rig.surge_kw = 0.0


def _hot_air(rig: Rig, _row: int, luck: Luck) -> None:
    rig.ambient_c = luck.uniform(73.0, 79.0)


def _cool_air(rig: Rig, _row: int) -> None:
    rig.ambient_c = rig.case.here.ambient_c


GRID: Final[tuple[Fault, ...]] = (
    Fault(id="FT23a", name="frequency above its window", slot="grid", watched=True, rests="when strict",
          safe="nothing given", t_f_s=0.5, begin=_hz(low=False, far=False), mend=_good),
    Fault(id="FT23b", name="frequency below its window", slot="grid", watched=True, rests="when strict",
          safe="nothing charged", t_f_s=0.5, begin=_hz(low=True, far=False), mend=_good),
    Fault(id="FT23c", name="frequency beyond its trips", slot="grid", watched=True, rests="always",
          safe="all still", t_f_s=FAR_S + 0.5, begin=_either_far, mend=_good),
    Fault(id="FT23d", name="voltage far too high", slot="grid", watched=True, rests="always",
          safe="all still", t_f_s=0.5, begin=_volts(1.26, 1.4), mend=_good),
    Fault(id="FT23e", name="voltage far too low", slot="grid", watched=True, rests="always",
          safe="all still", t_f_s=FAR_S + 0.5, begin=_volts(0.15, 0.4), mend=_good),
    Fault(id="FT24", name="grid lost", slot="grid", watched=True, rests="always",
          safe="all still", t_f_s=0.5, excuses=("I1",), begin=_lose, mend=_good),
    Fault(id="FT30c", name="transformer a little over its rating", slot="load", watched=True, safe="as always",
          t_f_s=0.0, lasts_s=(20.0, LASTS_S), begin=_a_little_over, mend=_back),
    Fault(id="FT30d", name="air at the transformer hot", slot="ambient", watched=True, safe="nothing charged",
          t_f_s=1.2, begin=_hot_air, mend=_cool_air),
)  # fmt: skip
