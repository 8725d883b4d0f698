"""A CSMS on a loopback port, with what the live tests look at."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np

from gridtide.model.decision import Decision
from gridtide.run.assembly import OcppListener, ids
from gridtide.run.clock import WallClock
from gridtide.run.credentials import Credentials
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.service import Csms
from gridtide.run.csms.station import Provision
from gridtide.run.store import MemoryStore
from tests.unit.builders import evse_table

LIVE_LIMIT_S = 20.0
"""A live test that takes longer has failed."""


class Served:
    """The parts behind the port."""

    def __init__(self, provisions: list[Provision]) -> None:
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

    def set_power(self, *power_kw: float) -> None:
        """Hand the CSMS a decision of these setpoints."""
        reason = np.zeros(len(power_kw), dtype=np.uint8)
        wanted = np.array(power_kw)
        self.csms.apply(Decision(setpoint_kw=wanted, reason=reason, wish_kw=wanted, lease_s=5.0, state="ok"))


def provision(row: int, **fields: object) -> Provision:
    """Station `bay-<row + 1>` with one EVSE."""
    return Provision(identity=f"bay-{row + 1}", rows={1: row}, **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(*provisions: Provision) -> AsyncIterator[Served]:
    """Serve while the body runs, which must not take longer than a live test may."""
    served = Served(list(provisions))
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
