"""Listens for stations, on plain ws and on TLS. A station is authenticated before the upgrade: without the right credentials it
gets 401 and touches no state."""

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, cast
from weakref import WeakKeyDictionary

from msgspec import Struct
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gridtide.run.admission import RETRY_AFTER_S, Admission, Admitted, Attempt, Refusal
from gridtide.run.clock import Clock, WallClock
from gridtide.run.credentials import CredentialError, Credentials
from gridtide.run.doors import Door, SecurityProfile, TlsVersion
from gridtide.run.login_guard import LoginGuard
from gridtide.run.tls import StationTls, peer_certificate
from gridtide.run.tls_door import Established, Handshake, HandshakeLog
from gridtide.run.websocket import MAX_FRAME_BYTES, StationConnection, WebSocketLink
from gridtide.wire.ocpp.actions import choose_subprotocol, identity_of

OFFERED = [Subprotocol("ocpp2.1"), Subprotocol("ocpp2.0.1")]
MAX_ARRIVING = 16_384
"""Connections that have not yet sent their request; beyond, the one that waits longest is cut off."""
ACCEPTED_AT_ONCE = 128
"""Connections taken in one turn of the loop: asyncio takes as many as the queue it was told of holds."""
WAITING = 2_048
"""Connections that the system keeps until they are taken. It drops what comes beyond; those try again after 1, 3, 7 and 15 s."""
REVOKED_CLOSE = 4403
"""Close code for a station whose certificate was revoked while it was connected."""
_log = logging.getLogger("gridtide.run.ocpp_server")
_socket_log = logging.getLogger("gridtide.run.ocpp_server.socket")
# The library would write every header, passwords included, at DEBUG.
_socket_log.setLevel(logging.WARNING)


class Greeting(Struct, frozen=True):
    """An authenticated connection."""

    identity: str
    version: str
    """`ocpp2.1` or `ocpp2.0.1`."""
    peer: str
    security_profile: SecurityProfile = 1
    """The one it proved itself by."""
    tls_version: TlsVersion | None = None
    certificate_number: int | None = None
    """Serial number of its certificate (profile 3)."""


class Listen(Struct, frozen=True):
    """An address to listen on."""

    host: str
    port: int
    """0 takes a free one."""
    tls: StationTls | ssl.SSLContext | None = None
    """None: plain ws, security profile 1."""


Serve = Callable[[Greeting, WebSocketLink], Awaitable[None]]
Refused = Callable[[str, str], None]


