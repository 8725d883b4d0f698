"""A site file (TOML) to a typed, frozen configuration; every problem is told at once, with its line."""

import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import structs

from gridtide.app.config_checks import check
from gridtide.app.fields import Fields
from gridtide.app.grid_config import check_grid, grid_notes, protection
from gridtide.app.problems import ConfigError, Problem
from gridtide.app.settings import SiteFile, Station
from gridtide.app.toml_lines import KeyPath, line_index
from gridtide.control import site
from gridtide.control.guard import GuardSettings
from gridtide.control.links import OperatorRule
from gridtide.control.meter import MeterSettings
from gridtide.control.needs import NeedSettings
from gridtide.control.peak import PeakSettings
from gridtide.model.bounds import PRINTABLE_BITS, unbounded
from gridtide.model.demand import DemandInterval
from gridtide.model.fleet import EvseTable, SiteLimits
from gridtide.wire.modbus.registers import RegisterMap, RegisterMapError
from gridtide.wire.modbus.table import MAP_FIELDS, map_from_table

_BUILTIN = "builtin:"
_LARGEST_BYTES = 4_000_000
_PLAUSIBLE = 1.2
"""A meter reading above this many times the connection is not believed (safety case, FT06)."""


class SiteConfig(SiteFile, frozen=True, kw_only=True):
    """A checked site file."""

    source: str
    """Path of the file as it was given."""
    register_map: RegisterMap | None = None
    """Of `[meter]`."""

    def path(self, file: str) -> str:
        """A file named in the configuration: `builtin:...` as it is, others relative to the site file."""
        return file if file.startswith(_BUILTIN) else str(Path(self.source).parent / file)

    def bays(self) -> list[tuple[str, Station]]:
        """Identity and settings of every station, in the order of the table's rows."""
        return [(name, station) for station in self.stations for name in station_ids(station)]

    def table(self) -> EvseTable:
        """The fleet's columns: the stations, then the stationary battery if there is one."""
        return _table(self)

    def interval(self) -> DemandInterval:
        """The billed interval, its borders on the local clock."""
        offset = datetime(2020, 1, 1, tzinfo=ZoneInfo(self.site.timezone)).utcoffset()
        anchor_s = -offset.total_seconds() % self.demand.interval_s if offset is not None else 0.0
        return DemandInterval(float(self.demand.interval_s), self.demand.sub_intervals, anchor_s)

    def limits(self) -> SiteLimits:
        """Hard limits of the connection."""
        grid = self.grid
        return SiteLimits(
            transformer_kw=grid.transformer_kw, import_margin_kw=grid.import_margin_kw, export_kw=grid.export_kw,
            static_building_kw=grid.static_building_kw, group_kw=tuple(group.limit_kw for group in self.groups),
            phase_a=grid.phase_fuse_a, phase_v=grid.phase_v, shed_kw=grid.load_shed_kw,
        )  # fmt: skip

    def settings(self, cycle_s: float) -> site.Settings:
        """What the controller is told, for a decision every `cycle_s` seconds."""
        own, car = self.peak, self.vehicles
        stale_s = self.meter.stale_s if self.meter else 1.0
        return site.Settings(
            table=self.table(),
            limits=self.limits(),
            interval=self.interval(),
            peak=PeakSettings(
                mode=own.mode, limit_kw=own.limit_kw, buffer_kw=own.buffer_kw, margin=own.margin, ratchet=own.ratchet
            ),
            need=NeedSettings(
                floor_soc=car.floor_soc, window_low_soc=car.window_low_soc, window_high_soc=car.window_high_soc,
                reserve_s=car.reserve_s, give_reserve_s=car.give_reserve_s,
            ),
            guard=GuardSettings(),
            meter=MeterSettings(
                stale_s=max(stale_s, 2.0 * cycle_s),
                highest_kw=_PLAUSIBLE * max(self.grid.transformer_kw, self.grid.export_kw),
                generation_kw=self.grid.generation_kw,
            ),
            cycle_s=cycle_s,
            operator=None if self.operator_limit is None else OperatorRule(**structs.asdict(self.operator_limit)),
            protection=protection(self, None),
        )  # fmt: skip

    def live_settings(self, cycle_s: float) -> site.Settings:
        """The same for a real site, whose meter tells voltage and frequency as well."""
        return structs.replace(self.settings(cycle_s), protection=protection(self, self.register_map))

    def notes(self) -> list[str]:
        """What is allowed but probably not meant, in sentences."""
        mute = [s.id for s in self.stations if s.discharge_kw > 0 and s.dialect == "refuse"]
        said = [f'{name}: discharge_kw is set but dialect is "refuse", so it never discharges.' for name in mute]
        if self.meter is None:
            said.append("No [meter]: this file serves studies and the demonstration, not a real site.")
        said += grid_notes(self, self.register_map)
        used = {station.group for station in self.stations} | ({self.battery.group} if self.battery else set())
        said += [f'Group "{group.name}" has no stations.' for group in self.groups if group.name not in used]
        for key, address in (("web", self.server.web), ("ocpp", self.server.ocpp)):
            if not address.startswith(("127.", "localhost:", "[::1]:")):
                said.append(f"server.{key} = {address} can be reached from other machines: keep a firewall before it.")
        return said


