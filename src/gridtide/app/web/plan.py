"""The plan of a site that plans ahead: `GET /api/v1/plan`."""

from typing import Protocol

from litestar import Router, get
from litestar.exceptions import NotFoundException, ServiceUnavailableException
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct

from gridtide.model.plan_view import PlanView

OFF = "This site does not plan ahead: set enabled = true under [planner] in the site file and start gridtide again."
NOT_YET = "The first plan is not made yet: it needs a quarter hour of the building's load. Ask again in a minute."
RETRY_S = 60


class Refusal(Struct, frozen=True):
    """An error in words."""

    detail: str


class PlanSource(Protocol):
    """What the route needs of a site's foresight."""

    def view(self) -> PlanView | None:
        """The plan in force; None before the first."""


def plan_routes(source: PlanSource | None) -> Router:
    """The route, for a site's foresight; None where the site does not plan ahead."""

    @get(
        "/plan",
        responses={
            404: ResponseSpec(Refusal, description="The site does not plan ahead"),
            503: ResponseSpec(Refusal, description="The first plan is not made yet"),
        },
    )
    async def plan() -> PlanView:
        """The plan in force: the peak to hold, the hours ahead, each vehicle's part, and what cannot be met and why."""
        if source is None:
            raise NotFoundException(OFF)
        found = source.view()
        if found is None:
            raise ServiceUnavailableException(NOT_YET, headers={"Retry-After": str(RETRY_S)})
        return found

    return Router("/api/v1", route_handlers=[plan])
