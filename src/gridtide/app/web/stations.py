"""The routes about stations and charge profiles under /api/v1: ask the port, translate its refusals."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Router, delete, get, post, put
from litestar.di import Provide
from litestar.exceptions import ClientException
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta, Struct

from gridtide.app.web.desk import ADMIN, OPERATOR, Actor, Desk, Done, Given, Named, given, wishes
from gridtide.app.web.records import RECORDS
from gridtide.app.web.station_port import StationPort
from gridtide.run.csms.charge_profiles import ChargeProfile, ProfileStatus
from gridtide.run.csms.discharge_test import LONGEST_S, TestReport
from gridtide.run.csms.operate import CallOutcome
from gridtide.run.csms.registry import EvseEntry, StationEntry, StationMode
from gridtide.run.csms.views import (
    Cleared,
    Issued,
    JournalRow,
    KnockRow,
    ProfilesView,
    Record,
    Rotated,
    StationDetail,
    StationRow,
)
from gridtide.run.doors import SecurityProfile
from gridtide.wire.ocpp.dialects import Dialect

CALL_BYTES = 262_144
"""A call's payload may be a whole local authorisation list."""


class AcceptWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an identity that knocked is registered; the rest are the defaults of a station."""

    name: Annotated[str, Meta(max_length=100)] = ""
    security_profile: Literal[1, 2, 3] = 1
    serial: Annotated[str, Meta(max_length=100)] = ""
    dialect: Dialect = "refuse"
    evses: Annotated[tuple[EvseEntry, ...], Meta(min_length=1, max_length=64)] = (EvseEntry(id=1),)


class ModeWish(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a station may discharge."""

    mode: StationMode


class MoveWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The security profile a station shall use."""

    security_profile: SecurityProfile
    downgrade_allowed: bool = False
    """2.1, from 3 to 2: the station has AllowSecurityProfileDowngrade set."""


class CallWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message for a station."""

    action: Annotated[str, Meta(min_length=1, max_length=64)]
    payload: dict[str, Any] = {}
    timeout_s: Annotated[float, Meta(gt=0.0, le=120.0)] = 30.0


class TestWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test discharge."""

    __test__ = False

    rate_kw: Annotated[float, Meta(gt=0.0, le=1_000.0)]
    duration_s: Annotated[float, Meta(ge=1.0, le=LONGEST_S)]
    evse: Annotated[int, Meta(ge=1, le=1_000)] = 1


class EvseWish(Struct, frozen=True, forbid_unknown_fields=True):
    """Which EVSE's present stay gets a driver link."""

    evse: Annotated[int, Meta(ge=1, le=1_000)] = 1


# --- stations -------------------------------------------------------------------------------------------------------
@get("/stations")
async def stations(desk: Desk) -> tuple[StationRow, ...]:
    """Every station: link, version, security profile, dialect, mode, and for each EVSE why it can or cannot discharge."""
    return desk.stations()


@get("/stations/{identity:str}")
async def station(desk: Desk, identity: FromPath[str]) -> StationDetail:
    """One station in full: registration, what it told at boot, what was sent to it last."""
    with wishes():
        return desk.station(identity)


@post("/stations", status_code=HTTP_200_OK, opt=ADMIN)
async def add_station(desk: Desk, actor: Actor, data: JSONBody[StationEntry]) -> Issued:
    """Register a station. Its password is in this answer and nowhere else."""
    with wishes():
        return await desk.add_station(data, actor)


@put("/stations/{identity:str}", opt=ADMIN)
async def change_station(desk: Desk, actor: Actor, data: JSONBody[StationEntry], identity: FromPath[str]) -> Issued:
    """Change a station; its password stays."""
    if data.identity != identity:
        raise ClientException(f"identity is {data.identity!r}: give {identity!r}, as in the path; it cannot be changed")
    with wishes():
        return await desk.change_station(data, actor)


@delete("/stations/{identity:str}", status_code=HTTP_200_OK, opt=ADMIN)
async def remove_station(desk: Desk, actor: Actor, identity: FromPath[str]) -> Done:
    """Remove a station and its password; its connection ends."""
    with wishes():
        await desk.remove_station(identity, actor)
    return Done()


@post("/stations/{identity:str}/rotate-password", status_code=HTTP_200_OK, opt=ADMIN)
async def rotate_password(desk: Desk, actor: Actor, identity: FromPath[str]) -> Rotated:
    """Give a connected station a new password (A01). It is told to the station alone; the old one stays until it is used."""
    with wishes():
        return await desk.rotate_password(identity, actor)


@post("/stations/{identity:str}/mode", status_code=HTTP_200_OK)
async def set_mode(desk: Desk, actor: Actor, data: JSONBody[ModeWish], identity: FromPath[str]) -> Done:
    """Let a station discharge (`bidirectional`, if its dialect can) or not (`charge-only`); in force at once."""
    with wishes():
        await desk.set_mode(identity, data.mode, actor)
    return Done()


@post("/stations/{identity:str}/security-profile", status_code=HTTP_200_OK, opt=ADMIN)
async def move_station(desk: Desk, actor: Actor, data: JSONBody[MoveWish], identity: FromPath[str]) -> Done:
    """Let a station come in on another security profile too; once it has, that one alone is its own (A05). Tell the station
    with SetNetworkProfile."""
    with wishes():
        await desk.move_station(identity, data.security_profile, data.downgrade_allowed, actor)
    return Done()


