"""Payment, tax and battery messages (blocks I and S, 2.1): kept, and answered as far as anything is connected that could judge."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json, check_transaction, without_none
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

SETTLEMENT, WEB_PAYMENT, VAT, BATTERY_SWAP = "settlement", "web_payment", "vat", "battery_swap"
"""Kinds of the journals."""
VatVerdict: TypeAlias = Literal["Accepted", "Rejected"]


class Offers:
    """Answers NotifySettlement, NotifyWebPaymentStarted, VatNumberValidation and BatterySwap."""

    def __init__(self, desk: Desk, effects: Effects) -> None:
        self._desk = desk
        self.judge_vat: Callable[[str], VatVerdict] | None = None
        """Whether a VAT number is valid; without it every one is rejected, for nobody has looked."""
        self.actions: dict[str, Act] = {
            "NotifySettlement": effects.act(self._settled),
            "NotifyWebPaymentStarted": effects.act(self._web_payment),
            "VatNumberValidation": effects.act(self._vat),
            "BatterySwap": effects.act(self._swapped),
        }

    async def _settled(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        check_transaction(self._desk, station, message.transactionId)
        await self._journal(station, SETTLEMENT, message)
        return reply(station, "NotifySettlement")

    async def _web_payment(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        await self._journal(station, WEB_PAYMENT, message)
        return reply(station, "NotifyWebPaymentStarted")

    async def _vat(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        verdict: VatVerdict = "Rejected" if self.judge_vat is None else self.judge_vat(message.vatNumber)
        await self._journal(station, VAT, {"told": message, "verdict": verdict})
        fields = without_none({"vatNumber": message.vatNumber, "status": verdict, "evseId": message.evseId})
        if self.judge_vat is None:
            fields["statusInfo"] = {"reasonCode": "NoValidator"}
        return reply(station, "VatNumberValidation", **fields)

    async def _swapped(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        kept = self._desk.erased.cleaned(message.idToken, as_json(message))
        await self._desk.store.add_journal(station.provision.identity, BATTERY_SWAP, self._desk.clock.wall(), kept)
        return reply(station, "BatterySwap")

    async def _journal(self, station: Station, kind: str, entry: Any) -> None:
        await self._desk.store.add_journal(station.provision.identity, kind, self._desk.clock.wall(), as_json(entry))
