"""What a site file's settings must be to each other; problems are noted in `Fields`. Unreadable numbers are nan and pass."""

from collections import Counter
from zoneinfo import ZoneInfo

from gridtide.app.fields import Fields
from gridtide.app.settings import SiteFile, Station
from gridtide.app.toml_lines import KeyPath
from gridtide.app.web.auth import is_loopback
from gridtide.run.csms.registry import read_template
from gridtide.run.webhook import check_webhook

_MOST_ROWS = 10_000


def check(config: SiteFile, fields: Fields) -> None:
    """Note every contradiction."""
    _zone(config, fields)
    _demand_and_peak(config, fields)
    _vehicles(config, fields)
    _names(config, fields)
    for number, station in enumerate(config.stations):
        _station(config, station, ("stations", number), fields)
    _study_and_servers(config, fields)
    _notify(config, fields)


def _notify(config: SiteFile, fields: Fields) -> None:
    own = config.notify
    if own is None or not own.url:
        return
    try:
        check_webhook(own.url, own.hosts)
    except ValueError as error:
        # The message names the field itself, and hides what stands before an @.
        fields.tell(("notify", "url"), None, str(error).removeprefix("notify.url "))


def _zone(config: SiteFile, fields: Fields) -> None:
    zone = config.site.timezone
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError, RecursionError):
        if zone:
            fields.tell(("site", "timezone"), zone, 'is not a time zone: give an IANA name, as "Europe/Berlin"')


def _demand_and_peak(config: SiteFile, fields: Fields) -> None:
    demand, peak, grid = config.demand, config.peak, config.grid
    if (
        demand.interval_s
        and demand.sub_intervals
        and (3600 % demand.interval_s or demand.interval_s % demand.sub_intervals)
    ):
        if 3600 % demand.interval_s:
            fields.tell(("demand", "interval_s"), demand.interval_s, "give seconds that divide an hour, as 900")
        else:
            cure = f"give a number that divides the interval of {demand.interval_s} s"
            fields.tell(("demand", "sub_intervals"), demand.sub_intervals, cure)
    if peak.buffer_kw >= peak.limit_kw:
        fields.tell(("peak", "buffer_kw"), peak.buffer_kw, f"give less than limit_kw ({peak.limit_kw:g})")
    if peak.limit_kw > grid.transformer_kw:
        text = f"is above grid.transformer_kw ({grid.transformer_kw:g}): give less, in kW"
        fields.tell(("peak", "limit_kw"), peak.limit_kw, text)
    if grid.import_margin_kw >= grid.transformer_kw:
        text = f"give less than transformer_kw ({grid.transformer_kw:g})"
        fields.tell(("grid", "import_margin_kw"), grid.import_margin_kw, text)
    operator = config.operator_limit
    if operator is not None and operator.failsafe_kw > grid.transformer_kw:
        text = f"is above grid.transformer_kw ({grid.transformer_kw:g}): give what the operator allows, in kW"
        fields.tell(("operator_limit", "failsafe_kw"), operator.failsafe_kw, text)
    if grid.static_building_kw > grid.transformer_kw:
        text = f"give at most transformer_kw ({grid.transformer_kw:g})"
        fields.tell(("grid", "static_building_kw"), grid.static_building_kw, text)


def _vehicles(config: SiteFile, fields: Fields) -> None:
    rules = config.vehicles
    if rules.floor_soc >= rules.window_low_soc:
        text = f"give less than window_low_soc ({rules.window_low_soc:g})"
        fields.tell(("vehicles", "floor_soc"), rules.floor_soc, text)
    if rules.window_low_soc >= rules.window_high_soc:
        text = f"give less than window_high_soc ({rules.window_high_soc:g})"
        fields.tell(("vehicles", "window_low_soc"), rules.window_low_soc, text)


def _names(config: SiteFile, fields: Fields) -> None:
    """Identities, groups and tokens that stand twice; a fleet without rows or with too many."""
    ids: Counter[str] = Counter()
    total = sum(station.count or 1 for station in config.stations)
    if not config.stations and not any(p.field.startswith("stations") for p in fields.problems):
        fields.tell(("stations",), None, "give at least one [[stations]] table")
    if total > _MOST_ROWS:
        fields.tell(("stations",), None, f"{total} stations: one site has at most {_MOST_ROWS}")
        return
    for number, station in enumerate(config.stations):
        names = [station.id] if station.count is None else [f"{station.id}-{k + 1}" for k in range(station.count)]
        doubled = [name for name in names if ids[name] and station.id]
        if doubled:
            fields.tell(("stations", number, "id"), station.id, f'"{doubled[0]}" is there already: give another id')
        ids.update(names)
    if config.battery is not None and ids[config.battery.id]:
        fields.tell(("battery", "id"), config.battery.id, "a station has this id: give another")
    _doubles([group.name for group in config.groups], "groups", "name", fields)
    _doubles([driver.id_token for driver in config.drivers.token], "drivers.token", "id_token", fields)
    if config.battery is not None:
        _group(config, config.battery.group, ("battery", "group"), fields)