@post("/stations/{identity:str}/local-list", status_code=HTTP_200_OK)
async def push_local_list(desk: Desk, actor: Actor, identity: FromPath[str]) -> Done:
    """Give a station the registered cards, for the times it is offline; it is kept up to date from then on."""
    with wishes():
        return Done(await desk.push_local_list(identity, actor))


@get("/stations/{identity:str}/device-model")
async def device_model(desk: Desk, identity: FromPath[str]) -> tuple[Record, ...]:
    """Variables the station reported (GetBaseReport, GetVariables); never a password."""
    with wishes():
        return desk.device_model(identity)


@get("/stations/{identity:str}/profiles")
async def profiles(desk: Desk, identity: FromPath[str]) -> ProfilesView:
    """Setpoints sent to the station, and the charging profiles it reported."""
    with wishes():
        return desk.profiles(identity)


@get("/stations/{identity:str}/journal", opt=OPERATOR)
async def journal(
    desk: Desk,
    identity: FromPath[str],
    kind: Named = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
) -> tuple[JournalRow, ...]:
    """What the station told over time, newest first: events, security events, logs, vendor data."""
    with wishes():
        return desk.journal(identity, kind, limit)


@post("/stations/{identity:str}/call", status_code=HTTP_200_OK, opt=ADMIN, request_max_body_size=CALL_BYTES)
async def call(desk: Desk, actor: Actor, data: JSONBody[CallWish], identity: FromPath[str]) -> CallOutcome:
    """Send the station any message that a CSMS may send, and wait for its answer. None makes a vehicle discharge."""
    with wishes():
        return await desk.call(identity, data.action, data.payload, data.timeout_s, actor)


@post("/stations/{identity:str}/test-discharge", status_code=HTTP_200_OK)
async def test_discharge(desk: Desk, actor: Actor, data: JSONBody[TestWish], identity: FromPath[str]) -> TestReport:
    """Discharge at a rate for a time and measure the transition; answers at the end with figures and a verdict."""
    with wishes():
        return await desk.test_discharge(identity, data.evse, data.rate_kw, data.duration_s, actor)


@post("/stations/{identity:str}/link", status_code=HTTP_200_OK)
async def link_evse(desk: Desk, actor: Actor, data: JSONBody[EvseWish], identity: FromPath[str]) -> Given:
    """A driver link for the present stay at an EVSE; it ends with that stay."""
    with wishes():
        return given(await desk.link_evse(identity, data.evse, actor), desk.address)


@get("/knocked", opt=OPERATOR)
async def knocked(desk: Desk) -> tuple[KnockRow, ...]:
    """Identities nobody registered that tried to connect, the latest first."""
    return desk.knocked()


@post("/knocked/{identity:str}/accept", status_code=HTTP_200_OK, opt=ADMIN)
async def accept(desk: Desk, actor: Actor, data: JSONBody[AcceptWish], identity: FromPath[str]) -> Issued:
    """Register an identity that knocked. Its password is in this answer and nowhere else."""
    with wishes():
        if identity not in {one.identity for one in desk.knocked()}:
            raise KeyError(f"{identity[:48]!r} has not knocked: register it as a new station")
        entry = msgspec.convert({"identity": identity}, StationEntry)
        return await desk.add_station(msgspec.structs.replace(entry, **msgspec.structs.asdict(data)), actor)


@post("/faults/clear", status_code=HTTP_200_OK)
async def clear_faults(desk: Desk, actor: Actor) -> Cleared:
    """Acknowledge latched faults (the meter's sign, tampering) and say which; a second time clears nothing."""
    with wishes():
        return await desk.clear_faults(actor)


# --- profiles from elsewhere ----------------------------------------------------------------------------------------
@post("/charge-profile", status_code=HTTP_200_OK)
async def charge_profile(desk: Desk, actor: Actor, data: JSONBody[ChargeProfile]) -> ProfileStatus:
    """Take a schedule for one EVSE, once per `transaction_id`: the same again has no effect, another body is a 409.

    The schedule is a wish: drivers, limits and the guard stand above it. 422 `discharge denied` where the station may not.
    """
    with wishes():
        return await desk.charge_profile(data, actor)


@get("/charge-profile", opt=OPERATOR)
async def charge_profiles(desk: Desk) -> tuple[ProfileStatus, ...]:
    """Profiles that came, the latest first."""
    return desk.charge_profiles()


@delete("/charge-profile", status_code=HTTP_200_OK)
async def cancel_charge_profile(
    desk: Desk, actor: Actor, transaction_id: Annotated[str, QueryParameter(min_length=1, max_length=64)]
) -> ProfileStatus:
    """End a profile now."""
    with wishes():
        return await desk.cancel_charge_profile(transaction_id, actor)


_READS = (stations, station, device_model, profiles, journal, knocked, charge_profiles)
_ACTS = (
    add_station, change_station, remove_station, rotate_password, set_mode, move_station,
    push_local_list, call, test_discharge, link_evse, accept,
    clear_faults, charge_profile, cancel_charge_profile,
)  # fmt: skip


def station_routes(desk: StationPort) -> Router:
    """All of them, and those of `records`, over one site's desk."""
    dependencies = {"desk": Provide(lambda: desk, sync_to_thread=False)}
    return Router("/api/v1", route_handlers=[*_READS, *_ACTS, *RECORDS], dependencies=dependencies)