class OcppServer:
    """Listens for stations; calls `on_link` for each authenticated one and `on_refused(identity, peer)` for the others."""

    def __init__(
        self,
        credentials: Credentials,
        on_link: Serve,
        on_refused: Refused,
        *,
        host: str = "127.0.0.1",
        port: int = 9000,
        ping_s: float = 20.0,
        tls: StationTls | ssl.SSLContext | None = None,
        more: Sequence[Listen] = (),
        door: Door | None = None,
        identity_of_serial: Callable[[str], str | None] | None = None,
        guard: LoginGuard | None = None,
        clock: Clock | None = None,
        profile1_addresses: frozenset[str] = frozenset(),
        max_arriving: int = MAX_ARRIVING,
        on_tls_failed: Callable[[str], None] = _log.warning,
    ) -> None:
        """`more`: further addresses beside `host` and `port`. `profile1_addresses`: hosts other than loopback on which plain ws
        is meant. `on_tls_failed` hears of failed TLS handshakes, a few of each address. Raises CredentialError for plain ws
        elsewhere."""
        clock = clock or WallClock()
        self.guard = guard or LoginGuard(clock)
        self._credentials, self._on_link, self._on_refused = credentials, on_link, on_refused
        self._listens = (Listen(host, port, tls), *more)
        for listen in self._listens:
            if listen.tls is None:
                check_plain_address(listen.host, profile1_addresses)
        self._ping_s, self._max_arriving = ping_s, max_arriving
        self._admission = Admission(credentials, self.guard, clock, door, identity_of_serial)
        self._servers: list[Server] = []
        self._admitted: WeakKeyDictionary[ServerConnection, tuple[Admitted, Attempt]] = WeakKeyDictionary()
        self._certified: dict[ServerConnection, int] = {}
        self._arriving: OrderedDict[ServerConnection, None] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._shaking: set[asyncio.Task[None]] = set()
        self.handshakes = HandshakeLog(clock, on_tls_failed)

    @property
    def port(self) -> int:
        """The port listened on (the real one where 0 was asked for); with several addresses the first one's."""
        return self.ports[0]

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports listened on, in the order of the addresses."""
        if not self._servers:
            return tuple(listen.port for listen in self._listens)
        return tuple(int(next(iter(server.sockets)).getsockname()[1]) for server in self._servers)

    @property
    def tls_sides(self) -> tuple[StationTls, ...]:
        """The TLS of those addresses that have one."""
        return tuple(listen.tls for listen in self._listens if isinstance(listen.tls, StationTls))

    async def start(self) -> None:
        """Bind and listen; raises OSError when an address is taken, and then listens on none."""
        try:
            for listen in self._listens:
                self._servers.append(await self._listen(listen))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening and close all links."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        for task in tuple(self._shaking):
            task.cancel()
        for server in servers:
            await server.wait_closed()

    def reload(self) -> None:
        """Read certificates and revocation lists again, without a restart; a connected station whose certificate was revoked
        is closed. Raises CredentialError, and then that listener goes on with what it had."""
        revoked: set[int] = set()
        for side in self.tls_sides:
            side.reload()
            revoked |= side.revoked
        for connection, number in self._certified.items():
            if number in revoked:
                closing = asyncio.ensure_future(connection.close(REVOKED_CLOSE, "certificate revoked"))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def __aenter__(self) -> "OcppServer":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _listen(self, listen: Listen) -> Server:
        tls = listen.tls.context if isinstance(listen.tls, StationTls) else listen.tls

        async def admit(connection: ServerConnection, request: Request) -> Response | None:
            return await self._admit(connection, request, listen)

        def arrive(*args: Any, **kwargs: Any) -> ServerConnection:
            shake = None if tls is None else partial(self._shake, tls)
            return _Arriving(self._arriving, self._max_arriving, shake, *args, **kwargs)

        server = await serve(
            self._serve, listen.host, listen.port, process_request=admit, subprotocols=OFFERED,
            select_subprotocol=_select, compression=None, max_size=MAX_FRAME_BYTES, ping_interval=self._ping_s,
            ping_timeout=self._ping_s, close_timeout=2.0, max_queue=64, server_header=None, logger=_socket_log,
            create_connection=cast("type[ServerConnection]", arrive), backlog=ACCEPTED_AT_ONCE,
        )  # fmt: skip
        for listening in server.sockets:
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.listen(WAITING)
        return server

    def _shake(self, tls: ssl.SSLContext, transport: asyncio.Transport, established: Established) -> None:
        task = Handshake(tls, established, self.handshakes).begin(transport)
        self._shaking.add(task)
        task.add_done_callback(self._shaking.discard)

    async def _admit(self, connection: ServerConnection, request: Request, listen: Listen) -> Response | None:
        """401 before any state; None lets the connection be upgraded."""
        self._arriving.pop(connection, None)
        attempt = _attempt(connection, request, listen)
        verdict = await self._admission.judge(attempt)
        if isinstance(verdict, Refusal):
            if verdict.reason != "busy":
                self._on_refused(identity_of(request.path) or "", attempt.peer)
            return _refused(connection, verdict)
        if choose_subprotocol(_offered(request)) is None:
            return connection.respond(HTTPStatus.BAD_REQUEST, "offer the subprotocol ocpp2.1 or ocpp2.0.1\n")
        self._admitted[connection] = (verdict, attempt)
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        admitted, attempt = self._admitted.pop(connection)
        if admitted.password and self._credentials.entered(admitted.identity, admitted.password):
            await self._keep_rotation(admitted.identity)
        number = attempt.certificate.number if admitted.security_profile == 3 and attempt.certificate else None
        greeting = Greeting(
            admitted.identity, str(connection.subprotocol), attempt.peer, admitted.security_profile, attempt.tls, number
        )
        if number is not None:
            self._certified[connection] = number
        try:
            await self._on_link(greeting, WebSocketLink(connection))
        finally:
            self._certified.pop(connection, None)

    async def _keep_rotation(self, identity: str) -> None:
        """Write that a new password was used. If that fails the station stays: on the disk both passwords are still valid."""
        try:
            await asyncio.to_thread(self._credentials.store)
        except OSError as error:
            _log.error("the end of %s's old password could not be written: %s", identity, error)


class _Arriving(StationConnection):
    """A connection that is counted until its request has been read, so that silent ones cannot pile up."""

    def __init__(
        self,
        arriving: "OrderedDict[ServerConnection, None]",
        most: int,
        shake: Callable[[asyncio.Transport, Established], None] | None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """`shake` begins the TLS handshake on a transport; None: plain ws."""
        super().__init__(*args, **kwargs)
        self._waiting, self._most, self._begin_tls = arriving, most, shake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Where there is TLS, the connection begins when that stands."""
        if self._begin_tls is None:
            self._join(transport)
        else:
            self._begin_tls(cast("asyncio.Transport", transport), self._established)

    def _established(self, transport: asyncio.BaseTransport, early: bytes) -> None:
        cast("asyncio.Transport", transport).set_protocol(self)
        self._begin_tls = None  # what it holds is not needed any more
        self._join(transport)
        if early:
            self.data_received(early)

    def _join(self, transport: asyncio.BaseTransport) -> None:
        """Join those that arrive; the one that waits longest leaves when there are too many."""
        super().connection_made(transport)
        self._waiting[self] = None
        if len(self._waiting) > self._most:
            oldest, _ = self._waiting.popitem(last=False)
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave those that arrive."""
        self._waiting.pop(self, None)
        super().connection_lost(exc)


def check_plain_address(host: str, named: frozenset[str]) -> None:
    """Raise CredentialError unless plain ws may be offered there: on loopback, or where the operator named the address."""
    if host in named or host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise CredentialError(
            f"{host or 'every address'} would offer stations plain ws, where passwords can be read on the way: use TLS there "
            "(security profile 2 or 3), or name the address for profile 1 if it lies inside a trusted network"
        )


def _attempt(connection: ServerConnection, request: Request, listen: Listen) -> Attempt:
    address = connection.remote_address
    tls = connection.transport.get_extra_info("ssl_object")
    rules = listen.tls if isinstance(listen.tls, StationTls) else None
    return Attempt(
        path=request.path,
        authorization=tuple(request.headers.get_all("Authorization")),
        address=str(address[0]) if address else "unknown",
        peer=f"{address[0]}:{address[1]}" if address else "unknown",
        tls=None if tls is None else "1.3" if tls.version() == "TLSv1.3" else "1.2",
        certificate=None if tls is None else peer_certificate(tls.getpeercert()),
        revoked=rules.revoked if rules else frozenset(),
        operator=rules.settings.operator if rules else "",
    )


def _refused(connection: ServerConnection, verdict: Refusal) -> Response:
    response = connection.respond(HTTPStatus(verdict.status), "authentication required\n")
    if verdict.status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="ocpp", charset="UTF-8"'
    else:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _offered(request: Request) -> list[str]:
    values = request.headers.get_all("Sec-WebSocket-Protocol")
    return [part.strip() for value in values for part in value.split(",")]


def _select(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    chosen = choose_subprotocol([str(item) for item in offered])
    return Subprotocol(chosen) if chosen else None
