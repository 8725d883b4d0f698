"""Listens for stations. A station is authenticated before the upgrade: without the right credentials it gets 401 and
touches no state."""

import ssl
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from types import TracebackType

from msgspec import Struct
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from gridtide.run.credentials import Credentials, read_basic
from gridtide.run.websocket import MAX_FRAME_BYTES, WebSocketLink
from gridtide.wire.ocpp.actions import choose_subprotocol, identity_of

OFFERED = [Subprotocol("ocpp2.1"), Subprotocol("ocpp2.0.1")]


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
