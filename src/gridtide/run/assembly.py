"""Puts a site together: plant, stations, CSMS, meter and loop, over memory links (virtual time) or over real sockets."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count

from msgspec import Struct

from gridtide.control import site as control
from gridtide.model.fleet import EvseTable
from gridtide.run import memory
from gridtide.run.certificate_watch import CertificateWatch
from gridtide.run.clock import Clock, WallClock
from gridtide.run.credentials import Credentials
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.service import Csms
from gridtide.run.csms.station import OnEvent, Provision
from gridtide.run.doors import Door
from gridtide.run.emulator.site import EmulatedSite
from gridtide.run.emulator.station import Dial, EmulatedStation
from gridtide.run.login_guard import GuardLimits, LoginGuard, Reason
from gridtide.run.modbus import MemoryMeter
from gridtide.run.net import Link, memory_link
from gridtide.run.ocpp_server import Greeting, Listen, OcppServer
from gridtide.run.simloop import Trace
from gridtide.run.site import Meter, SiteService
from gridtide.run.store import Store
from gridtide.run.tls import Expiry, StationTls
from gridtide.run.websocket import WebSocketLink, dial
from gridtide.twin.plant import Plant, World
from gridtide.wire.modbus.registers import Register, RegisterMap
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.dialects import Dialect

SITE_METER = RegisterMap(
    "gridtide_site", 1,
    (Register("power_kw", 0, "int32", unit="W"), Register("import_kwh", 2, "float64", unit="kWh")),
    source="the emulated meter's own map: signed watts and the import register",
)  # fmt: skip
VERSIONS: dict[str, Version] = {"ocpp2.1": "2.1", "ocpp2.0.1": "2.0.1"}
BY_ANYONE: frozenset[Reason] = frozenset(
    {"malformed identity", "unknown station", "no credentials", "wrong password", "too many attempts"}
)
"""Refusals that any stranger can cause as often as he likes."""
MAX_TOLD = 1024
DIALECTS: dict[Version, Dialect] = {"2.1": "v21_setpoint", "2.0.1": "v201_negative_limit"}


class Parts(Struct, frozen=True, eq=False):
    """A site under way."""

    site: SiteService
    csms: Csms
    board: EvidenceBoard
    plant: EmulatedSite | None


class Controller(Struct, frozen=True, eq=False):
    """What decides: evidence, management system and site loop."""

    site: SiteService
    csms: Csms
    board: EvidenceBoard


def ids(prefix: str) -> Callable[[], str]:
    """Unique, deterministic message ids."""
    numbers = count(1)
    return lambda: f"{prefix}{next(numbers)}"


def provisions(table: EvseTable, versions: tuple[Version, ...], rows: range | None = None) -> list[Provision]:
    """One provisioned station per row, its dialect the natural one of its version."""
    return [
        Provision(
            identity=table.ids[row], rows={1: row}, dialect=DIALECTS[version], discharge_opt_in=version == "2.0.1"
        )
        for row, version in zip(rows or range(table.size), versions, strict=True)
    ]


def in_memory(
    here: World,
    plant: Plant,
    settings: control.Settings,
    store: Store,
    clock: Clock,
    *,
    versions: tuple[Version, ...],
    period: Callable[[float], tuple[float, float]],
    state: control.State | None = None,
    latency_s: float = 0.0,
    report_s: float = 0.5,
    tick_offset_s: float = 1e-3,
    trace: Trace | None = None,
) -> Parts:
    """The wire tier: real sessions, codecs and store over in-memory links, on whatever clock the loop has."""

    def to(identity: str, version: Version) -> Dial:
        async def connect() -> Link:
            ours, theirs = memory_link(clock, latency_s)
            served.append(asyncio.ensure_future(made.csms.serve(identity, version, theirs)))
            return ours

        return connect

    served: list[asyncio.Task[None]] = []
    stations = {
        row: EmulatedStation(
            name,
            version,
            to(name, version),
            clock,
            ids(f"s{row}-"),
            random.Random(row),
            float(here.table.fallback_kw[row]),
        )
        for row, (name, version) in enumerate(zip(here.table.ids, versions, strict=True))
    }
    emulated = EmulatedSite(here, plant, stations, clock, period_s=settings.cycle_s, report_s=report_s)
    meter = MemoryMeter(emulated.meter, SITE_METER, clock)
    made = controller(
        here.table, settings, store, clock, meter, versions=versions, period=period, state=state,
        tick_offset_s=tick_offset_s, trace=trace,
    )  # fmt: skip
    return Parts(made.site, made.csms, made.board, emulated)


def controller(
    table: EvseTable,
    settings: control.Settings,
    store: Store,
    clock: Clock,
    meter: Meter,
    *,
    versions: tuple[Version, ...],
    period: Callable[[float], tuple[float, float]],
    state: control.State | None = None,
    tick_offset_s: float = 1e-3,
    trace: Trace | None = None,
) -> Controller:
    """A controller that serves links one hands it (`csms.serve`); nothing runs yet."""
    memory.set_right(clock, store)
    board = EvidenceBoard(table)
    csms = Csms(table, provisions(table, versions), board, store, clock, ids("c"), lease_s=settings.guard.lease_s)
    site = SiteService(
        settings, board, csms, meter, store, clock, period=period, state=state, trace=trace, tick_offset_s=tick_offset_s
    )
    return Controller(site, csms, board)


class OcppListener:
    """Serves authenticated stations; counts and tells refused ones."""

    def __init__(
        self,
        csms: Csms,
        credentials: Credentials,
        on_event: OnEvent,
        host: str,
        port: int,
        *,
        tls: StationTls | None = None,
        more: Sequence[Listen] = (),
        door: Door | None = None,
        identity_of_serial: Callable[[str], str | None] | None = None,
        profile1_addresses: frozenset[str] = frozenset(),
        limits: GuardLimits | None = None,
        clock: Clock | None = None,
        expiries: Callable[[float], list[Expiry]] | None = None,
    ) -> None:
        """As `OcppServer`; `limits` are the login guard's, `expiries` the watch's. Raises CredentialError for plain ws
        where it is not meant."""
        self._csms, self._on_event = csms, on_event
        self._clock = clock or WallClock()
        self.refused = 0
        self._told: OrderedDict[tuple[str, Reason], None] = OrderedDict()
        self.guard = LoginGuard(self._clock, self._tell, limits)
        self.server = OcppServer(
            credentials, self._serve, lambda _identity, _peer: None, host=host, port=port, tls=tls, more=more, door=door,
            identity_of_serial=identity_of_serial, guard=self.guard, clock=clock, profile1_addresses=profile1_addresses,
            on_tls_failed=lambda text: on_event("security", "ocpp", text),
        )  # fmt: skip
        self.watch = CertificateWatch(
            self.server, self._clock, lambda text: on_event("security", "ocpp", text), expiries
        )

    async def _serve(self, greeting: Greeting, link: WebSocketLink) -> None:
        profile = greeting.security_profile
        if await self._csms.registry.finish_move(greeting.identity, profile, self._clock.wall()):
            text = f"{greeting.identity} now uses security profile {profile}; the one before is refused."
            self._on_event("security", greeting.identity, text)
        await self._csms.serve(greeting.identity, VERSIONS[greeting.version], link)

    def _tell(self, identity: str, peer: str, reason: Reason) -> None:
        """Raise an event for the 1st, 10th, 100th … refusal, and once for each station that a setting keeps out."""
        self.refused += 1
        setting = reason not in BY_ANYONE and (identity, reason) not in self._told
        if setting:
            self._told[identity, reason] = None
            if len(self._told) > MAX_TOLD:
                self._told.popitem(last=False)
        if setting or self.refused in (1, 10, 100, 1_000) or self.refused % 10_000 == 0:
            text = f"Login refused for {identity or '?'!r} from {peer}: {reason} ({self.refused} so far)."
            self._on_event("security", "ocpp", text)


def socket_stations(
    table: EvseTable,
    versions: tuple[Version, ...],
    passwords: dict[str, str],
    url: str,
    clock: Clock,
    rows: range,
) -> dict[int, EmulatedStation]:
    """Emulated stations that dial a real CSMS."""

    def to(identity: str, version: Version) -> Dial:
        async def connect() -> Link:
            return await dial(url, identity, passwords[identity], f"ocpp{version}")

        return connect

    return {
        row: EmulatedStation(
            table.ids[row], version, to(table.ids[row], version), clock, ids(f"s{row}-"), random.Random(row),
            float(table.fallback_kw[row]),
        )
        for row, version in zip(rows, versions, strict=True)
    }  # fmt: skip
