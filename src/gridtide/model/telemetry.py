"""Live telemetry: what meter and stations told last, one struct per EVSE, and the choice a listener makes of it.

Instants are UTC epoch seconds; + import/charging, - export/discharging; `None` means "not told", never 0.
"""

from collections.abc import Iterable

from msgspec import UNSET, Struct, UnsetType

SITE, BUILDING, EVSE = "site_kw", "building_kw", "evse:"
"""Series of a frame: the meter, what is left without the vehicles, and `evse:<id>`."""


class EvseTelemetry(Struct, frozen=True, kw_only=True):
    """What one EVSE measured last."""

    evse_id: str
    t_s: float | None
    """When it was measured; None before the first sample."""
    power_kw: float | None
    voltage_v: float | None = None
    """Mean of the phases told, line to neutral for AC."""
    current_a: float | None = None
    """Mean of the phases told; + charging."""
    frequency_hz: float | None = None
    soc: float | None = None
    """0..1."""
    temperature_c: float | None = None


class TelemetryFrame(Struct, frozen=True, kw_only=True):
    """The whole site at one instant; what a listener did not choose is left out."""

    t_s: float
    site_kw: float | UnsetType | None = UNSET
    """At the grid connection."""
    building_kw: float | UnsetType | None = UNSET
    evses: tuple[EvseTelemetry, ...] = ()
    """Every EVSE of the site, also those that are silent, in the site's order."""


class Choice(Struct, frozen=True):
    """The series a listener wants."""

    site: bool
    building: bool
    evse_ids: frozenset[str]

    def of(self, frame: TelemetryFrame) -> TelemetryFrame:
        """`frame` with nothing else in it."""
        return TelemetryFrame(
            t_s=frame.t_s,
            site_kw=frame.site_kw if self.site else UNSET,
            building_kw=frame.building_kw if self.building else UNSET,
            evses=tuple(evse for evse in frame.evses if evse.evse_id in self.evse_ids),
        )


def choice_of(series: str, known_ids: Iterable[str]) -> Choice | None:
    """The choice that "site_kw,evse:cs03/1" makes; None for "", which is all. Raises KeyError for a series there is not."""
    if not series:
        return None
    names = [name.strip() for name in series.split(",")]
    ids, known = {name.removeprefix(EVSE) for name in names if name.startswith(EVSE)}, set(known_ids)
    for name in names:
        if name not in (SITE, BUILDING) and not (name.startswith(EVSE) and name.removeprefix(EVSE) in known):
            raise KeyError(f"there is no series {name[:80]!r}: give {SITE}, {BUILDING} or {EVSE}<id>, parted by commas")
    return Choice(SITE in names, BUILDING in names, frozenset(ids))
