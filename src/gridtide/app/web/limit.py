"""The grid operator's limit: `PUT /api/v1/limit` sets it, lifts it, or is a heartbeat; `GET` tells what holds."""

from typing import Annotated, Protocol

from litestar import Router, get, put
from litestar.params import JSONBody
from msgspec import Meta, Struct

from gridtide.app.web.desk import OPERATOR, Actor, wishes
from gridtide.control.links import HIGHEST_KW, LONGEST_S
from gridtide.run.clock import Clock
from gridtide.run.operator_limit import OperatorDesk, OperatorView

Power = Annotated[float, Meta(ge=0.0, le=HIGHEST_KW)]


class LimitWish(Struct, frozen=True, forbid_unknown_fields=True):
    """A message of the operator's system. Each is a heartbeat; without a limit and `release` it is nothing else."""

    source: Annotated[str, Meta(min_length=1, max_length=100)]
    """Who speaks, as "dso-gateway-1"."""
    limit_kw: Power | None = None
    """Most import of the whole connection."""
    export_kw: Power | None = None
    """Most export of the whole connection, a magnitude; one above the site's own changes nothing."""
    duration_s: Annotated[float, Meta(gt=0.0, le=LONGEST_S)] | None = None
    """The limit ends by itself after this time; without it, it holds until the next one."""
    release: bool = False
    """True: from now on no limit of the operator."""


class LimitedSite(Protocol):
    """What the routes need of a site."""

    operator: OperatorDesk

    @property
    def clock(self) -> Clock:
        """Site time."""


def limit_routes(site: LimitedSite) -> Router:
    """The two routes, for `site`."""

    @get("/limit")
    async def operator_limit() -> OperatorView:
        """What the grid operator asked, and what holds now."""
        return site.operator.view(site.clock.monotonic())

    @put("/limit", opt=OPERATOR)
    async def set_operator_limit(actor: Actor, data: JSONBody[LimitWish]) -> OperatorView:
        """Take a limit or a heartbeat; in force from the next control cycle, kept over restarts, audited."""
        with wishes():
            await site.operator.hear(
                data.limit_kw, data.export_kw, data.duration_s, data.source, actor, lifts=data.release
            )
        return site.operator.view(site.clock.monotonic())

    return Router("/api/v1", route_handlers=[operator_limit, set_operator_limit])
