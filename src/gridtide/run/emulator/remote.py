"""Block F: what the CSMS starts, stops and asks to be told; and the state of transactions it may ask for (E14)."""

from collections.abc import Callable
from typing import Any

from gridtide.run.emulator.authorization import Authorization, Verdict
from gridtide.run.emulator.availability import Availability
from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.profiles_book import ProfilesBook
from gridtide.run.emulator.transactions import Transactions

Trigger = Callable[[], bool]
"""Tells a message again; False if there is nothing to tell."""


class Remote:
    """Remote start, stop and trigger."""

    def __init__(
        self,
        core: Core,
        model: DeviceModel,
        authorization: Authorization,
        availability: Availability,
        transactions: Transactions,
        book: ProfilesBook,
    ) -> None:
        self._core, self._model, self._authorization = core, model, authorization
        self._availability, self._transactions, self._book = availability, transactions, book
        self._awaited: Any | None = None
        """A remote start that waits for its vehicle."""
        self.triggers: dict[str, Trigger] = {}
        self.custom: dict[str, Trigger] = {}

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {
            "RequestStartTransaction": self.start,
            "RequestStopTransaction": self.stop,
            "GetTransactionStatus": self.transaction_status,
            "TriggerMessage": self.trigger,
        }

    def start(self, message: Any) -> Fields:
        """F01, F02: at once if a vehicle is there, else when it comes within the time limit."""
        transactions = self._transactions
        if message.evseId not in (None, 1):
            return status("Rejected", "UnknownEvse")
        if not self._core.connected or not self._availability.operative:
            return status("Rejected", "NotAvailable")
        if transactions.now is not None or self._awaited is not None:
            return status("Rejected", "TxInProgress")
        if not transactions.may_start(message.idToken, None):
            return status("Rejected", "Reserved")
        if message.chargingProfile is not None and not self._book.may_start_with(message.chargingProfile):
            return status("Rejected", "InvalidProfile")
        self._awaited = message
        self._core.soon(self.go)
        wait_s = self._model.number("TxCtrlr", "EVConnectionTimeOut")
        self._core.later(wait_s, lambda: self._give_up(message))
        return status("Accepted")

    @property
    def awaits(self) -> bool:
        """Whether a remote start waits for a vehicle."""
        return self._awaited is not None

    def go(self) -> None:
        """Begin the remote start that waits, if its vehicle is there."""
        message = self._awaited
        if message is None or self._transactions.car is None or self._transactions.now is not None:
            return
        if self._model.is_on("AuthCtrlr", "AuthorizeRemoteStart"):
            self._authorization.decide(message.idToken, lambda verdict: self._begin(message, verdict))
        else:
            self._begin(message, Verdict(True))

    def _begin(self, message: Any, verdict: Verdict) -> None:
        waited = self._awaited is message
        if not waited or self._transactions.car is None or self._transactions.now is not None:
            return
        self._awaited = None
        if verdict.accepted:
            begun = self._transactions.start(message.idToken, "RemoteStart", verdict, message.remoteStartId)
            if message.chargingProfile is not None:
                self._book.begin_with(message.chargingProfile, begun.id)

    def _give_up(self, message: Any) -> None:
        if self._awaited is message:
            self._awaited = None

    def stop(self, message: Any) -> Fields:
        """F03."""
        now = self._transactions.now
        if now is None or now.id != message.transactionId:
            return status("Rejected", "TxNotFound")
        self._core.soon(lambda: self._transactions.stop("RemoteStop", "Remote"))
        return status("Accepted")

    def transaction_status(self, message: Any) -> Fields:
        """E14."""
        wanted, now = message.transactionId, self._transactions.now
        told: Fields = {"messagesInQueue": self._core.outbox.owes(wanted)}
        return told if wanted is None else told | {"ongoingIndicator": now is not None and now.id == wanted}

    def trigger(self, message: Any) -> Fields:
        """F06."""
        if message.evse is not None and message.evse.id not in (0, 1):
            return status("Rejected", "UnknownEvse")
        wanted, custom = message.requestedMessage, getattr(message, "customTrigger", None)
        act = self.custom.get(custom or "") if wanted == "CustomTrigger" else self.triggers.get(wanted)
        if act is None:
            return status("NotImplemented")
        if wanted == "BootNotification" and self._core.connected:
            return status("Rejected", "AlreadyAccepted")  # F06.FR.17
        if wanted == "TransactionEvent" and self._transactions.now is None:
            return status("Rejected", "TxNotFound")
        self._core.soon(lambda: _do(act))
        return status("Accepted")


def _do(act: Trigger) -> None:
    act()
