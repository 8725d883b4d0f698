"""A CSMS on loopback ports, plain and TLS, with what the live tests look at."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np

from gridtide.model.decision import Decision
from gridtide.run.assembly import OcppListener, ids
from gridtide.run.clock import WallClock
from gridtide.run.credentials import Credentials, basic_header
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.registry import EvseEntry, Registry, StationEntry
from gridtide.run.csms.service import Csms
from gridtide.run.csms.station import Provision
from gridtide.run.doors import RegistryDoors
from gridtide.run.ocpp_server import Listen
from gridtide.run.pki import CSMS_ROOTS, Pki
from gridtide.run.pki_index import station_file
from gridtide.run.store import MemoryStore
from gridtide.run.tls import StationTls
from tests.unit.builders import evse_table

LIVE_LIMIT_S = 20.0
"""A live test that takes longer has failed."""

SecurityProfile: TypeAlias = Literal[1, 2, 3]
PROFILES: Final[tuple[SecurityProfile, ...]] = (1, 2, 3)
"""Security profiles that the tests' stations can be registered with."""


class Door(msgspec.Struct, frozen=True):
    """What a station needs to come in."""

    url: str
    """Without the identity."""
    headers: dict[str, str]
    password: str | None = None
    """None where the certificate stands for it."""
    tls: ssl.SSLContext | None = None
    files: dict[str, str] = {}
    """Paths of PEM files for clients that take files: `ca`, and with profile 3 `cert` and `key`."""


class Served:
    """The parts behind the ports."""

    def __init__(self, provisions: list[Provision], profile: SecurityProfile, pki: Pki | None) -> None:
        self.profile, self.pki = profile, pki
        self.clock, self.store = WallClock(), MemoryStore()
        self.table = evse_table(len(provisions), fallback_kw=6.0)
        self.board = EvidenceBoard(self.table)
        self.registry = Registry(self.store, [_registered(item, profile) for item in provisions])
        self.csms = Csms(
            self.table, provisions, self.board, self.store, self.clock, ids("c"), lease_s=5.0, registry=self.registry
        )
        self.told: list[tuple[str, str, str]] = []
        """Events: code, source, text."""
        self.csms.tell(self.tell)
        self.credentials = Credentials()
        self.passwords = {item.identity: self.credentials.issue(item.identity) for item in provisions}
        secure = () if pki is None else (Listen("127.0.0.1", 0, StationTls(pki.tls_settings())),)
        self.listener = OcppListener(
            self.csms, self.credentials, self.tell, "127.0.0.1", 0, more=secure, door=RegistryDoors(self.registry.stations),
            identity_of_serial=self.registry.by_serial,
        )  # fmt: skip

    def tell(self, code: str, source: str, text: str) -> None:
        self.told.append((code, source, text))

    @property
    def codes(self) -> set[str]:
        return {code for code, _, _ in self.told}

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.listener.server.port}/ocpp"

    def connect(self, identity: str, profile: SecurityProfile | None = None) -> Door:
        """How `identity` connects under the security profile it is registered with, or tries to under another."""
        wanted = profile or self.profile
        password = None if wanted == 3 else self.passwords[identity]
        headers = {} if password is None else {"Authorization": basic_header(identity, password)}
        if wanted == 1:
            return Door(self.url, headers, password)
        assert self.pki is not None, "TLS is served only with a PKI"
        files = {"ca": str(self.pki.folder / CSMS_ROOTS)}
        if wanted == 3:
            files |= {
                name: str(self.pki.folder / station_file(serial_of(identity), ending))
                for name, ending in (("cert", "crt"), ("key", "key"))
            }
        tls = ssl.create_default_context(cafile=files["ca"])
        if wanted == 3:
            tls.load_cert_chain(files["cert"], files["key"])
        return Door(f"wss://127.0.0.1:{self.listener.server.ports[1]}/ocpp", headers, password, tls, files)

    def set_power(self, *power_kw: float) -> None:
        """Hand the CSMS a decision of these setpoints."""
        reason = np.zeros(len(power_kw), dtype=np.uint8)
        wanted = np.array(power_kw)
        self.csms.apply(Decision(setpoint_kw=wanted, reason=reason, wish_kw=wanted, lease_s=5.0, state="ok"))


def provision(row: int, **fields: object) -> Provision:
    """Station `bay-<row + 1>` with one EVSE."""
    return Provision(identity=f"bay-{row + 1}", rows={1: row}, **fields)  # type: ignore[arg-type]


def serial_of(identity: str) -> str:
    """Serial number of a station, the common name of its certificate."""
    return f"SN-{identity}"


def _registered(item: Provision, profile: SecurityProfile) -> StationEntry:
    return StationEntry(
        identity=item.identity, serial=serial_of(item.identity), security_profile=profile, dialect=item.dialect,
        evses=tuple(EvseEntry(id=evse_id) for evse_id in item.rows) or (EvseEntry(id=1),), template=item.template,
        discharge_opt_in=item.discharge_opt_in, from_file=True,
    )  # fmt: skip


@asynccontextmanager
async def serving(
    *provisions: Provision, profile: SecurityProfile = 1, pki: Pki | None = None
) -> AsyncIterator[Served]:
    """Serve while the body runs, which must not take longer than a live test may; with `pki` on plain ws and on TLS."""
    served = Served(list(provisions), profile, pki)
    ticks = asyncio.ensure_future(served.csms.tick_forever(0.05))
    await served.listener.server.start()
    try:
        async with asyncio.timeout(LIVE_LIMIT_S):
            yield served
    finally:
        ticks.cancel()
        await served.listener.server.close()


async def until(holds: Callable[[], object], what: str) -> None:
    """Give way to others until something is the case; LIVE_LIMIT_S bounds the wait of the whole test."""
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never: {what}")
