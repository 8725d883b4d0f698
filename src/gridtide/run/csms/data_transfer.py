"""DataTransfer (P): messages of vendors somebody registered for are theirs; all others are told that nobody knows them."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

VENDOR_DATA = "vendor_data"
"""Kind of the journal of messages of registered vendors."""
Status: TypeAlias = Literal["Accepted", "Rejected", "UnknownMessageId", "UnknownVendorId"]


class VendorAnswer(msgspec.Struct, frozen=True):
    """What a vendor's message is answered with."""

    status: Status
    data: Any = None
    """JSON value, or None."""


TakeVendorData: TypeAlias = Callable[[str, str | None, Any], VendorAnswer]
"""(station, messageId, data) -> its answer."""


class DataTransfers:
    """Answers DataTransfer."""

    def __init__(self, desk: Desk, effects: Effects) -> None:
        self._desk = desk
        self.vendors: dict[str, TakeVendorData] = {}
        """Who takes the messages of a vendor id."""
        self.actions: dict[str, Act] = {"DataTransfer": effects.act(self._heard)}

    async def _heard(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        take = self.vendors.get(message.vendorId)
        if take is None:
            return reply(station, "DataTransfer", status="UnknownVendorId")
        name = station.provision.identity
        await self._desk.store.add_journal(name, VENDOR_DATA, self._desk.clock.wall(), as_json(message))
        answer = take(name, message.messageId, message.data)
        fields = {"status": answer.status} if answer.data is None else {"status": answer.status, "data": answer.data}
        return reply(station, "DataTransfer", **fields)
