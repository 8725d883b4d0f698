"""What every request passes on its way in and every reply on its way out: access, security headers, errors, slow readers."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

import msgspec
import structlog
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders, State
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, ValidationException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, ExceptionHandlersMap, Message, Receive, Scope, Send

from gridtide.app.web.auth import COOKIE, Access, Asked, Refused
from gridtide.app.web.roles import Actor, Need, is_read, need_of
from gridtide.run.pace import Deadline, SlowReader
from gridtide.run.store.rows import StoreError

log = structlog.get_logger(__name__)
SEND_LIMIT_S, SOCKET_LIMIT_S = 20.0, 5.0
"""How long one message may wait for its reader: of a page's event stream, of a WebSocket."""
REFUSED = 4000
"""A WebSocket is closed with this plus the HTTP status."""
RECHECK_S = 5.0
"""A stream ends this long after its reader lost the right to it."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
DEFAULT_HEADERS = {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
"""For replies that name none of their own."""
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

AnyRequest = Request[None, None, State]


def asked(scope: Scope) -> Asked:
    """What decides about access, out of an HTTP or WebSocket scope."""
    connection: ASGIConnection[object, None, None, State] = ASGIConnection(scope)
    headers = connection.headers
    return Asked(
        host=headers.get("host", ""),
        origin=headers.get("origin"),
        authorization=headers.get("authorization"),
        session=connection.cookies.get(COOKIE),
        marked=headers.get("x-gridtide") == "1",
        peer=connection.client.host if connection.client else "",
        forwarded=any(name in headers for name in _FORWARDED),
    )


class Lasting:
    """A `send` for long replies that asks every `RECHECK_S` whether the reader is still let in; raises Refused when not."""

    def __init__(self, send: Send, check: Callable[[], object]) -> None:
        self._send, self._check, self._now = send, check, asyncio.get_running_loop().time
        self._due_s = self._now() + RECHECK_S
        self.ended = False
        """The reader is not let in any more."""
        self.accepted = False
        """A WebSocket was opened."""

    async def __call__(self, message: Message) -> None:
        if self._now() >= self._due_s:
            try:
                self._check()
            except Refused:
                self.ended = True
                raise
            self._due_s = self._now() + RECHECK_S
        self.accepted |= message["type"] == "websocket.accept"
        await self._send(message)


class Gate(ASGIMiddleware):
    """Lets in whom `access` lets in, in the role the route needs, and notes the actor in the scope's state."""

    scopes = (ScopeType.HTTP, ScopeType.WEBSOCKET, ScopeType.ASGI)

    def __init__(self, access: Access) -> None:
        self.access = access

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Refused requests never reach a route."""
        if scope["type"] == ScopeType.WEBSOCKET:
            await self._socket(scope, receive, send, next_app)
            return
        wish, method, need = asked(scope), _method(scope), _need(scope)
        self._admit(scope, self._actor(wish, method, need))
        bounded = Deadline(send, SEND_LIMIT_S)
        lasting = Lasting(bounded, lambda: self._actor(wish, method, need)) if is_read(method) else None
        try:
            await next_app(scope, receive, lasting or bounded)
        except Exception:
            # What these became on their way through the framework is of no matter; anything else is passed on.
            if not bounded.expired and not (lasting and lasting.ended):
                raise
            log.info("reader_dropped", peer=wish.peer, path=scope["path"], slow=bounded.expired)

    async def _socket(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """The same for a WebSocket: a refusal before it opens is an HTTP answer, one after it a closing code."""
        wish, need = asked(scope), _need(scope)
        bounded = Deadline(send, SOCKET_LIMIT_S)
        lasting = Lasting(bounded, lambda: self.access.listener(wish, need))

        async def told(message: Message) -> None:
            # All that the framework knows to do with a refusal of the route.
            if message["type"] == "websocket.close" and not lasting.accepted and message["code"] > REFUSED:
                await _deny(scope, bounded, message["code"] - REFUSED, message["reason"] or "", opened=False)
            else:
                await lasting(message)

        try:
            self._admit(scope, self.access.listener(wish, need))
            await next_app(scope, receive, told)
        except Refused as error:
            await _deny(scope, bounded, error.status, str(error), lasting.accepted)
        except SlowReader:
            log.info("reader_dropped", peer=wish.peer, path=scope["path"], slow=True)

    def _actor(self, wish: Asked, method: str | None, need: Need) -> Actor | None:
        reads = is_read(method)
        if need == "anyone":
            self.access.visitor(wish, writes=not reads)
            return None
        return self.access.reader(wish, need) if reads else self.access.writer(wish, need)

    @staticmethod
    def _admit(scope: Scope, actor: Actor | None) -> None:
        if actor is not None:
            scope["state"]["actor"], scope["state"]["role"] = actor.name, actor.role


def _method(scope: Scope) -> str | None:
    method = scope.get("method")
    return method if isinstance(method, str) else None


def _need(scope: Scope) -> Need:
    return need_of(scope["route_handler"].opt, _method(scope), scope["path"])


async def _deny(scope: Scope, send: Send, status: int, detail: str, opened: bool) -> None:
    """Refuse a WebSocket: by an HTTP answer while it is not open yet and the server can, else by closing code 4000 + status."""
    if opened or "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": REFUSED + status, "reason": detail[:120]})
        return
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    body = msgspec.json.encode({"detail": detail})
    start = {"type": "websocket.http.response.start", "status": HTTPStatus(status).value, "headers": headers}
    for message in (start, {"type": "websocket.http.response.body", "body": body}):
        await send(message)  # type: ignore[arg-type]  # an ASGI extension that the framework's types do not name


async def add_headers(message: Message, _: Scope) -> None:
    """Put the security headers on every reply."""
    if message["type"] != "http.response.start":
        return
    headers = MutableScopeHeaders(message)
    for name, value in HEADERS.items():
        headers[name] = value
    for name, value in DEFAULT_HEADERS.items():
        headers.setdefault(name, value)


def reply(status: int, detail: str, headers: dict[str, str] | None = None) -> Response[bytes]:
    """An error as {"detail": ...}."""
    body = msgspec.json.encode({"detail": detail})
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def _refused(_: AnyRequest, error: Refused) -> Response[bytes]:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "6"}}.get(error.status)
    return reply(error.status, str(error), headers)


def _invalid(_: AnyRequest, error: ValidationException) -> Response[bytes]:
    extra = error.extra if isinstance(error.extra, list) else []
    return reply(400, "; ".join(_problem(part) for part in extra) or error.detail)


def _problem(part: dict[str, str]) -> str:
    key, message = part.get("key", "data"), part.get("message", "is not valid")
    if key != "data":
        return f"{key}: {message}"
    # All that is told of a missing body is the name of the route's argument.
    return "The body must be a JSON object." if message == "'data'" else f"body: {message}"


def _http(_: AnyRequest, error: HTTPException) -> Response[bytes]:
    return reply(error.status_code, error.detail, error.headers)


def _not_stored(_: AnyRequest, error: StoreError) -> Response[bytes]:
    log.error("web_not_stored", error=str(error))
    return reply(503, "The store does not accept this now; nothing was changed. Try again.")


def _our_fault(request: AnyRequest, error: Exception) -> Response[bytes]:
    log.error("web_request_failed", path=request.scope["path"], exc_info=error)
    return reply(500, "gridtide could not answer this; its log says why.")


ERRORS: ExceptionHandlersMap = {
    Refused: _refused,
    ValidationException: _invalid,
    HTTPException: _http,
    StoreError: _not_stored,
    Exception: _our_fault,
}
