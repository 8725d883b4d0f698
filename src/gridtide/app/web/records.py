"""The routes about idTokens, transactions and sessions under /api/v1, and forgetting them."""

from typing import Annotated, Literal

from litestar import Response, delete, get, post
from litestar.exceptions import ClientException
from litestar.params import FromQuery, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta, Struct

from gridtide.app.web.desk import ADMIN, OPERATOR, Actor, Desk, Done, Given, Named, given, wishes
from gridtide.app.web.station_port import StationPort
from gridtide.run.csms.refused_tokens import RefusedToken
from gridtide.run.csms.registry import TokenEntry
from gridtide.run.csms.views import TransactionDetail, TransactionRow
from gridtide.run.store.rows import EARLIEST_S, LATEST_S

Instant = Annotated[float | None, QueryParameter(ge=EARLIEST_S, lt=LATEST_S)]
_MONTH_S = 31 * 86_400.0


class LinkWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which token gets a driver link."""

    id_token: Annotated[str, Meta(min_length=1, max_length=255)]
    type: Annotated[str, Meta(min_length=1, max_length=20)] | None = None


class EraseWish(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to forget."""

    id_token: Annotated[str, Meta(min_length=1, max_length=255)]


class ForgetWish(Struct, frozen=True, forbid_unknown_fields=True):
    """Ended transactions older than this are deleted; UTC epoch seconds."""

    before_s: float


class Changed(Struct, frozen=True):
    """How many rows a wish changed."""

    changed: int


# --- tokens ---------------------------------------------------------------------------------------------------------
@get("/tokens", opt=OPERATOR)
async def tokens(desk: Desk) -> tuple[TokenEntry, ...]:
    """Registered idTokens with status, group, expiry and driver's defaults."""
    return desk.tokens()


@get("/tokens/refused", opt=OPERATOR)
async def refused_tokens(desk: Desk) -> tuple[RefusedToken, ...]:
    """Cards that may not charge and were presented, the latest first; kept until the program ends, 200 of them."""
    return desk.refused_tokens()


@post("/tokens", status_code=HTTP_200_OK, opt=ADMIN)
async def put_token(desk: Desk, actor: Actor, data: JSONBody[TokenEntry]) -> Done:
    """Register or change an idToken."""
    with wishes():
        await desk.put_token(data, actor)
    return Done()


@delete("/tokens", status_code=HTTP_200_OK, opt=ADMIN)
async def remove_token(
    desk: Desk,
    actor: Actor,
    id_token: Annotated[str, QueryParameter(min_length=1, max_length=255)],
    type: Annotated[str, QueryParameter(min_length=1, max_length=20)] = "ISO14443",
) -> Done:
    """Remove an idToken and its driver links; its transactions stay (see erase)."""
    with wishes():
        await desk.remove_token(id_token, type, actor)
    return Done()


@post("/tokens/erase", status_code=HTTP_200_OK, opt=ADMIN)
async def erase_token(desk: Desk, actor: Actor, data: JSONBody[EraseWish]) -> Changed:
    """Forget a person: registration, links, and the idToken in every stored transaction."""
    with wishes():
        return Changed(await desk.erase_token(data.id_token, actor))


@post("/tokens/link", status_code=HTTP_200_OK)
async def link_token(desk: Desk, actor: Actor, data: JSONBody[LinkWish]) -> Given:
    """A driver link for all stays of an idToken."""
    with wishes():
        return given(await desk.link_token(data.id_token, data.type, actor), desk.address)


@post("/forget", status_code=HTTP_200_OK, opt=ADMIN)
async def forget(desk: Desk, actor: Actor, data: JSONBody[ForgetWish]) -> Changed:
    """Delete ended transactions whose last event is older."""
    with wishes():
        return Changed(await desk.forget(data.before_s, actor))


# --- transactions ---------------------------------------------------------------------------------------------------
@get("/transactions", opt=OPERATOR)
async def transactions(
    desk: Desk,
    start_s: Instant = None,
    end_s: Instant = None,
    station: Named = None,
    limit: Annotated[int, QueryParameter(ge=1, le=10_000)] = 1_000,
) -> tuple[TransactionRow, ...]:
    """Transactions that began in [start_s, end_s), newest first; the last month if they are not given."""
    start, end = _span(desk, start_s, end_s)
    with wishes():
        return await desk.transactions(start, end, station, limit)


@get("/transaction", opt=OPERATOR)
async def transaction(
    desk: Desk,
    station: Annotated[str, QueryParameter(min_length=1, max_length=48)],
    transaction_id: Annotated[str, QueryParameter(min_length=1, max_length=255)],
) -> TransactionDetail:
    """One transaction with its events as the station told them."""
    with wishes():
        return await desk.transaction(station, transaction_id)


@get("/sessions", opt=OPERATOR)
async def sessions(
    desk: Desk,
    start_s: Instant = None,
    end_s: Instant = None,
    station: Named = None,
    format: FromQuery[Literal["json", "csv", "cdr"]] = "json",
) -> Response[bytes]:
    """Sessions that began in [start_s, end_s), oldest first: energy both ways by the station's registers.

    `cdr`: charge detail records of ended ones with OCPI 2.2.1 names where they fit.
    """
    start, end = _span(desk, start_s, end_s)
    with wishes():
        body = await desk.sessions(start, end, station, format)
    if format == "csv":
        headers = {"Content-Disposition": 'attachment; filename="sessions.csv"'}
        return Response(body, media_type="text/csv", headers=headers)
    return Response(body, media_type="application/json")


def _span(desk: StationPort, start_s: float | None, end_s: float | None) -> tuple[float, float]:
    end_s = desk.now_s() + 1.0 if end_s is None else end_s
    start_s = end_s - _MONTH_S if start_s is None else start_s
    if start_s > end_s:
        raise ClientException(f"start_s is {start_s}: give an instant before end_s ({end_s})")
    return start_s, end_s


RECORDS = (
    *(tokens, refused_tokens, put_token, remove_token, erase_token, link_token, forget),
    *(transactions, transaction, sessions),
)
