"""Block O: messages on the station's display."""

from typing import Any

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.transactions import Transactions

MESSAGES_PER_REPORT = 5
MAX_MESSAGES = 20


class Display:
    """The messages shown or to be shown."""

    def __init__(self, core: Core, model: DeviceModel, transactions: Transactions) -> None:
        self._core, self._model, self._transactions = core, model, transactions
        self.messages: dict[int, Any] = {}
        model.live("DisplayMessageCtrlr", "DisplayMessages", lambda: str(len(self.messages)))

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {
            "SetDisplayMessage": self.set,
            "GetDisplayMessages": self.get,
            "ClearDisplayMessage": self.clear,
        }

    def set(self, message: Any) -> Fields:
        """O01, O02, O06."""
        info, now = message.message, self._transactions.now
        if not self._model.is_on("DisplayMessageCtrlr"):
            return status("Rejected", "NotEnabled")
        if info.message.format not in self._list("SupportedFormats"):
            return status("NotSupportedMessageFormat")
        if info.priority not in self._list("SupportedPriorities"):
            return status("NotSupportedPriority")
        if info.transactionId is not None and (now is None or now.id != info.transactionId):
            return status("UnknownTransaction")
        if info.endDateTime is not None and info.endDateTime <= self._core.now():
            return status("Rejected", "InvalidValue")
        if info.id not in self.messages and len(self.messages) >= MAX_MESSAGES:
            return status("Rejected", "TooManyElements")
        if info.priority == "AlwaysFront":
            # Only one message is always in front: the newest (O01.FR.11).
            self.messages = {n: m for n, m in self.messages.items() if m.priority != "AlwaysFront"}
        self.messages[info.id] = info
        return status("Accepted")

    def get(self, message: Any) -> Fields:
        """O03, O04."""
        found = [
            m for m in self.messages.values()
            if (message.id is None or m.id in message.id) and message.priority in (None, m.priority)
            and message.state in (None, m.state)
        ]  # fmt: skip
        if not found:
            return status("Unknown")
        self._core.soon(lambda: self._report(message.requestId, found))
        return status("Accepted")

    def _report(self, request_id: int, found: list[Any]) -> None:
        parts = [found[i : i + MESSAGES_PER_REPORT] for i in range(0, len(found), MESSAGES_PER_REPORT)]
        for number, part in enumerate(parts):
            told = {"requestId": request_id, "messageInfo": part, "tbc": number + 1 < len(parts)}
            self._core.say("NotifyDisplayMessages", told, asked=True)

    def clear(self, message: Any) -> Fields:
        """O05."""
        return status("Accepted" if self.messages.pop(message.id, None) is not None else "Unknown")

    def transaction_ended(self, transaction_id: str) -> None:
        """Messages of a transaction go with it (O02.FR.02)."""
        self.messages = {n: m for n, m in self.messages.items() if m.transactionId != transaction_id}

    def tick(self) -> None:
        """What has ended is taken off."""
        if self.messages:
            now = self._core.now()
            self.messages = {
                n: m for n, m in self.messages.items() if m.endDateTime is None or now < m.endDateTime
            }  # fmt: skip

    def shown(self) -> Any | None:
        """The message in front now, or None."""
        now = self._core.now()
        ready = [m for m in self.messages.values() if m.startDateTime is None or m.startDateTime <= now]
        order = ("AlwaysFront", "InFront", "NormalCycle")
        return min(ready, key=lambda m: order.index(m.priority), default=None)

    def _list(self, name: str) -> list[str]:
        return self._model.value("DisplayMessageCtrlr", name).split(",")
