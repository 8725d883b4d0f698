"""Messages on stations' displays, and what stations know of customers (blocks N and O)."""

from typing import Any, Final

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json
from gridtide.run.csms.parts import PartBook
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

DISPLAY_MESSAGE: Final = "display_message"
"""Kind of the records; the key is the message's id."""
CUSTOMER: Final = "customer_information"
"""Kind of the records; the key is request and part. Only the newest request's text is kept: it is about a person."""


class Display:
    """Answers NotifyDisplayMessages and NotifyCustomerInformation; takes the answers about display messages."""

    def __init__(self, desk: Desk, effects: Effects, book: PartBook) -> None:
        self._desk, self._book = desk, book
        self.actions: dict[str, Act] = {
            "NotifyDisplayMessages": effects.act(self._messages),
            "NotifyCustomerInformation": effects.act(self._customer),
        }
        self.requests = {"GetDisplayMessages": self._asked_messages, "CustomerInformation": self._asked_customer}
        self.answers = {
            "GetDisplayMessages": self._messages_answered,
            "CustomerInformation": self._customer_answered,
            "SetDisplayMessage": self._set,
            "ClearDisplayMessage": self._cleared,
        }

    async def _messages(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        rows = {str(item.id): as_json(item) for item in message.messageInfo or ()}
        await self._book.take(station, "NotifyDisplayMessages", message, DISPLAY_MESSAGE, rows)
        return reply(station, "NotifyDisplayMessages")

    async def _customer(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        rows = {f"{message.requestId}/{message.seqNo:06d}": as_json(message.data)}
        await self._book.take(station, "NotifyCustomerInformation", message, CUSTOMER, rows)
        return reply(station, "NotifyCustomerInformation")

    def _asked_messages(self, station: Station, request: Any) -> None:
        is_whole = request.id is None and request.priority is None and request.state is None
        self._book.expect(station, "NotifyDisplayMessages", request.requestId, is_whole=is_whole)

    def _asked_customer(self, station: Station, request: Any) -> None:
        self._book.expect(station, "NotifyCustomerInformation", request.requestId, is_whole=True)

    async def _messages_answered(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status != "Accepted":
            await self._book.cancel(station, "NotifyDisplayMessages", request.requestId)

    async def _customer_answered(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status != "Accepted":
            await self._book.cancel(station, "NotifyCustomerInformation", request.requestId)

    async def _set(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status == "Accepted":
            rows, now_s = {str(request.message.id): as_json(request.message)}, self._desk.clock.wall()
            await self._desk.store.put_records(station.provision.identity, DISPLAY_MESSAGE, rows, now_s)

    async def _cleared(self, station: Station, request: Any, _answer: Any) -> None:
        """Accepted or Unknown: either way it is not there any more."""
        await self._desk.store.remove_records(station.provision.identity, DISPLAY_MESSAGE, (str(request.id),))
