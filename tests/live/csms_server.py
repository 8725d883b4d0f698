"""A CSMS on a loopback port, with what the live tests look at."""

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
from gridtide.run.csms.service import Csms
from gridtide.run.csms.station import Provision
from gridtide.run.store import MemoryStore
from tests.unit.builders import evse_table

LIVE_LIMIT_S = 20.0
"""A live test that takes longer has failed."""

SecurityProfile: TypeAlias = Literal[1, 2, 3]
PROFILES: Final[tuple[SecurityProfile, ...]] = (1,)
"""Security profiles that the tests' port can be served with."""


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
    """The parts behind the port."""

    def __init__(self, provisions: list[Provision], profile: SecurityProfile = 1) -> None:
        self.profile = profile
        self.clock, self.store = WallClock(), MemoryStore()
        self.table = evse_table(len(provisions), fallback_kw=6.0)
        self.board = EvidenceBoard(self.table)
        self.csms = Csms(self.table, provisions, self.board, self.store, self.clock, ids("c"), lease_s=5.0)
        self.told: list[tuple[str, str, str]] = []
        """Events: code, source, text."""
        self.csms.tell(self.tell)
        self.credentials = Credentials()
        self.passwords = {item.identity: self.credentials.issue(item.identity) for item in provisions}
        self.listener = OcppListener(self.csms, self.credentials, self.tell, "127.0.0.1", 0)

    def tell(self, code: str, source: str, text: str) -> None:
        self.told.append((code, source, text))

    @property
    def codes(self) -> set[str]:
        return {code for code, _, _ in self.told}

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.listener.server.port}/ocpp"

    def connect(self, identity: str) -> Door:
        """How `identity` connects under the security profile that is served."""
        if self.profile != 1:
            raise ValueError(f"security profile {self.profile} is not served here")
        password = self.passwords[identity]
        return Door(self.url, {"Authorization": basic_header(identity, password)}, password)

    def set_power(self, *power_kw: float) -> None:
        """Hand the CSMS a decision of these setpoints."""
        reason = np.zeros(len(power_kw), dtype=np.uint8)
        wanted = np.array(power_kw)
        self.csms.apply(Decision(setpoint_kw=wanted, reason=reason, wish_kw=wanted, lease_s=5.0, state="ok"))


def provision(row: int, **fields: object) -> Provision:
    """Station `bay-<row + 1>` with one EVSE."""
    return Provision(identity=f"bay-{row + 1}", rows={1: row}, **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(*provisions: Provision, profile: SecurityProfile = 1) -> AsyncIterator[Served]:
    """Serve while the body runs, which must not take longer than a live test may."""
    served = Served(list(provisions), profile)
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
