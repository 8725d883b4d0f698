"""The published description of the API, with the role that each route needs."""

from collections.abc import Iterator
from typing import Any

from litestar import Litestar, Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Reference, SecurityScheme
from litestar.routes import HTTPRoute, WebSocketRoute
from msgspec import Struct

import gridtide
from gridtide.app.web.auth import COOKIE
from gridtide.app.web.roles import Need, need_of

BEARER = "The token in the site's token file (admin), or one given out by `gridtide users add NAME --token`."
COOKIE_SET = "Set by /login. A write needs our own Origin and the header `X-Gridtide: 1` as well."
ABOUT = (
    "Read and steer one site. Powers are kW, + import and charging, - export and discharging. Roles rise from viewer over "
    "operator to admin. On the site's own machine a viewer's reads need no token. Live telemetry comes over a WebSocket at "
    "/api/v1/telemetry/live?series=site_kw,evse:ID: a JSON text frame every 200 ms (or `period_s`); without `series` all."
)


class RouteNeed(Struct, frozen=True):
    """One route with one method; None is a WebSocket."""

    path: str
    method: str | None
    need: Need


def route_needs(app: Litestar) -> Iterator[RouteNeed]:
    """The least role of every route there is; raises ValueError for a role that there is not."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                for method in sorted(handler.http_methods):
                    yield RouteNeed(route.path_format, method, need_of(handler.opt, method, route.path))
        elif isinstance(route, WebSocketRoute):
            yield RouteNeed(route.path_format, None, need_of(route.route_handler.opt, None, route.path))


class RolesRenderPlugin(JsonRenderPlugin):
    """JSON in which every operation says which role it needs, and what it answers without."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document; written anew, the framework keeps its own."""
        needs = {(one.path, one.method): one.need for one in route_needs(request.app)}
        paths = {
            path: {
                method: _told(operation, needs.get((path, method.upper())))
                if isinstance(operation, dict)
                else operation
                for method, operation in item.items()
            }
            for path, item in openapi_schema["paths"].items()
        }
        return super().render(request, {**openapi_schema, "paths": paths})


def _told(operation: dict[str, Any], need: Need | None) -> dict[str, Any]:
    if need is None or need == "anyone":
        return {**operation, "security": [], "x-role": "anyone"}
    words = f"{operation.get('description', '')} Role: {need}.".strip()
    refusals = {
        "401": {"description": "Not signed in, or the token is wrong"},
        "403": {"description": f"The role is below {need}, or the request comes from elsewhere than our page"},
    }
    responses = {**refusals, **operation.get("responses", {})}
    return {**operation, "description": words, "x-role": need, "responses": responses}


def openapi() -> OpenAPIConfig:
    """JSON only: the bundled viewers load their code from elsewhere."""
    schemes: dict[str, SecurityScheme | Reference] = {
        "token": SecurityScheme(type="http", scheme="bearer", description=BEARER),
        "session": SecurityScheme(type="apiKey", name=COOKIE, security_scheme_in="cookie", description=COOKIE_SET),
    }
    return OpenAPIConfig(
        title="gridtide",
        version=gridtide.__version__,
        description=ABOUT,
        path="/schema",
        render_plugins=[RolesRenderPlugin()],
        components=Components(security_schemes=schemes),
        security=[{"token": []}, {"session": []}],
    )
