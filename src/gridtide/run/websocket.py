"""The one file that speaks WebSocket: OCPP links over `websockets`, bytes in and bytes out.

A station is authenticated before the upgrade: without the right HTTP Basic credentials it gets 401 and touches no state.
"""

import ssl
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from types import TracebackType

from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gridtide.run.credentials import Credentials, basic_header, read_basic
from gridtide.run.net import ABNORMAL_CLOSURE, LinkClosed
from gridtide.wire.ocpp.actions import choose_subprotocol, identity_of

MAX_FRAME_BYTES = 256 * 1024
UNREADABLE = b"\xff"
"""Stands for a binary message: OCPP is text, and no JSON begins with this byte."""
OFFERED = [Subprotocol("ocpp2.1"), Subprotocol("ocpp2.0.1")]


class WebSocketLink:
    """`net.Link` over one WebSocket."""

    def __init__(self, socket: ServerConnection | ClientConnection) -> None:
        self._socket = socket
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once either side closed."""
        return self._closed

    async def receive(self) -> bytes:
        """The next message; LinkClosed at the end. A binary one, whatever it holds, becomes one the codec refuses."""
        try:
            data = await self._socket.recv()
        except ConnectionClosed as error:
            raise self._ended(error) from None
        return data.encode() if isinstance(data, str) else UNREADABLE

    async def send(self, data: bytes) -> None:
        """Send one text message."""
        try:
            await self._socket.send(data, text=True)
        except ConnectionClosed as error:
            raise self._ended(error) from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; a second call does nothing."""
        self._closed = True
        await self._socket.close(code, reason)

    def _ended(self, error: ConnectionClosed) -> LinkClosed:
        self._closed = True
        frame = error.rcvd or error.sent
        return LinkClosed(frame.code if frame else ABNORMAL_CLOSURE, frame.reason if frame else "")


class Greeting(Struct, frozen=True):
    """An authenticated connection."""

    identity: str
    version: str
    """`ocpp2.1` or `ocpp2.0.1`."""
    peer: str


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
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._credentials, self._on_link, self._on_refused = credentials, on_link, on_refused
        self._host, self._port, self._ping_s, self._tls = host, port, ping_s, tls
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """The port listened on (the real one where 0 was asked for)."""
        if self._server is None:
            return self._port
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def start(self) -> None:
        """Bind and listen; raises OSError when the address is taken."""
        self._server = await serve(
            self._serve, self._host, self._port, ssl=self._tls, process_request=self._admit, subprotocols=OFFERED,
            select_subprotocol=_select, compression=None, max_size=MAX_FRAME_BYTES, ping_interval=self._ping_s,
            ping_timeout=self._ping_s, close_timeout=2.0, max_queue=64, server_header=None,
        )  # fmt: skip

    async def close(self) -> None:
        """Stop listening and close all links."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def __aenter__(self) -> "OcppServer":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """401 before any state: the path's identity, the Basic user and the password must agree."""
        peer = _peer(connection)
        identity = identity_of(request.path)
        given = read_basic(request.headers.get("Authorization"))
        right = (
            identity is not None
            and given is not None
            and given[0] == identity
            and self._credentials.accepts(identity, given[1])
        )
        if not right:
            self._on_refused(identity or "", peer)
            response = connection.respond(HTTPStatus.UNAUTHORIZED, "authentication required\n")
            response.headers["WWW-Authenticate"] = 'Basic realm="ocpp", charset="UTF-8"'
            return response
        if choose_subprotocol(_offered(request)) is None:
            return connection.respond(HTTPStatus.BAD_REQUEST, "offer the subprotocol ocpp2.1 or ocpp2.0.1\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        request = connection.request
        identity = identity_of(request.path) if request is not None else None
        if identity is None:  # pragma: no cover - admitted connections always have one
            return
        await self._on_link(
            Greeting(identity, str(connection.subprotocol), _peer(connection)), WebSocketLink(connection)
        )


def _peer(connection: ServerConnection) -> str:
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if address else "unknown"


def _offered(request: Request) -> list[str]:
    values = request.headers.get_all("Sec-WebSocket-Protocol")
    return [part.strip() for value in values for part in value.split(",")]


def _select(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    chosen = choose_subprotocol([str(item) for item in offered])
    return Subprotocol(chosen) if chosen else None


async def dial(
    url: str, identity: str, password: str, version: str, tls: ssl.SSLContext | None = None
) -> WebSocketLink:
    """Connect as a station to `url` (the identity is appended to its path); raises OSError, also when the CSMS refuses."""
    try:
        socket = await connect(
            f"{url.rstrip('/')}/{identity}", ssl=tls, subprotocols=[Subprotocol(version)], compression=None,
            additional_headers={"Authorization": basic_header(identity, password)}, max_size=MAX_FRAME_BYTES,
            ping_interval=None, close_timeout=1.0, proxy=None,
        )  # fmt: skip
    except InvalidHandshake as error:
        raise ConnectionRefusedError(f"{url} refused {identity}: {error}") from None
    return WebSocketLink(socket)
