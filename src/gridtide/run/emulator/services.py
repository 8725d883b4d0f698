"""Blocks P and S, and payments: data transfer, battery swap, settlement, VAT numbers, web payment."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.transactions import Transactions

SWAP_S = 5.0
"""From one battery's going in to the other's coming out."""
Vendor = Callable[[str | None, Any], Fields]
"""Answers a vendor's message: (messageId, data) to the response's fields."""


class Services:
    """What stands beside charging."""

    def __init__(self, core: Core, transactions: Transactions) -> None:
        self._core, self._transactions = core, transactions
        self.vendors: dict[str, Vendor] = {"gridtide": _own}
        self.batteries = 1
        """Charged batteries to swap."""
        self.web_payment: int | None = None
        """Time limit of a web payment under way, s."""

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        told: Actions = {"DataTransfer": self.data_transfer}
        if self._core.version == "2.0.1":
            return told
        return {
            **told,
            "RequestBatterySwap": self.request_swap,
            "NotifyWebPaymentStarted": self.web_payment_started,
        }

    def data_transfer(self, message: Any) -> Fields:
        """P01."""
        vendor = self.vendors.get(message.vendorId)
        return status("UnknownVendorId") if vendor is None else vendor(message.messageId, message.data)

    def send_data(self, vendor: str, name: str | None = None, data: Any = None) -> None:
        """P02."""
        told = {"vendorId": vendor, "messageId": name, "data": data}
        self._core.say("DataTransfer", {key: value for key, value in told.items() if value is not None})

    # --- battery swap -----------------------------------------------------------------------------------------------
    def request_swap(self, message: Any) -> Fields:
        """S02: refused while the bay is in use or no charged battery is there."""
        if self._transactions.car is not None or self.batteries <= 0:
            return status("Rejected", "NoBatteryAvailable")
        self._core.soon(lambda: self.swap(message.requestId, message.idToken))
        return status("Accepted")

    def swap(self, request_id: int, token: Any) -> None:
        """An empty battery goes in, a charged one comes out (S01)."""
        self.batteries -= 1
        self._battery("BatteryIn", request_id, token, 12.0)
        self._core.later(SWAP_S, lambda: self._out(request_id, token))

    def _out(self, request_id: int, token: Any) -> None:
        self.batteries += 1
        self._battery("BatteryOut", request_id, token, 95.0)

    def _battery(self, what: str, request_id: int, token: Any, charge_pct: float) -> None:
        data = {"evseId": 1, "serialNumber": f"B-{what}-{request_id}"[:50], "soC": charge_pct, "soH": 98.0}
        fields: Fields = {"eventType": what, "requestId": request_id, "idToken": token, "batteryData": [data]}
        self._core.say("BatterySwap", fields)

    # --- payments ---------------------------------------------------------------------------------------------------
    def web_payment_started(self, message: Any) -> Fields:
        """C25: the display shows that a payment is under way."""
        self.web_payment = message.timeout
        return {}

    def tell_web_payment(self, timeout_s: int) -> None:
        """A driver scanned the code at the station."""
        self._core.say("NotifyWebPaymentStarted", {"evseId": 1, "timeout": timeout_s})

    def settle(self, psp_ref: str, amount: float, what: str = "Settled", at: datetime | None = None) -> None:
        """C24: the payment terminal settled."""
        fields: Fields = {
            "pspRef": psp_ref, "status": what, "settlementAmount": amount, "settlementTime": at or self._core.now()
        }  # fmt: skip
        now = self._transactions.now
        self._core.say("NotifySettlement", fields | ({} if now is None else {"transactionId": now.id}))

    def ask_vat(self, number: str) -> None:
        """C23: is this VAT number good?"""
        self._core.say("VatNumberValidation", {"vatNumber": number, "evseId": 1})


def _own(name: str | None, data: Any) -> Fields:
    """The emulator's own vendor message: an echo."""
    if name != "echo":
        return status("UnknownMessageId")
    return status("Accepted") | ({} if data is None else {"data": data})
