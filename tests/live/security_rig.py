"""A CSMS behind both doors, plain ws and TLS, with a small PKI; and the clients that knock."""

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake
from websockets.typing import Subprotocol

from gridtide.run.assembly import OcppListener
from gridtide.run.credentials import basic_header
from gridtide.run.doors import StationDoor
from gridtide.run.login_guard import GuardLimits
from gridtide.run.ocpp_server import Listen
from gridtide.run.pki import CSMS_ROOTS, Pki
from gridtide.run.tls import StationTls
from tests.live.csms_server import Served, provision, serving

NO_LIMITS = GuardLimits(address_failures=1e9, identity_failures=1e9, identity_connects=1e9)
CUT_OFF = (OSError, EOFError, InvalidHandshake)
"""What a client sees when TLS, or the listener, wants nothing of it."""


class Doors:
    """Doors that a test sets as it likes."""

    def __init__(self, **doors: StationDoor) -> None:
        self.known = {name.replace("_", "-"): door for name, door in doors.items()}

    def door(self, identity: str) -> StationDoor | None:
        return self.known.get(identity)


def small_pki(folder: Path, *serials: str) -> Pki:
    """A PKI with a certificate for each serial number; RSA of 2048 bit, to be quick."""
    pki = Pki.init(folder, time.time(), operator="Tests", names=("csms.test",), rsa_bits=2048)
    for serial in serials:
        pki.issue_station(serial, time.time())
    return pki


def client_tls(pki: Pki, serial: str = "", *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A station's side of TLS; with the certificate of `serial` where one is named."""
    context = ssl.create_default_context(cafile=str(pki.folder / CSMS_ROOTS))
    context.maximum_version = newest
    if serial:
        path = pki.folder / "stations" / f"station-{serial}"
        context.load_cert_chain(f"{path}.crt", f"{path}.key")
    return context


@asynccontextmanager
async def secured(
    pki: Pki,
    doors: Doors | None,
    stations: int,
    *,
    limits: GuardLimits = NO_LIMITS,
    minimum: str = "1.3",
    conformance: bool = False,
) -> AsyncIterator[tuple[Served, str, str]]:
    """A CSMS with so many stations; its ws and its wss address."""
    tls = StationTls(pki.tls_settings(minimum=minimum, conformance=conformance))  # type: ignore[arg-type]
    async with serving(*(provision(row) for row in range(stations))) as served:
        listener = OcppListener(
            served.csms, served.credentials, served.tell, "127.0.0.1", 0, more=(Listen("127.0.0.1", 0, tls),), door=doors,
            limits=limits,
        )  # fmt: skip
        await listener.server.start()
        plain, secure = listener.server.ports
        inner, served.listener = served.listener, listener
        try:
            yield served, f"ws://127.0.0.1:{plain}/ocpp", f"wss://127.0.0.1:{secure}/ocpp"
        finally:
            served.listener = inner
            await listener.server.close()


def knock(
    url: str,
    tls: ssl.SSLContext | None = None,
    *,
    user: str = "",
    password: str = "",
    headers: tuple[str, ...] | None = None,
) -> connect:
    """A client's connection to `url`, with Basic credentials where there is a user, or these Authorization headers."""
    values = headers if headers is not None else (basic_header(user, password),) if user else ()
    return connect(
        url, ssl=tls, subprotocols=[Subprotocol("ocpp2.1")], compression=None, proxy=None,
        additional_headers=[("Authorization", value) for value in values],
    )  # fmt: skip
