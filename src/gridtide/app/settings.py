"""The sections of a site file: every setting with its unit, bounds and default. `docs/formats.md` shows a whole file."""

from datetime import date
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gridtide.control.grid_profiles import ProfileName
from gridtide.wire.ocpp.dialects import Dialect

Kw = Annotated[float, Meta(ge=0.0, le=50_000.0)]
SomeKw = Annotated[float, Meta(gt=0.0, le=50_000.0)]
StationKw = Annotated[float, Meta(ge=0.0, le=1_000.0)]
SomeStationKw = Annotated[float, Meta(gt=0.0, le=1_000.0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
SomeShare = Annotated[float, Meta(gt=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Name = Annotated[str, Meta(pattern=r"[^\x00-\x1f]{1,100}", extra={"cure": "give a text of 1 to 100 characters"})]
StationId = Annotated[
    str,
    Meta(
        pattern=r"[A-Za-z0-9_.:*|@=-]{1,48}",
        extra={"cure": 'give at most 48 letters, digits or - _ . : without spaces, as "bay" (an OCPP identity)'},
    ),
]
Zone = Annotated[str, Meta(pattern=r"[^\x00-\x1f]{1,100}", extra={"cure": 'give an IANA name, as "Europe/Berlin"'})]
File = Annotated[str, Meta(pattern=r"[^\x00]{1,1000}", extra={"cure": 'give the path of a file, or "builtin:..."'})]
ClockTime = Annotated[
    str, Meta(pattern=r"([01]\d|2[0-3]):[0-5]\d", extra={"cure": 'give a clock time in quotes, as "17:30"'})
]
Address = Annotated[
    str,
    Meta(
        pattern=r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}",
        extra={"cure": 'give address and port in quotes, as "127.0.0.1:8080"'},
    ),
]

HostName = Annotated[
    str,
    Meta(
        pattern=r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253})(:\d{1,5})?",
        extra={"cure": 'give a name as it stands in the address bar, as "site.example" or "10.0.0.5:8080"'},
    ),
]


class Site(Struct, frozen=True, kw_only=True):
    """`[site]`: what the place is called and whose clock it follows."""

    name: Name
    timezone: Zone
    """IANA name, as "Europe/Berlin"."""


class Grid(Struct, frozen=True, kw_only=True):
    """`[grid]`: hard limits of the connection."""

    transformer_kw: SomeKw
    """Highest import."""
    import_margin_kw: Kw = 10.0
    """Planned import never falls below it, unless export is allowed."""
    export_kw: Kw = 0.0
    """Allowed export."""
    static_building_kw: Kw = 0.0
    """Worst-case building load, assumed while the meter is lost."""
    generation_kw: Kw = 0.0
    """Rated power of what generates behind the meter (solar, a generator); more reverse power than that is a wrong sign."""
    phase_fuse_a: Annotated[float, Meta(ge=0.0, le=10_000.0)] = 0.0
    """Fuse per phase of the charging circuits; 0 is no such limit."""
    phase_v: Annotated[float, Meta(ge=90.0, le=300.0)] = 230.0
    """Voltage between phase and neutral."""
    nominal_hz: Literal[50, 60] = 50
    profile: ProfileName = "default"
    """Grid protection, where the meter tells voltage and frequency; "default" is en50549_1 at 50 Hz, ieee1547_2018 at 60 Hz."""
    allow_nonconforming: bool = False
    """Needed for profile "strict"."""
    transformer_kva: Kw = 0.0
    """Rating of the site's transformer, kVA; 0: no thermal model, `transformer_kw` alone holds."""
    power_factor: Annotated[float, Meta(ge=0.5, le=1.0)] = 0.95
    """Assumed at transformers where reactive power is not measured."""
    transformer_ambient_c: Annotated[float, Meta(ge=-40.0, le=60.0)] = 40.0
    """Air around transformers, unless the meter tells `ambient_c`."""
    transformer_tau_s: Annotated[float, Meta(ge=60.0, le=86_400.0)] = 10_800.0
    """Time constant of the oil."""
    load_shed_kw: Kw = 0.0
    """Import that the load-shedding input `load_shed` leaves."""


class Demand(Struct, frozen=True, kw_only=True):
    """`[demand]`: the interval whose average is billed."""

    interval_s: Annotated[int, Meta(ge=60, le=3600)] = 900
    sub_intervals: Annotated[int, Meta(ge=1, le=60)] = 1
    """1: blocks; 3: a window of three sub-intervals that moves by one."""


class Peak(Struct, frozen=True, kw_only=True):
    """`[peak]`: what the fleet holds."""

    limit_kw: SomeKw
    """No billed interval shall end above it."""
    mode: Literal["budget", "threshold", "off"] = "budget"
    buffer_kw: Kw = 50.0
    """Vehicles may give only while the site takes more than limit less buffer."""
    margin: Annotated[float, Meta(ge=0.0, le=0.2)] = 0.004
    """Share of an interval's energy that is kept unused."""
    ratchet: Share = 0.0
    """Share of earlier peaks that is billed anyway."""


class Vehicles(Struct, frozen=True, kw_only=True):
    """`[vehicles]`: what may be done with a driver's battery. Charge is a share, 0..1."""

    floor_soc: Share = 0.20
    """Never discharged below."""
    window_low_soc: Share = 0.40
    """Shaving leaves at least this."""
    window_high_soc: Share = 0.80
    """Vehicles are not charged above it for shaving."""
    reserve_s: Seconds = 900.0
    """Time to spare below which charging goes before the peak."""
    give_reserve_s: Seconds = 2700.0
    """A vehicle gives only with at least this much time to spare."""
    wear_per_kwh: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.06
    """Battery wear per discharged kWh, in the tariff's currency."""


class Driver(Struct, frozen=True, kw_only=True):
    """`[[drivers.token]]`: what is assumed of one driver whose car tells nothing."""

    id_token: Name
    departure: ClockTime | None = None
    energy_kwh: Annotated[float, Meta(ge=0.0, le=500.0)] | None = None
    minimum_soc: Share | None = None
    may_discharge: bool = True


class Drivers(Struct, frozen=True, kw_only=True):
    """`[drivers]`: what is assumed of a driver whose car tells nothing."""

    departure: ClockTime = "17:30"
    energy_kwh: Annotated[float, Meta(ge=0.0, le=500.0)] = 15.0
    """Wanted until departure."""
    minimum_soc: Share = 0.0
    """Charge every driver wants at least, reached first and never used; only where the charge is known."""
    accept_unknown: bool = False
    """Whether cards that nobody registered (`gridtide tokens add`) may charge."""
    token: tuple[Driver, ...] = ()


class Station(Struct, frozen=True, kw_only=True):
    """`[[stations]]`: one charging station, or `count` alike. Powers are magnitudes at the AC side."""

    id: StationId
    """Identity on OCPP; with `count` the stations are id-1, id-2, ..."""
    charge_kw: SomeStationKw
    discharge_kw: StationKw = 0.0
    """0: this station only charges."""
    count: Annotated[int, Meta(ge=1, le=5_000)] | None = None
    name: str = ""
    current: Literal["ac", "dc"] = "ac"
    """Of the plug: an AC station has a least current, a DC one a least power."""
    phases: Literal[1, 3] = 3
    phase: Literal["all", "L1", "L2", "L3", "rotate"] | None = None
    """Where a single-phase station is connected; "rotate": L1, L2, L3, L1, ... (the default with one phase)."""
    least_a: Annotated[float, Meta(ge=0.0, le=63.0)] = 6.0
    """AC: least current other than zero."""
    step_a: Annotated[float, Meta(ge=0.0, le=16.0)] = 0.0
    """AC: step of the current; 0 is continuous."""
    least_kw: StationKw = 0.5
    """DC: least power other than zero."""
    step_kw: StationKw = 0.1
    """DC: step of the power; 0 is continuous. A coarser step sends fewer messages."""
    efficiency: SomeShare = 0.94
    """One way, meter to battery."""
    ramp_kw_per_s: SomeStationKw | None = None
    """Without it: full power within a second."""
    hold_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 60.0
    """Least time between one change of direction and the next."""
    fallback_kw: StationKw = 0.0
    """What it charges with while it is silent."""
    group: str = ""
    """Name of a `[[groups]]` table."""
    dialect: Dialect = "refuse"
    """How a discharge is asked for; "refuse" never does."""
    template: str = ""
    """Dialect "data_transfer": the vendor's message as JSON."""
    security_profile: Literal[1, 2, 3] = 1
    """1: password without TLS, only on addresses named for it; 2: password over TLS; 3: TLS with a client certificate."""
    serial: str = ""
    """Security profile 3: common name of the station's certificate; with `count`, "-1", "-2", ... follow."""
    tls_min: Literal["1.3", "1.2"] = "1.3"
    """Lowest TLS version taken from this station."""
    ocpp: Literal["2.0.1", "2.1"] = "2.0.1"
    password_file: str = ""
    """File (mode 0600) with the station's password."""
    model: Literal["fast", "measured_v2g"] = "measured_v2g"
    """How the simulated station follows its setpoint."""


class Group(Struct, frozen=True, kw_only=True):
    """`[[groups]]`: a circuit, feeder or transformer that several stations share."""

    name: Name
    limit_kw: SomeKw
    transformer_kva: Kw = 0.0
    """Rating of a transformer of its own, kVA; 0: no thermal model."""


class Battery(Struct, frozen=True, kw_only=True):
    """`[battery]`: a stationary battery beside the vehicles."""

    capacity_kwh: Annotated[float, Meta(gt=0.0, le=100_000.0)]
    charge_kw: SomeKw
    discharge_kw: SomeKw
    id: StationId = "battery"
    efficiency: SomeShare = 0.96
    start_soc: Share = 0.5
    group: str = ""
    model: Literal["fast", "measured_v2g"] = "fast"


class Meter(Struct, frozen=True, kw_only=True):
    """`[meter]`: the Modbus meter at the connection point; further keys make its register map."""

    host: Name
    port: Port = 502
    stale_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 1.0
    """Age after which the meter counts as lost."""


Align = Literal["weekday", "none"]


class Load(Struct, frozen=True, kw_only=True):
    """`[load]`: the building's load, for studies and for the demonstration."""

    file: File = "builtin:load"
    scale: Annotated[float, Meta(gt=0.0, le=1e6)] = 1.0
    """Factor on every value: 0.001 for a file in W."""
    texture: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.03
    """Noise within an interval, share of the power; the interval's mean stays."""
    bursts_per_h: Annotated[float, Meta(ge=0.0, le=60.0)] = 2.0
    """Short bursts to 12 % of the power."""
    align: Align = "weekday"
    """"weekday": data of another year is moved by whole weeks; "none": only the same instants are used."""


class Pv(Struct, frozen=True, kw_only=True):
    """`[pv]`: generation behind the meter, kW >= 0."""

    file: File
    scale: Annotated[float, Meta(gt=0.0, le=1e6)] = 1.0
    align: Align = "weekday"


class Sessions(Struct, frozen=True, kw_only=True):
    """`[sessions]`: charging sessions as they were recorded."""

    file: File = "builtin:sessions"
    departure: Literal["recorded", "told"] = "recorded"
    """What the controller is told: when the driver really left, or what the driver had said (and often did not do)."""


class TariffFile(Struct, frozen=True, kw_only=True):
    """`[tariff]`: what energy and demand cost."""

    file: File = "builtin:tariff"


class Study(Struct, frozen=True, kw_only=True):
    """`[study]`: what `gridtide simulate` runs unless options say otherwise."""

    start: date = date(2019, 5, 1)
    """First day, local time."""
    days: Annotated[int, Meta(ge=1, le=366)] = 31
    step_s: Annotated[int, Meta(ge=1, le=900)] = 60
    seed: Annotated[int, Meta(ge=0, le=2**31)] = 1
    """Of what data does not tell: battery sizes, charge at arrival, noise of the load."""


class Planner(Struct, frozen=True, kw_only=True):
    """`[planner]`: foresight: what every vehicle does over the hours ahead, and which peak to hold."""

    enabled: bool = False
    """Plan ahead. Without it the fast controller goes by the limit of `[peak]` alone."""
    reach_h: Annotated[float, Meta(ge=4.0, le=48.0)] = 24.0
    """How far ahead."""
    load_level: Annotated[float, Meta(ge=0.5, le=0.95)] = 0.75
    """Quantile of the expected load that the peak is planned for: higher holds a higher peak and gives less."""
    history_days: Annotated[int, Meta(ge=0, le=400)] = 120
    """Studies: days of load and sessions before the first day that the forecast may know."""


class Server(Struct, frozen=True, kw_only=True):
    """`[server]`: where the page and the stations find us."""

    web: Address = "127.0.0.1:8080"
    ocpp: Address = "127.0.0.1:9000"
    """Security profile 1, without TLS: loopback, or an address inside a trusted network that `profile1` allows."""
    profile1: bool = False
    """Whether stations may connect without TLS on an address other machines reach (a trusted network or VPN)."""
    ocpp_tls: Address | None = None
    """Security profiles 2 and 3, as "0.0.0.0:9443"; needs `pki`."""
    tls_conformance: bool = False
    """Also offer stations TLS 1.2 with the two RSA suites OCPP names, which have no forward secrecy: for a test, not for use."""
    pki: File = "pki"
    """Folder with the station-side certificates, as `gridtide pki init` makes it; relative to the site file."""
    tls_cert: File | None = None
    """Certificate chain (PEM) of the page and API; with `tls_key` they are served by HTTPS."""
    tls_key: File | None = None
    """Its private key, mode 0600."""
    address: str = ""
    """Address of the page as drivers' phones reach it, as "https://site.example"; links and QR codes begin with it."""
    files: tuple[HostName, ...] = ()
    """Hosts stations may be sent to for firmware, logs and network profiles."""
    allow_remote: bool = False
    """Whether the page may listen where other machines reach it; they sign in, also to read."""
    names: tuple[HostName, ...] = ()
    """Further names under which browsers open the page, as "site.example" or "site.example:8443"."""
    concurrency_limit: Annotated[int, Meta(ge=1, le=10_000)] = 200
    """Calls of people to stations under way at once; ten times as many wait. Setpoints and stops do not wait for them."""


class Store(Struct, frozen=True, kw_only=True):
    """`[store]`: where everything is kept."""

    path: File = "gridtide.db"
    """Relative to the site file."""
    keep_transactions_days: Annotated[int, Meta(ge=0, le=9_000)] = 0
    """Ended transactions older than this are deleted, once a day; 0 keeps them for ever."""
    keep_telemetry_days: Annotated[int, Meta(ge=0, le=9_000)] = 400
    """Measured values older than this are deleted, once a day; 0 keeps them for ever."""
    keep_decisions_days: Annotated[int, Meta(ge=0, le=9_000)] = 30
    """Control cycles older than this cannot be replayed any more; 0 keeps no log of decisions."""
    keep_decisions_mb: Annotated[int, Meta(ge=10, le=1_000_000)] = 500
    """Size of the log of decisions at which its oldest part is deleted earlier."""
    backup_folder: File | None = None
    """Where copies of the store are kept, relative to the site file; left out: beside the store. Another disk is better."""
    backup_minutes: Annotated[int, Meta(ge=0, le=10_080)] = 60
    """Minutes between two copies, which are also made at every orderly end; 0 makes none."""
    keep_backups: Annotated[int, Meta(ge=1, le=1_000)] = 6
    """How many of these copies are kept; the newest."""


class OperatorLimit(Struct, frozen=True, kw_only=True):
    """`[operator_limit]`: a limit that the grid operator's system sends, with a heartbeat."""

    failsafe_kw: Kw
    """Import that holds while the operator is silent."""
    failsafe_export_kw: Kw | None = None
    """Export that holds then; without it, that of `[grid]`."""
    lost_after_s: Annotated[float, Meta(ge=5.0, le=3600.0)] = 120.0
    """Silence after which the operator counts as lost."""
    failsafe_s: Seconds = 7200.0
    """Least time that the failsafe limit holds while nothing is heard."""
    after_failsafe: Literal["hold", "lift"] = "hold"
    """What follows while still nothing is heard: the failsafe limit holds on, or it is lifted and an alarm tells so."""
    return_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 120.0
    """Time of unbroken heartbeat after which the failsafe limit ends without a new limit."""


class Watchdog(Struct, frozen=True, kw_only=True):
    """`[watchdog]`: what happens when the program itself hangs."""

    exit_after_s: Annotated[float, Meta(ge=3.0, le=600.0)] = 10.0
    """A control loop that stands still for so long ends the program, so that its supervisor starts it again."""


class Log(Struct, frozen=True, kw_only=True):
    """`[log]`: what `gridtide run` writes to stderr."""

    format: Literal["text", "json"] = "text"
    """"json": one JSON object a line; the option `--log-format` goes before it."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    changes: bool = True
    """Whether every change of a decision is a line."""


class Notify(Struct, frozen=True, kw_only=True):
    """`[notify]`: alarms go to a webhook when they are raised and when they are over."""

    url: Annotated[str, Meta(pattern=r"https?://[!-~]{1,1990}", extra={"cure": 'give "https://host/path"'})]
    """HTTPS, or HTTP on this machine."""
    secret_file: File
    """File (mode 0600) with the secret that signs every message; relative to the site file."""
    severities: tuple[Literal["info", "warning", "alarm"], ...] = ("alarm", "warning")
    """Which events are told."""
    hosts: tuple[HostName, ...] = ()
    """Hosts inside your network, or on another port than 443, that `url` may name."""
    timeout_s: Annotated[float, Meta(ge=1.0, le=60.0)] = 10.0
    """Time that the receiver has to answer."""


class SiteFile(Struct, frozen=True, kw_only=True):
    """A whole site file."""

    site: Site
    grid: Grid
    peak: Peak
    stations: tuple[Station, ...]
    demand: Demand = Demand()
    vehicles: Vehicles = Vehicles()
    drivers: Drivers = Drivers()
    groups: tuple[Group, ...] = ()
    battery: Battery | None = None
    meter: Meter | None = None
    load: Load = Load()
    pv: Pv | None = None
    sessions: Sessions = Sessions()
    tariff: TariffFile = TariffFile()
    study: Study = Study()
    planner: Planner = Planner()
    server: Server = Server()
    store: Store = Store()
    log: Log = Log()
    notify: Notify | None = None
    operator_limit: OperatorLimit | None = None
    watchdog: Watchdog = Watchdog()
