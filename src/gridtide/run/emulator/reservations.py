"""Block H: one reservation of the EVSE, kept until it is used, cancelled, displaced or expired."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from gridtide.run.emulator.availability import Availability
from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.local_list import TokenKey, token_key


class Reservation(Struct, frozen=True):
    """Who may use the EVSE until when."""

    id: int
    token: TokenKey
    group: TokenKey | None
    expires: datetime


class Reservations:
    """The reservation of EVSE 1."""

    def __init__(self, core: Core, model: DeviceModel, availability: Availability) -> None:
        self._core, self._model, self._availability = core, model, availability
        self.now: Reservation | None = None
        availability.blocked.append(self._displaced)

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {"ReserveNow": self.reserve, "CancelReservation": self.cancel}

    def reserve(self, message: Any) -> Fields:
        """H01."""
        state = self._availability.state
        if not self._model.is_on("ReservationCtrlr"):
            return status("Rejected", "NotEnabled")
        if message.evseId not in (None, 0, 1):
            return status("Rejected", "UnknownEvse")
        if message.connectorType not in (None, self._core.setup.connector):
            return status("Rejected", "UnknownConnectorType")
        if message.expiryDateTime <= self._core.now():
            return status("Rejected", "InvalidValue")
        if state in ("Faulted", "Unavailable"):
            return status(state)
        if state == "Occupied" or (self.now is not None and self.now.id != message.id):
            return status("Occupied")
        group = None if message.groupIdToken is None else token_key(message.groupIdToken)
        self.now = Reservation(message.id, token_key(message.idToken), group, message.expiryDateTime)
        self._core.soon(self._told)
        return status("Accepted")

    def cancel(self, message: Any) -> Fields:
        """H02."""
        if self.now is None or self.now.id != message.reservationId:
            return status("Rejected", "UnknownReservation")
        self.now = None
        self._core.soon(self._told)
        return status("Accepted")

    def admits(self, token: Any, group: TokenKey | None) -> bool:
        """Whether the EVSE is free for this token (H03)."""
        here = self.now
        return here is None or here.token == token_key(token) or (group is not None and group == here.group)

    def use(self) -> Fields:
        """A transaction starts: the reservation is used up; its id goes into the event."""
        used, self.now = self.now, None
        self._availability.reserved = False
        return {} if used is None else {"reservationId": used.id}

    def tick(self) -> None:
        """End what has expired (H04)."""
        if self.now is not None and self._core.now() >= self.now.expires:
            self._end("Expired")

    def _displaced(self) -> None:
        if self.now is not None:
            self._end("Removed")

    def _end(self, how: str) -> None:
        if self.now is None:
            return
        update = {"reservationId": self.now.id, "reservationUpdateStatus": how}
        self.now = None
        self._core.say("ReservationStatusUpdate", update)
        self._told()

    def _told(self) -> None:
        self._availability.reserved = self.now is not None
        self._availability.tell()
