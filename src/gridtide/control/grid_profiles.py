"""Named grid-protection profiles: at which voltage and frequency, and after which time, an EVSE leaves the grid and comes back.

Data only. No profile makes a site conform to any grid code: the relay that is certified for that is wired, works without gridtide
and is never overridden. Sources: defaults of `opender` 2.2.0 (EPRI's model of IEEE 1547-2018, BSD licence) for 1547; the 50 Hz
values come from manufacturers' documents and are not verified against the standards: confirm them with the grid operator.
"""

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

ProfileName: TypeAlias = Literal[
    "default",
    "ieee1547_2018",
    "ieee1547_2018_cat_i",
    "ieee1547_2018_cat_ii",
    "vde4105_2018",
    "en50549_1",
    "strict",
    "off",
]
"""`default` goes by the nominal frequency; `off` watches nothing."""
ENTER_DELAY_S = 300.0
"""Good voltage and frequency needed before anything flows again; also where a code would allow less."""
STRICT_CLEARING_S = 0.1
"""Two samples 100 ms apart: one spoilt reading is no reason to leave the grid, and the second is in time for 200 ms."""


class Trip(Struct, frozen=True):
    """One trip element. Inside its level, and outside it for less than its clearing time, it must not trip (ride-through)."""

    quantity: Literal["voltage", "frequency"]
    side: Literal["over", "under"]
    level: float
    """Voltage in per unit of nominal, frequency in Hz."""
    clearing_s: float


class Profile(Struct, frozen=True, kw_only=True):
    """What a profile says."""

    name: str
    source: str
    nominal_hz: float
    trips: tuple[Trip, ...]
    alarm_low_hz: float
    """Below it charging stops and an alarm is raised."""
    alarm_high_hz: float
    """Above it discharging stops and an alarm is raised."""
    cease_low_pu: float = 0.0
    """Momentary cessation: below it nothing flows, and power is back with the voltage."""
    cease_high_pu: float = math.inf
    """The same for discharging above it."""
    enter_low_pu: float
    enter_high_pu: float
    enter_low_hz: float
    enter_high_hz: float
    enter_delay_s: float = ENTER_DELAY_S
    enter_ramp_s: float = 0.0
    """Power rises linearly to its rating over this time after a return."""
    strict: bool = False
    """Nothing flows while the grid cannot be seen either. It leaves where codes ask to ride through: no frequency service fits."""


def _trips(over_pu: tuple[tuple[float, float], ...], under_pu: tuple[tuple[float, float], ...],
           over_hz: tuple[tuple[float, float], ...], under_hz: tuple[tuple[float, float], ...]) -> tuple[Trip, ...]:  # fmt: skip
    return (
        *(Trip("voltage", "over", level, after_s) for level, after_s in over_pu),
        *(Trip("voltage", "under", level, after_s) for level, after_s in under_pu),
        *(Trip("frequency", "over", level, after_s) for level, after_s in over_hz),
        *(Trip("frequency", "under", level, after_s) for level, after_s in under_hz),
    )


_HZ_1547 = (((62.0, 0.16), (61.2, 300.0)), ((56.5, 0.16), (58.5, 300.0)))


def _ieee1547(
    name: str, category: str, over_pu: tuple[tuple[float, float], ...], under_pu: tuple[tuple[float, float], ...],
    cease_low_pu: float = 0.0, cease_high_pu: float = math.inf,
) -> Profile:  # fmt: skip
    return Profile(
        name=name, source=f"IEEE 1547-2018 category {category}, defaults as in opender 2.2.0", nominal_hz=60.0,
        trips=_trips(over_pu, under_pu, *_HZ_1547), alarm_low_hz=59.5, alarm_high_hz=60.5,
        cease_low_pu=cease_low_pu, cease_high_pu=cease_high_pu,
        enter_low_pu=0.917, enter_high_pu=1.05, enter_low_hz=59.5, enter_high_hz=60.1, enter_ramp_s=300.0,
    )  # fmt: skip


def _strict(nominal_hz: float) -> Profile:
    low_hz, high_hz = nominal_hz - 0.5, nominal_hz + 0.5
    return Profile(
        name="strict", source="gridtide's own; outside the range IEEE 1547-2018 permits", nominal_hz=nominal_hz,
        trips=_trips(
            ((1.2, STRICT_CLEARING_S), (1.1, 2.0)), ((0.5, STRICT_CLEARING_S), (0.88, 2.0)),
            ((high_hz, STRICT_CLEARING_S),), ((low_hz, STRICT_CLEARING_S),),
        ),
        alarm_low_hz=low_hz, alarm_high_hz=high_hz,
        enter_low_pu=0.917, enter_high_pu=1.05, enter_low_hz=low_hz, enter_high_hz=nominal_hz + 0.1, strict=True,
    )  # fmt: skip


_VDE = Profile(
    name="vde4105_2018", nominal_hz=50.0,
    source="VDE-AR-N 4105:2018 as in manufacturers' documents, not verified; 600 s stand in for the 10-minute mean of U>",
    trips=_trips(((1.25, 0.1), (1.1, 600.0)), ((0.45, 0.3), (0.8, 3.0)), ((51.5, 0.1),), ((47.5, 0.1),)),
    alarm_low_hz=49.5, alarm_high_hz=50.5,
    enter_low_pu=0.85, enter_high_pu=1.1, enter_low_hz=47.5, enter_high_hz=50.1, enter_ramp_s=600.0,
)  # fmt: skip
_EN = Profile(
    name="en50549_1", nominal_hz=50.0,
    source="EN 50549-1, typical levels as in manufacturers' documents, not verified; times as VDE-AR-N 4105 where none is given",
    trips=_trips(((1.2, 0.1), (1.15, 60.0)), ((0.5, 0.3), (0.85, 3.0)), ((51.5, 0.5),), ((47.5, 0.5),)),
    alarm_low_hz=49.5, alarm_high_hz=50.5,
    enter_low_pu=0.851, enter_high_pu=1.1, enter_low_hz=49.5, enter_high_hz=50.1, enter_ramp_s=600.0,
)  # fmt: skip
PROFILES: Mapping[tuple[str, float], Profile] = {
    (profile.name, profile.nominal_hz): profile
    for profile in (
        _ieee1547("ieee1547_2018", "III", ((1.2, 0.16), (1.1, 13.0)), ((0.5, 2.0), (0.88, 21.0)), 0.5, 1.1),
        _ieee1547("ieee1547_2018_cat_ii", "II", ((1.2, 0.16), (1.1, 2.0)), ((0.45, 0.16), (0.7, 10.0))),
        _ieee1547("ieee1547_2018_cat_i", "I", ((1.2, 0.16), (1.1, 2.0)), ((0.45, 0.16), (0.7, 2.0))),
        _VDE,
        _EN,
        _strict(50.0),
        _strict(60.0),
    )
}
"""By name and nominal frequency, Hz."""
_DEFAULTS = {50.0: "en50549_1", 60.0: "ieee1547_2018"}


def profile_of(name: str, nominal_hz: float) -> Profile:
    """The profile of that name for 50 or 60 Hz; `default` is `en50549_1` and `ieee1547_2018`. Raises ValueError with the cure."""
    wanted = _DEFAULTS.get(nominal_hz, name) if name == "default" else name
    found = PROFILES.get((wanted, nominal_hz))
    if found is not None:
        return found
    there = ", ".join(sorted(key for key, hz in PROFILES if hz == nominal_hz))
    raise ValueError(f"is not for {nominal_hz:g} Hz: give default, {there}, or another nominal_hz")