def load_site(path: str | Path, overrides: Mapping[KeyPath, object] | None = None) -> SiteConfig:
    """Read a site file; `overrides` replaces keys such as `("peak", "limit_kw")`. Raises `ConfigError` with every problem."""
    source = str(path)
    try:
        size = Path(path).stat().st_size
        data = Path(path).read_bytes() if size <= _LARGEST_BYTES else b""
    except OSError as error:
        raise ConfigError(source, [Problem(0, "", "", f"cannot be read: {error.strerror or error}")]) from error
    if size > _LARGEST_BYTES:
        raise ConfigError(
            source, [Problem(0, "", "", f"is {size} bytes long: a site file has at most {_LARGEST_BYTES}")]
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(source, [Problem(line, "", "", "is not UTF-8 text: save it as UTF-8")]) from error
    return parse_site(text, source, overrides)


def parse_site(text: str, source: str, overrides: Mapping[KeyPath, object] | None = None) -> SiteConfig:
    """The same from text; `source` is the path that problems and relative files are told with."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError is a ValueError; a number of more than 4300 digits is a bare one.
        raise ConfigError(source, [_syntax_problem(str(error), text)]) from error
    if told := unbounded(raw, PRINTABLE_BITS):
        raise ConfigError(source, [Problem(0, "", "", told)])
    lines = line_index(text)
    _override(raw, lines, overrides or {})
    fields = Fields(lines)
    register_map = _register_map(raw, fields)
    read = fields.read(SiteFile, raw)
    check(read, fields)
    check_grid(read, register_map, fields)
    if fields.problems:
        raise ConfigError(source, fields.problems)
    return SiteConfig(**structs.asdict(read), source=source, register_map=register_map)


def station_ids(station: Station) -> list[str]:
    """Identities of the stations of one `[[stations]]` table."""
    if station.count is None:
        return [station.id]
    return [f"{station.id}-{number}" for number in range(1, station.count + 1)]


def _syntax_problem(error: str, text: str) -> Problem:
    """The parser stops at the first; it tells no line where the text ends too early: that is the last one."""
    found = re.search(r"\(at line (\d+), column (\d+)\)", error)
    line = int(found[1]) if found else text.rstrip().count("\n") + 1
    said = re.sub(r"\s*\(at .*\)$", "", error)
    column = f" (column {found[2]})" if found else ""
    return Problem(line, "", "", f"is not TOML: {said}{column}")


def _override(raw: dict[str, Any], lines: dict[KeyPath, int], overrides: Mapping[KeyPath, object]) -> None:
    for path, value in overrides.items():
        table: Any = raw
        for part in path[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table[path[-1]] = value
            lines[path] = 0


def _register_map(raw: dict[str, Any], fields: Fields) -> RegisterMap | None:
    """The map of `[meter]`; its keys are taken out of `raw`."""
    meter = raw.get("meter")
    if not isinstance(meter, dict):
        return None
    rows = {key: meter[key] for key in MAP_FIELDS if key in meter}
    raw["meter"] = {key: value for key, value in meter.items() if key not in MAP_FIELDS}
    try:
        return map_from_table(rows)
    except RegisterMapError as error:
        for text in error.problems:
            path, said = _map_path(text)
            fields.tell(path, None, said)
    return None


def _map_path(text: str) -> tuple[KeyPath, str]:
    """`meter.register[0]: address is ...` to its path and the rest of the sentence."""
    found = re.match(r"(meter(?:\.\w+|\[\d+\])*)(?:: (\w+)(?= is ))?:?\s*", text)
    if found is None:
        return ("meter",), text
    parts = re.findall(r"\w+", found[1]) + ([found[2]] if found[2] else [])
    return tuple(int(p) if p.isdigit() else p for p in parts), text[found.end() :]


def _table(config: SiteConfig) -> EvseTable:
    rows = config.bays()
    groups = {group.name: number for number, group in enumerate(config.groups)}
    volt = config.grid.phase_v
    battery = config.battery
    columns = [
        (s.charge_kw, s.discharge_kw, least_kw(s, volt), _step_kw(s, volt), s.ramp_kw_per_s or s.charge_kw, s.hold_s,
         s.efficiency, s.fallback_kw, float(groups.get(s.group, -1)))
        for _, s in rows
    ]  # fmt: skip
    shares = [share for s in config.stations for share in _phase_shares(s)]
    if battery is not None:
        columns.append(
            (battery.charge_kw, battery.discharge_kw, 0.0, 0.0, max(battery.charge_kw, battery.discharge_kw), 0.0,
             battery.efficiency, 0.0, float(groups.get(battery.group, -1)))
        )  # fmt: skip
        shares.append((1 / 3, 1 / 3, 1 / 3))
    values = np.array(columns, dtype=np.float64).T.copy()
    return EvseTable(
        ids=(*(name for name, _ in rows), *((battery.id,) if battery else ())),
        charge_kw=values[0], discharge_kw=values[1], least_kw=values[2], step_kw=values[3], ramp_kw_per_s=values[4],
        hold_s=values[5], efficiency=values[6], fallback_kw=values[7], phase_share=np.array(shares, dtype=np.float64),
        group=values[8].astype(np.int64), storage=np.arange(len(columns)) >= len(rows),
    )  # fmt: skip


def least_kw(station: Station, phase_v: float) -> float:
    """Smallest power other than zero: the least current on AC, the converter's least power on DC."""
    if station.current == "dc":
        return station.least_kw
    return station.least_a * station.phases * phase_v / 1000.0


def _step_kw(station: Station, phase_v: float) -> float:
    return station.step_a * station.phases * phase_v / 1000.0 if station.current == "ac" else station.step_kw


def _phase_shares(station: Station) -> list[tuple[float, float, float]]:
    """Share of L1, L2, L3 for each station of the table."""
    count = station.count or 1
    if station.phases == 3 or station.current == "dc":
        return [(1 / 3, 1 / 3, 1 / 3)] * count
    first = {"L1": 0, "L2": 1, "L3": 2}.get(station.phase or "rotate")
    on = [number % 3 if first is None else first for number in range(count)]
    return [(float(p == 0), float(p == 1), float(p == 2)) for p in on]
