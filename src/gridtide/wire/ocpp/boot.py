"""The boot gate of a CSMS: what a station may send before its BootNotification was accepted (B01-B03)."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from gridtide.wire.ocpp.actions import REPORTS_ASKED_BY, TRIGGERED_ACTIONS
from gridtide.wire.ocpp.structs import WireStruct

BootState: TypeAlias = Literal["unbooted", "pending", "rejected", "accepted"]

BOOT: Final = "BootNotification"


class BootGate:
    """State of one station's registration, and the messages it lets through."""

    def __init__(self, state: BootState) -> None:
        """Start in `state`: `accepted` when a station that was accepted before merely reconnects."""
        self.state: BootState = state
        self._retry_at_s = 0.0
        self._asked_for: set[str] = set()

    def refusal(self, action: str, now_s: float) -> str | None:
        """Why `action` is not allowed from the station now, or None when it is."""
        if self.state == "accepted":
            return None
        if self.state == "rejected" and now_s < self._retry_at_s:
            return "rejected: nothing may be sent before the interval has passed"
        if action == BOOT or (self.state == "pending" and action in self._asked_for):
            return None
        return f"{action} is not allowed while the station is {self.state}"

    def note_request(self, action: str, payload: WireStruct) -> None:
        """Remember what the CSMS asked for; a pending station may send that."""
        if action == "TriggerMessage":
            wanted = str(getattr(payload, "requestedMessage", ""))
            self._asked_for.add(TRIGGERED_ACTIONS.get(wanted, wanted))
        elif action in REPORTS_ASKED_BY:
            self._asked_for.add(REPORTS_ASKED_BY[action])

    def note_boot_answer(self, payload: WireStruct, now_s: float) -> None:
        """Take the state from a BootNotification answer; `interval` (s) is the earliest retry when rejected."""
        status = str(getattr(payload, "status", ""))
        if status == "Accepted":
            self.state = "accepted"
            self._asked_for.clear()
        elif status == "Pending":
            self.state = "pending"
        elif status == "Rejected":
            self.state = "rejected"
            self._retry_at_s = now_s + float(getattr(payload, "interval", 0))
