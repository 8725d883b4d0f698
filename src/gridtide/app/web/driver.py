"""The driver's page and its two routes. The secret in the link is the whole authentication; it never is in a path or a log."""

from collections.abc import Callable
from typing import Annotated

from litestar import Request, Response, Router, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter, JSONBody, SkipValidation
from litestar.status_codes import HTTP_200_OK, HTTP_429_TOO_MANY_REQUESTS

from gridtide.app.web.assets import STATIC
from gridtide.app.web.desk import wishes
from gridtide.app.web.failures import FAILURE_REFILL_S, FailureBudget
from gridtide.app.web.station_port import DriverPort
from gridtide.run.csms.driver_links import WISH_EVERY_S, DriverView, DriverWish, TooManyWishes, UnknownLink

AnyRequest = Request[None, None, State]
Secret = Annotated[str, HeaderParameter(name="X-Driver-Link", max_length=64)]
"""The part of the link behind `#`, which browsers keep to themselves."""
ANYONE = {"role": "anyone"}
GONE = "This link is not valid, or its stay has ended. Ask for a new one."


class DriverDoor:
    """Lets in whoever holds a link, and counts those who guess."""

    def __init__(self, port: DriverPort, now: Callable[[], float]) -> None:
        """`now` is a monotonic clock in seconds."""
        self.port = port
        self._failures = FailureBudget(now)

    def check(self, request: AnyRequest, secret: str) -> None:
        """Raises 404 for an unknown link, 429 after too many of one address. A right one always passes."""
        if self.port.knows_link(secret):
            return
        if self._failures.spend(request.client.host if request.client else ""):
            raise NotFoundException(GONE)
        raise HTTPException(
            status_code=HTTP_429_TOO_MANY_REQUESTS, detail=f"Too many wrong links; try again in {FAILURE_REFILL_S:.0f} s.",
            headers={"Retry-After": f"{FAILURE_REFILL_S:.0f}"},
        )  # fmt: skip


Door = NamedDependency[SkipValidation[DriverDoor]]


@get("/driver", opt=ANYONE)
async def driver_view(request: AnyRequest, door: Door, secret: Secret = "") -> DriverView:
    """The present stay of whoever holds the link."""
    door.check(request, secret)
    try:
        return door.port.driver_view(secret)
    except UnknownLink as error:
        raise NotFoundException(str(error)) from error


@post("/driver", status_code=HTTP_200_OK, opt=ANYONE)
async def driver_wish(request: AnyRequest, door: Door, data: JSONBody[DriverWish], secret: Secret = "") -> DriverView:
    """When the driver leaves, what is needed by then, and whether the battery may be used. Only for the present stay."""
    door.check(request, secret)
    try:
        with wishes():
            return await door.port.driver_wish(secret, data)
    except TooManyWishes as error:
        raise HTTPException(
            status_code=HTTP_429_TOO_MANY_REQUESTS, detail=str(error), headers={"Retry-After": f"{WISH_EVERY_S:.0f}"}
        ) from error
    except UnknownLink as error:
        raise NotFoundException(str(error)) from error


def driver_routes(port: DriverPort, now: Callable[[], float]) -> list[Router | HTTPRouteHandler]:
    """The page at /driver and its API; `now` is a monotonic clock."""
    door = DriverDoor(port, now)
    page = (STATIC / "driver.html").read_bytes()

    @get("/driver", include_in_schema=False, opt=ANYONE)
    async def driver_page() -> Response[bytes]:
        return Response(page, media_type="text/html", headers={"Cache-Control": "no-cache"})

    dependencies = {"door": Provide(lambda: door, sync_to_thread=False)}
    return [Router("/api/v1", route_handlers=[driver_view, driver_wish], dependencies=dependencies), driver_page]