def _doubles(names: list[str], table: str, key: str, fields: Fields) -> None:
    for number, name in enumerate(names):
        if name and name in names[:number]:
            fields.tell((*table.split("."), number, key), name, "is there already: give another or remove it")


def _group(config: SiteFile, name: str, path: KeyPath, fields: Fields) -> None:
    known = [group.name for group in config.groups if group.name]
    if name and name not in known:
        there = "groups are " + ", ".join(f'"{k}"' for k in known) if known else "there is no [[groups]] table"
        fields.tell(path, name, f"names no group: {there}")


def _station(config: SiteFile, station: Station, path: KeyPath, fields: Fields) -> None:
    _group(config, station.group, (*path, "group"), fields)
    ac = station.current == "ac"
    volt = config.grid.phase_v
    least = station.least_a * station.phases * volt / 1000.0 if ac else station.least_kw
    if least > station.charge_kw:
        cure = "give the rated power in kW, fewer phases or a lower least_a" if ac else "give least_kw below it"
        fields.tell((*path, "charge_kw"), station.charge_kw, f"is below the least power of {least:g} kW: {cure}")
    if station.fallback_kw > station.charge_kw:
        fields.tell((*path, "fallback_kw"), station.fallback_kw, f"give at most charge_kw ({station.charge_kw:g})")
    if station.phases == 1 and station.phase == "all" and ac:
        fields.tell((*path, "phase"), station.phase, 'a single-phase station is on "L1", "L2", "L3" or "rotate"')
    if station.phase not in (None, "all") and (station.phases == 3 or not ac):
        fields.tell(
            (*path, "phase"), station.phase, "only a single-phase AC station has one: give phases = 1 or leave it out"
        )
    _dialect(station, path, fields)
    if station.security_profile == 3 and not station.serial:
        fields.tell((*path, "serial"), station.serial, "security profile 3 needs the common name of its certificate")
    if station.security_profile > 1 and config.server.ocpp_tls is None:
        cure = "needs TLS: give server.ocpp_tls and run `gridtide pki init`"
        fields.tell((*path, "security_profile"), station.security_profile, cure)


def _dialect(station: Station, path: KeyPath, fields: Fields) -> None:
    if station.dialect == "data_transfer" and not station.template:
        fields.tell(
            (*path, "template"), station.template, 'dialect "data_transfer" needs the vendor\'s message as JSON'
        )
    try:
        read_template(station.template)
    except ValueError as error:
        fields.tell((*path, "template"), station.template, str(error))
    needed = {"v21": "2.1", "v201": "2.0.1"}.get(station.dialect.split("_")[0])
    if needed is not None and station.ocpp != needed:
        fields.tell((*path, "dialect"), station.dialect, f'needs ocpp = "{needed}", here it is "{station.ocpp}"')
    if station.dialect != "refuse" and station.discharge_kw == 0.0:
        fields.tell((*path, "dialect"), station.dialect, "asks for a discharge: give discharge_kw, or leave it out")


def _study_and_servers(config: SiteFile, fields: Fields) -> None:
    step, demand = config.study.step_s, config.demand
    sub_s = demand.interval_s / max(demand.sub_intervals, 1)
    if step and demand.interval_s and sub_s % step:
        fields.tell(("study", "step_s"), step, f"give seconds that divide the demand interval's {sub_s:g} s")
    if not 1970 < config.study.start.year < 2200 and config.study.start.year != 1:
        fields.tell(("study", "start"), config.study.start, "give a day between 1971 and 2199")
    ports: dict[str, str] = {}
    server = config.server
    for key, address in (("web", server.web), ("ocpp", server.ocpp), ("ocpp_tls", server.ocpp_tls or "")):
        port = int(address.rpartition(":")[2] or 0)
        if address and address in ports.values():
            fields.tell(("server", key), address, "another listener has this address already: give another port")
        if address and not 1 <= port <= 65_535:
            fields.tell(("server", key), address, "give a port from 1 to 65535")
        ports[key] = address
    if (server.tls_cert is None) != (server.tls_key is None):
        fields.tell(("server", "tls_cert"), server.tls_cert, "give tls_cert and tls_key together, or neither")
    host = server.ocpp.rpartition(":")[0].strip("[]")
    if server.ocpp and not server.profile1 and not is_loopback(host) and host != "localhost":
        cure = "others can reach it without TLS: use ocpp_tls, or set profile1 = true inside a trusted network"
        fields.tell(("server", "ocpp"), server.ocpp, cure)
