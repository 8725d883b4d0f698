"""Reservations that stations accepted, until they are used up, cancelled or over (block H)."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

RESERVATION: Final = "reservation"
"""Kind of the records, by id, and of the journal of how they ended."""
MAX_RESERVATIONS: Final = 200


class Reservation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reservation a station accepted."""

    id: int
    expires_s: float
    """UTC epoch seconds."""
    id_token: str
    evse_id: int | None = None
    group: str | None = None


class Reservations:
    """Answers ReservationStatusUpdate; takes the answers to ReserveNow and CancelReservation."""

    def __init__(self, desk: Desk, effects: Effects) -> None:
        self._desk = desk
        self.actions: dict[str, Act] = {"ReservationStatusUpdate": effects.act(self._updated)}
        self.requests: dict[str, Any] = {}
        self.answers = {"ReserveNow": self._reserved, "CancelReservation": self._cancelled}

    def of(self, identity: str) -> tuple[Reservation, ...]:
        """A station's reservations that are not over yet."""
        now_s = self._desk.clock.wall()
        return tuple(item for item in self._kept(identity) if item.expires_s > now_s)

    async def erase(self, identity: str, id_token: str) -> int:
        """Forget reservations of a token, however it is spelled; how many went."""
        wanted = id_token.lower()
        gone = tuple(
            str(item.id)
            for item in self._kept(identity)
            if wanted in (item.id_token.lower(), (item.group or "").lower())
        )
        if not gone:
            return 0
        return await self._desk.store.remove_records(identity, RESERVATION, gone)

    def _kept(self, identity: str) -> list[Reservation]:
        records = self._desk.store.records(identity, RESERVATION)
        return [msgspec.json.decode(record.value_json, type=Reservation) for record in records]

    async def _reserved(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status != "Accepted":
            return
        name, now_s = station.provision.identity, self._desk.clock.wall()
        made = Reservation(
            id=request.id, expires_s=request.expiryDateTime.timestamp(), id_token=request.idToken.idToken,
            evse_id=request.evseId, group=request.groupIdToken and request.groupIdToken.idToken,
        )  # fmt: skip
        over = tuple(str(item.id) for item in self._kept(name) if item.expires_s <= now_s)
        await self._desk.store.remove_records(name, RESERVATION, over)
        if len(self._kept(name)) < MAX_RESERVATIONS:
            await self._desk.store.put_records(name, RESERVATION, {str(made.id): as_json(made)}, now_s)

    async def _cancelled(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status == "Accepted":
            await self._end(station, request.reservationId, "Cancelled")

    async def _updated(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        """Expired, removed, or (2.1) no transaction came of it: it is over in each case."""
        await self._end(station, message.reservationId, str(message.reservationUpdateStatus))
        return reply(station, "ReservationStatusUpdate")

    async def _end(self, station: Station, number: int, how: str) -> None:
        name, now_s = station.provision.identity, self._desk.clock.wall()
        is_known = any(item.id == number for item in self._kept(name))
        entry = {"reservationId": number, "ended": how, "isKnown": is_known}
        await self._desk.store.add_journal(name, RESERVATION, now_s, as_json(entry))
        await self._desk.store.remove_records(name, RESERVATION, (str(number),))
