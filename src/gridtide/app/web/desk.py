"""What the routes of a site's desk share: where they find it, who asks, and how its refusals become HTTP errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from litestar.di import NamedDependency
from litestar.exceptions import ClientException, HTTPException, NotFoundException
from litestar.params import QueryParameter, SkipValidation
from litestar.status_codes import HTTP_409_CONFLICT, HTTP_422_UNPROCESSABLE_ENTITY
from msgspec import Struct

from gridtide.app.web.station_port import StationPort
from gridtide.run.csms.charge_profiles import Conflict, DischargeDenied
from gridtide.run.csms.operate import StationOffline

Desk = NamedDependency[SkipValidation[StationPort]]
Actor = NamedDependency[str]
Named = Annotated[str | None, QueryParameter(min_length=1, max_length=255)]
ADMIN, OPERATOR = {"role": "admin"}, {"role": "operator"}


class Done(Struct, frozen=True):
    """A wish that was granted; `changed` is False where it was so before."""

    changed: bool = True


class Given(Struct, frozen=True):
    """A driver link, told this once: the site's address where it is known, and the page's path with the secret."""

    path: str
    address: str = ""
    """As drivers' phones reach the page; empty where the site file does not say (`server.address`)."""


def given(secret: str, address: str = "") -> Given:
    """The answer that tells a new link's secret."""
    return Given(f"/driver#{secret}", address)


@contextmanager
def wishes() -> Iterator[None]:
    """The port's refusals as HTTP errors; only around calls of the port, so that a fault of ours is never called the client's."""
    try:
        yield
    except ValueError as error:
        raise ClientException(str(error)) from error
    except KeyError as error:
        raise NotFoundException(str(error.args[0]) if error.args else "There is no such thing here.") from error
    except (StationOffline, Conflict) as error:
        raise HTTPException(status_code=HTTP_409_CONFLICT, detail=str(error)) from error
    except DischargeDenied as error:
        raise HTTPException(status_code=HTTP_422_UNPROCESSABLE_ENTITY, detail=str(error)) from error
