"""The web application of one site, and serving it inside the site's own event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Reference, SecurityScheme
from litestar.types import Scope

import gridtide
from gridtide.app.web import routes
from gridtide.app.web.assets import asset_routes, load_assets
from gridtide.app.web.auth import COOKIE, Access, is_loopback
from gridtide.app.web.gate import ERRORS, Gate, add_headers
from gridtide.app.web.port import SitePort
from gridtide.run.pace import Streams

BODY_LIMIT = 16_384
"""Bytes of a request's body."""
CONNECTIONS = 256
SHUTDOWN_S = 3


def create_app(port: SitePort, access: Access) -> Litestar:
    """The page, its API under /api/v1, /login, /healthz, /readyz and /schema/openapi.json over `port`."""
    streams = Streams()

    def actor(scope: Scope) -> str:
        return str(scope["state"]["actor"])

    return Litestar(
        [routes.API, routes.login, routes.healthz, routes.readyz, *asset_routes(load_assets())],
        dependencies={
            "port": Provide(lambda: port, sync_to_thread=False),
            "access": Provide(lambda: access, sync_to_thread=False),
            "streams": Provide(lambda: streams, sync_to_thread=False),
            "actor": Provide(actor, sync_to_thread=False),
        },
        middleware=[Gate(access)],
        before_send=[add_headers],
        exception_handlers=ERRORS,
        openapi_config=_openapi(),
        request_max_body_size=BODY_LIMIT,
        logging_config=None,
        debug=False,
        on_shutdown=[streams.closing.set],
        opt={"streams": streams},
    )


def _openapi() -> OpenAPIConfig:
    """JSON only: the bundled viewers load their code from elsewhere."""
    schemes: dict[str, SecurityScheme | Reference] = {
        "token": SecurityScheme(type="http", scheme="bearer", description="The token in the site's token file."),
        "session": SecurityScheme(
            type="apiKey", name=COOKIE, security_scheme_in="cookie", description="Set by /login."
        ),
    }
    return OpenAPIConfig(
        title="gridtide",
        version=gridtide.__version__,
        description="Read and steer one site. Powers are kW, + import and charging, - export and discharging.",
        path="/schema",
        render_plugins=[JsonRenderPlugin()],
        components=Components(security_schemes=schemes),
        security=[{"token": []}, {"session": []}],
    )


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


async def serve(
    app: Litestar,
    listener: socket.socket,
    *,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    started: asyncio.Event | None = None,
) -> None:
    """Serve `app` on a socket from `listen` until cancelled; sets `started` once it answers.

    Streams are ended and running requests given 3 s on the way out. The peer's address is the connection's own:
    forwarding headers are not believed.
    """
    server = _Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, proxy_headers=False, server_header=False, lifespan="on", ws="none",
            limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=SHUTDOWN_S, ssl_certfile=tls_cert, ssl_keyfile=tls_key,
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
