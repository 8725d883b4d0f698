"""Random sites by seed: building, connection, chargers, vehicles and links, all from one number."""

import random
from typing import Final

import numpy as np
from msgspec import Struct, structs

from gridtide.control import site as control
from gridtide.control.grid_profiles import Profile, profile_of
from gridtide.control.grid_protection import GridSettings
from gridtide.control.peak import PeakSettings
from gridtide.control.protection import ProtectionSettings
from gridtide.control.transformer import Transformer
from gridtide.model.fleet import EvseTable, Floats, SiteLimits
from gridtide.run.net import LinkFaults
from gridtide.twin import evse
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import Arrival
from gridtide.twin.building import LoadSeries, textured
from gridtide.twin.grid import Grid
from gridtide.twin.plant import World
from gridtide.wire.ocpp.actions import Version

START_S: Final = 1_772_445_600.0
"""2026-03-02 10:00 UTC, the border of a demand interval."""
BLOCK_S: Final = 900.0
RATED_KW: Final = 11.0
FALLBACK_KW: Final = 2.0
CAPACITIES_KWH: Final = (40.0, 60.0, 77.0, 100.0)
WATCHED_SHARE: Final = 0.25
"""Of the seeds have a site that watches its grid. There a meter that is lost for 10 s costs all giving for five minutes."""
PROFILES: Final = (
    ("strict", 50.0), ("strict", 60.0), ("default", 50.0), ("default", 60.0), ("vde4105_2018", 50.0),
    ("ieee1547_2018_cat_ii", 60.0), ("ieee1547_2018_cat_i", 60.0),
)  # fmt: skip
CEASE_S, WIRED_RETURN_S = 2.0, 5.0
"""The wired part is the slowest that is legal, and back long before the controller may be: what is seen is the controller."""


class Case(Struct, frozen=True, eq=False):
    """One site to be verified."""

    seed: int
    here: World
    settings: control.Settings
    versions: tuple[Version, ...]
    noise: LinkFaults
    """What the stations' links do on a good day."""


def draw(seed: int, duration_s: float, evses: int) -> Case:
    """The site of `seed`, with a building and stays for `duration_s`; the same seed is the same site.

    Every charger follows at once (model `fast`), so that what is measured is the controller's time.
    """
    luck = random.Random(f"{seed}/case")
    connection_kw = round(luck.uniform(250.0, 500.0))
    fleet_kw = evses * RATED_KW
    # The building alone, its bursts and texture, stays below the connection less what silent stations fall back to.
    highest_kw = 0.75 * (connection_kw - evses * FALLBACK_KW)
    blocks = np.array([luck.uniform(0.25, 1.0) * highest_kw for _ in range(int(duration_s / BLOCK_S) + 2)])
    table = _table(evses)
    here = twin.world(
        table, [evse.MODELS["fast"]] * evses, textured(LoadSeries(START_S, BLOCK_S, blocks), seed),
        _stays(luck, evses, duration_s),
    )  # fmt: skip
    rule = PeakSettings(mode="threshold", limit_kw=round(luck.uniform(0.5, 0.8) * highest_kw), buffer_kw=10.0)
    if luck.random() < 0.5:
        rule = PeakSettings(limit_kw=round(luck.uniform(0.5, 0.8) * highest_kw))
    settings = control.Settings(
        table=table, limits=SiteLimits(transformer_kw=connection_kw, static_building_kw=connection_kw - 0.3 * fleet_kw),
        peak=rule,
    )  # fmt: skip
    versions: tuple[Version, ...] = tuple("2.1" if luck.random() < 0.7 else "2.0.1" for _ in range(evses))
    noise = LinkFaults(latency_s=luck.uniform(0.0, 0.05), jitter_s=luck.uniform(0.0, 0.05))
    drawn = Case(seed, here, settings, versions, noise)
    return drawn if profile(seed) is None else watched(drawn)


def profile(seed: int) -> Profile | None:
    """How the seed's site watches its grid; None: it does not."""
    luck = random.Random(f"{seed}/grid")
    return _drawn_profile(luck) if luck.random() < WATCHED_SHARE else None


def _drawn_profile(luck: random.Random) -> Profile:
    return profile_of(*luck.choice(PROFILES))


def watched(drawn: Case, rules: Profile | None = None, rating_share: float | None = None) -> Case:
    """The same site with a meter that tells voltage and frequency, and a transformer. Already so: unchanged.

    `rules` and `rating_share` (of the connection) are drawn where they are not given.
    """
    if drawn.settings.protection.is_fast:
        return drawn
    luck = random.Random(f"{drawn.seed}/grid")
    luck.random()
    rules = rules or _drawn_profile(luck)
    share = rating_share or luck.uniform(0.85, 1.0)
    grid = Grid(
        nominal_hz=rules.nominal_hz, nominal_v=230.0 if rules.nominal_hz == 50.0 else 277.0, cease_s=CEASE_S,
        return_s=WIRED_RETURN_S,
    )  # fmt: skip
    unit = Transformer(rating_kva=share * drawn.settings.limits.transformer_kw, power_factor=1.0)
    protection = ProtectionSettings(grid=GridSettings(profile=rules, nominal_v=grid.nominal_v), site=unit)
    return structs.replace(
        drawn, here=structs.replace(drawn.here, grid=grid),
        settings=structs.replace(drawn.settings, protection=protection),
    )  # fmt: skip


def _table(size: int) -> EvseTable:
    def full(value: float) -> Floats:
        return np.full(size, value)

    return EvseTable(
        ids=tuple(f"bay-{number}" for number in range(1, size + 1)), charge_kw=full(RATED_KW),
        discharge_kw=full(RATED_KW), least_kw=full(0.5), step_kw=full(0.0), ramp_kw_per_s=full(RATED_KW),
        hold_s=full(60.0), efficiency=full(0.94), fallback_kw=full(FALLBACK_KW),
        phase_share=np.full((size, 3), 1.0 / 3.0), group=np.full(size, -1), storage=np.zeros(size, dtype=np.bool_),
    )  # fmt: skip


def _stays(luck: random.Random, evses: int, duration_s: float) -> list[Arrival]:
    """One vehicle after another at each bay; most are there from the start and bidirectional."""
    made = []
    for row in range(evses):
        at_s = -luck.uniform(60.0, 3600.0) if luck.random() < 0.8 else luck.uniform(0.0, 0.5 * duration_s)
        while at_s < duration_s:
            stay_s = luck.uniform(0.3, 1.5) * 7200.0
            made.append(_stay(luck, row, START_S + at_s, max(stay_s, 60.0 - at_s)))
            at_s += max(stay_s, 60.0 - at_s) + luck.uniform(60.0, 900.0)
    return made


def _stay(luck: random.Random, row: int, came_s: float, stay_s: float) -> Arrival:
    capacity_kwh, soc = luck.choice(CAPACITIES_KWH), luck.uniform(0.3, 0.9)
    target = min(0.95, max(0.3, soc + luck.uniform(-0.35, 0.2)))
    need_kwh = max(0.0, target - soc) * capacity_kwh / 0.94
    told_s = came_s + stay_s * luck.uniform(0.9, 1.3)
    return Arrival(
        f"stay-{row}-{came_s - START_S:.0f}", row, came_s, came_s + stay_s, told_s, capacity_kwh, soc, target, need_kwh,
        luck.random() < 0.85,
    )  # fmt: skip
