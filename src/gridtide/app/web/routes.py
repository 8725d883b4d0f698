"""The routes of the page's contract under /api/v1, as thin as they can be: ask the port, translate its refusals."""

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from litestar import Request, Router, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.exceptions import ClientException, ServiceUnavailableException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, PathParameter, QueryParameter, SkipValidation
from litestar.response import Response, Stream
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta, Struct

from gridtide.app.web.auth import Access
from gridtide.app.web.desk import Actor, Done, wishes
from gridtide.app.web.port import OverrideMode, SitePort, Window
from gridtide.model.view import PowerView, SiteView, VehicleView
from gridtide.run.pace import Streams, paced
from gridtide.run.store.rows import EARLIEST_S, INT64_MAX, LATEST_S

Site = NamedDependency[SkipValidation[SitePort]]
Doors = NamedDependency[SkipValidation[Access]]
Open = NamedDependency[SkipValidation[Streams]]
AnyRequest = Request[None, None, State]
Instant = Annotated[float | None, QueryParameter(ge=EARLIEST_S, lt=LATEST_S)]
STREAM_PERIOD_S = 1.0 / 3.0
_LAST_S = 3600.0


class PeakWish(Struct, frozen=True, forbid_unknown_fields=True):
    """New peak limit and buffer, kW."""

    limit_kw: Annotated[float, Meta(gt=0.0, le=100_000.0)]
    buffer_kw: Annotated[float, Meta(ge=0.0, le=100_000.0)]


class OverrideWish(Struct, frozen=True, forbid_unknown_fields=True):
    """One EVSE by hand: `power_kw` (+ charges, - gives) only counts in mode `power`; `auto` ends the override."""

    mode: OverrideMode
    power_kw: Annotated[float, Meta(ge=-100_000.0, le=100_000.0)] | None = None
    minutes: Annotated[float, Meta(gt=0.0, le=1440.0)] = 60.0


class ShedWish(Struct, frozen=True, forbid_unknown_fields=True):
    """Load to be shed: the site's import is held at `limit_kw`, for some minutes or until it is ended."""

    limit_kw: Annotated[float, Meta(ge=0.0, le=100_000.0)]
    minutes: Annotated[float, Meta(gt=0.0, le=10_080.0)] | None = None


class Probe(Struct, frozen=True, omit_defaults=True):
    """Answer to a health probe."""

    status: str
    reasons: tuple[str, ...] = ()
    """Why the site is not steered, in words."""
    estop: bool = False
    """The emergency stop is pressed: no fault, but nobody charges."""
    beat_age_s: float | None = None
    """Seconds since the last control cycle, where that is too long."""


class AuditLine(Struct, frozen=True):
    """One audited change."""

    id: int
    at_s: float
    actor: str
    action: str
    detail: object
    hash: str
    """SHA-256 over the previous entry's hash and this entry."""


class TelemetryView(Struct, frozen=True):
    """A stored series: (UTC epoch s, value), ascending; the unit is in its name."""

    series: str
    points: tuple[tuple[float, float], ...]


# --- reads ----------------------------------------------------------------------------------------------------------
@get("/view")
async def view(port: Site) -> SiteView:
    """The whole page but the chart history."""
    return port.view()


