"""What every request passes on its way in and every reply on its way out: access, security headers, errors, slow readers."""

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
from gridtide.run.pace import Deadline
from gridtide.run.store.rows import StoreError

log = structlog.get_logger(__name__)
PRIVATE = ("/api/", "/schema")
"""Reads below these need a reader; the page's own files hold nothing secret and say how to sign in."""
SEND_LIMIT_S = 20.0
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

AnyRequest = Request[None, None, State]


def asked(scope: Scope) -> Asked:
    """What decides about access, out of an HTTP scope."""
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


class Gate(ASGIMiddleware):
    """Lets in whom `access` lets in and notes the actor in the scope's state."""

    scopes = (ScopeType.HTTP, ScopeType.WEBSOCKET, ScopeType.ASGI)

    def __init__(self, access: Access) -> None:
        self.access = access

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Refused requests never reach a route."""
        wish = asked(scope)
        if scope.get("method") not in ("GET", "HEAD", "OPTIONS"):
            scope["state"]["actor"] = self.access.writer(wish)
        elif scope["path"].startswith(PRIVATE):
            scope["state"]["actor"] = self.access.reader(wish)
        else:
            self.access.check_host(wish)
        bounded = Deadline(send, SEND_LIMIT_S)
        try:
            await next_app(scope, receive, bounded)
        except Exception:
            # What a SlowReader became on its way through the framework is of no matter; anything else is passed on.
            if not bounded.expired:
                raise
            log.info("slow_reader_dropped", peer=wish.peer, path=scope["path"])


async def add_headers(message: Message, _: Scope) -> None:
    """Put the security headers on every reply; what names no caching of its own is never cached."""
    if message["type"] != "http.response.start":
        return
    headers = MutableScopeHeaders(message)
    for name, value in HEADERS.items():
        headers[name] = value
    headers.setdefault("Cache-Control", "no-store")


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
