"""The web application of one site, and serving it inside the site's own event loop."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import uvicorn
from litestar import Litestar
from litestar.di import Provide
from litestar.types import ControllerRouterHandler, Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from gridtide.app.web import login, routes, telemetry
from gridtide.app.web.assets import asset_routes, load_assets
from gridtide.app.web.auth import Access, is_loopback
from gridtide.app.web.gate import ERRORS, Gate, add_headers
from gridtide.app.web.openapi import openapi, route_needs
from gridtide.app.web.port import SitePort
from gridtide.run.credentials import CredentialError
from gridtide.run.pace import Streams

BODY_LIMIT = 16_384
"""Bytes of a request's body, and of what a WebSocket may say at once."""
CONNECTIONS = 256
SHUTDOWN_S = 3
PING_S, PONG_S = 2.5, 5.0
"""A WebSocket is pinged so often and has so long to answer: the ping waits behind the frames that it has not read yet."""
LINGER_S = 5.0
"""How long a WebSocket that we ended may take what was written to it."""


def create_app(port: SitePort, access: Access, more: Sequence[ControllerRouterHandler] = ()) -> Litestar:
    """The page, its API under /api/v1, /login, /healthz, /readyz and /schema/openapi.json over `port`, and `more` routes.

    Raises ValueError for a route that names a role there is not.
    """
    streams = Streams()
    feed = telemetry.Feed(cast(telemetry.Source, port))

    def actor(scope: Scope) -> str:
        return str(scope["state"]["actor"])

    app = Litestar(
        [
            routes.API, routes.healthz, routes.readyz, telemetry.live, *login.LOGIN, *asset_routes(load_assets()), *more,
        ],
        dependencies={
            "port": Provide(lambda: port, sync_to_thread=False),
            "access": Provide(lambda: access, sync_to_thread=False),
            "streams": Provide(lambda: streams, sync_to_thread=False),
            "feed": Provide(lambda: feed, sync_to_thread=False),
            "actor": Provide(actor, sync_to_thread=False),
        },
        middleware=[Gate(access)],
        before_send=[add_headers],
        exception_handlers=ERRORS,
        openapi_config=openapi(),
        request_max_body_size=BODY_LIMIT,
        logging_config=None,
        debug=False,
        on_shutdown=[streams.closing.set],
        opt={"streams": streams},
    )  # fmt: skip
    for _ in route_needs(app):
        pass  # a role that there is not is told at the start, not by the first request
    return app


def listen(host: str, port: int, *, allow_remote: bool = False) -> socket.socket:
    """A bound socket for `serve`; port 0 takes a free one. Raises ValueError for an address others can reach unless
    `allow_remote`, OSError if it is taken."""
    address = "127.0.0.1" if host == "localhost" else host.strip("[]")
    if not allow_remote and not is_loopback(address):
        raise ValueError(f"host is {host!r}: give 127.0.0.1, or allow other machines in the configuration")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """Leaves signals to the program it is part of, and tells when it answers."""

    def __init__(self, config: uvicorn.Config, answers: asyncio.Event) -> None:
        super().__init__(config)
        self._answers = answers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._answers.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Socket(WebSocketsSansIOProtocol):
    """Ends with its task: what a reader leaves unread keeps no connection alive."""

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if not self.disconnected:
            self.loop.call_later(LINGER_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and later with a certificate chain and its key; raises CredentialError for files that must not be used."""
    for path, what in ((cert, "the certificate"), (key, "the certificate's key")):
        if not path.is_file():
            raise CredentialError(f"{path} does not exist: give the file of {what} (PEM)")
    mode = key.stat().st_mode & 0o777
    if mode & 0o077:
        raise CredentialError(f"{key} has mode {mode:04o}: others can use the key; run `chmod 600 {key}`")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An empty password: an encrypted key is an error, never a question at the terminal.
        context.load_cert_chain(cert, key, password="")
    except (ssl.SSLError, OSError) as error:
        raise CredentialError(
            f"{cert} and {key} do not work ({error}): give a PEM chain and its unencrypted key"
        ) from None
    return context


async def serve(
    app: Litestar,
    listener: socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    started: asyncio.Event | None = None,
) -> None:
    """Serve `app` on a socket from `listen` until cancelled, with `tls` by HTTPS only; sets `started` once it answers.

    Streams are ended and running requests given 3 s on the way out. The peer's address is the connection's own:
    forwarding headers are not believed.
    """
    server = _Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, proxy_headers=False, server_header=False, lifespan="on",
            limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=SHUTDOWN_S, ws=_Socket, ws_max_size=BODY_LIMIT,
            ws_ping_interval=PING_S, ws_ping_timeout=PONG_S, ws_per_message_deflate=False,
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        ),
        started or asyncio.Event(),
    )  # fmt: skip
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        app.opt["streams"].closing.set()
        server.should_exit = True
        await serving