@get("/stream", media_type="text/event-stream")
async def stream(port: Site, streams: Open) -> Stream:
    """Server-sent events: `view` with a SiteView about three times a second, if there is a new one."""
    if streams.full:
        raise ServiceUnavailableException("Too many pages are open; close one.")
    return Stream(_events(port, streams), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(port: SitePort, streams: Streams) -> AsyncIterator[bytes]:
    with streams.one():
        async for latest in paced(port.view, STREAM_PERIOD_S, streams.closing):
            yield b"event: view\ndata: " + msgspec.json.encode(latest) + b"\n\n"


@get("/power")
async def power(port: Site, window: FromQuery[Window] = "hour") -> PowerView:
    """History behind the power chart."""
    return port.power(window)


@get("/evses/{evse_id:str}")
async def explain(port: Site, evse_id: FromPath[str]) -> VehicleView:
    """One EVSE and why it does what it does."""
    with wishes():
        return port.explain(evse_id)


@get("/evses/{station_id:str}/{evse:str}")
async def explain_of_station(port: Site, station_id: FromPath[str], evse: FromPath[str]) -> VehicleView:
    """The same for an id like "cs03/1"; servers unquote its slash before they route."""
    with wishes():
        return port.explain(f"{station_id}/{evse}")


@get("/audit", opt={"role": "operator"})
async def audit(port: Site, limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100) -> tuple[AuditLine, ...]:
    """The newest changes, newest first: who, what, when."""
    return tuple(
        AuditLine(entry.id, entry.at_s, entry.actor, entry.action, msgspec.json.decode(entry.detail_json), entry.hash)
        for entry in port.audit(limit)
    )


@get("/telemetry")
async def telemetry(
    port: Site,
    series: Annotated[str, QueryParameter(min_length=1, max_length=256)] = "site_kw",
    start_s: Instant = None,
    end_s: Instant = None,
) -> TelemetryView:
    """A stored series in [start_s, end_s), UTC epoch seconds; the last hour if they are not given."""
    end_s = port.view().now_s if end_s is None else end_s
    start_s = end_s - _LAST_S if start_s is None else start_s
    if start_s > end_s:
        raise ClientException(f"start_s is {start_s}: give an instant before end_s ({end_s})")
    with wishes():
        points = port.telemetry(series, start_s, end_s)
    return TelemetryView(series, tuple(points))


# --- acts -----------------------------------------------------------------------------------------------------------
@post("/peak", status_code=HTTP_200_OK)
async def peak(port: Site, actor: Actor, data: JSONBody[PeakWish]) -> Done:
    """New limit and buffer; in force from the next cycle, kept over restarts, audited."""
    with wishes():
        await port.set_limit(data.limit_kw, data.buffer_kw, actor)
    return Done()


@post("/estop", status_code=HTTP_200_OK)
async def estop(port: Site, actor: Actor) -> Done:
    """Press the emergency stop; latched until cleared."""
    with wishes():
        await port.estop(actor)
    return Done()


@post("/estop/clear", status_code=HTTP_200_OK)
async def clear_estop(port: Site, actor: Actor) -> Done:
    """Clear the emergency stop."""
    with wishes():
        await port.clear_estop(actor)
    return Done()


@post("/load-shed", status_code=HTTP_200_OK)
async def shed_load(port: Site, actor: Actor, data: JSONBody[ShedWish]) -> Done:
    """Shed load: charging is cut to what the limit leaves, whatever anybody wishes; kept over restarts, its source logged."""
    with wishes():
        await port.shed_load(data.limit_kw, data.minutes, actor)
    return Done()


@post("/load-shed/clear", status_code=HTTP_200_OK)
async def end_load_shed(port: Site, actor: Actor) -> Done:
    """End a load shedding that was asked for here; a wired input holds on."""
    with wishes():
        return Done(await port.end_load_shed(actor))


@post("/events/{event_id:int}/seen", status_code=HTTP_200_OK)
async def mark_seen(port: Site, actor: Actor, event_id: Annotated[int, PathParameter(ge=0, le=INT64_MAX)]) -> Done:
    """Mark an event as seen."""
    with wishes():
        return Done(await port.mark_seen(event_id, actor))


@post("/evses/{evse_id:str}/override", status_code=HTTP_200_OK)
async def override(port: Site, actor: Actor, data: JSONBody[OverrideWish], evse_id: FromPath[str]) -> Done:
    """Set one EVSE by hand for some minutes, or give it back (`auto`)."""
    return await _override(port, evse_id, data, actor)


@post("/evses/{station_id:str}/{evse:str}/override", status_code=HTTP_200_OK)
async def override_of_station(
    port: Site, actor: Actor, data: JSONBody[OverrideWish], station_id: FromPath[str], evse: FromPath[str]
) -> Done:
    """The same for an id like "cs03/1"."""
    return await _override(port, f"{station_id}/{evse}", data, actor)


async def _override(port: SitePort, evse_id: str, wish: OverrideWish, actor: str) -> Done:
    if wish.mode == "power" and wish.power_kw is None:
        raise ClientException("power_kw is missing: mode power needs a number, + charges, - gives")
    power_kw = wish.power_kw if wish.mode == "power" else None
    with wishes():
        await port.override(evse_id, wish.mode, power_kw, wish.minutes, actor)
    return Done()


# --- probes ----------------------------------------------------------------------------------------------------------
@get("/healthz", responses={503: ResponseSpec(Probe, description="The control loop stands still")})
async def healthz(port: Site) -> Response[Probe]:
    """The control loop turns; 503 when its last cycle is 10 s ago: then a supervisor should start the program again."""
    health = port.health()
    if health.alive:
        return Response(Probe("ok"))
    return Response(Probe("stalled", beat_age_s=health.beat_age_s), status_code=503)


@get("/readyz", responses={503: ResponseSpec(Probe, description="The site is not steered; the reasons say why")})
async def readyz(port: Site) -> Response[Probe]:
    """The site is steered: meter believed, store writing, loop in time; 503 with the reasons if not. A pressed emergency stop is
    told and is no fault."""
    health = port.health()
    if health.ready:
        return Response(Probe("ready", estop=health.estop))
    return Response(Probe("not ready", health.reasons, health.estop), status_code=503)


_READS = (view, stream, power, explain, explain_of_station, audit, telemetry)
_ACTS = (peak, estop, clear_estop, shed_load, end_load_shed, mark_seen, override, override_of_station)
API = Router("/api/v1", route_handlers=[*_READS, *_ACTS])
