"""Block G: the connector's state, availability of station, EVSE and connector, and the lock."""

from typing import Any

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.transactions import Transactions

LEVELS = ("station", "evse", "connector")


class Availability:
    """What the operator allows, what is broken, and what the connector is therefore."""

    def __init__(self, core: Core, model: DeviceModel, transactions: Transactions) -> None:
        self._core, self._transactions = core, transactions
        self._off: set[str] = set()
        self._scheduled: dict[str, str] = {}
        self.faulted = False
        self.reserved = False
        self._told = ""
        self.blocked: list[Any] = []
        """Called when the connector becomes unavailable or faulted: reservations end then."""
        for component, evse_id, connector_id in (("ChargingStation", 0, 0), ("EVSE", 1, 0), ("Connector", 1, 1)):
            model.live(component, "AvailabilityState", lambda: self.state, evse_id, connector_id)
        model.live("ChargingStation", "Problem", lambda: "true" if self.faulted else "false")

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {"ChangeAvailability": self.change, "UnlockConnector": self.unlock}

    @property
    def operative(self) -> bool:
        """Whether the EVSE may serve anybody."""
        return not self._off and not self.faulted

    @property
    def state(self) -> str:
        """The connector's status."""
        if self.faulted:
            return "Faulted"
        if self._off:
            return "Unavailable"
        if self._transactions.car is not None:
            return "Occupied"
        return "Reserved" if self.reserved else "Available"

    def tell(self, *, always: bool = False) -> None:
        """StatusNotification when the state is another, or `always`."""
        state = self.state
        if always or state != self._told:
            self._told = state
            at = self._core.now()
            fields = {"timestamp": at, "connectorStatus": state, "evseId": 1, "connectorId": 1}
            self._core.say("StatusNotification", fields)

    def change(self, message: Any) -> Fields:
        """G03, G04: at once, or when the transaction ends."""
        evse = message.evse
        if evse is not None and (evse.id != 1 or evse.connectorId not in (None, 1)):
            return status("Rejected", "UnknownEvse")
        level = "station" if evse is None else "evse" if evse.connectorId is None else "connector"
        wanted = message.operationalStatus
        if wanted == "Inoperative" and self._transactions.now is not None:
            self._scheduled[level] = wanted
            return status("Scheduled")
        self._scheduled.pop(level, None)
        self._core.soon(lambda: self._set(level, wanted))
        return status("Accepted")

    def settle(self) -> None:
        """The transaction ended: what was scheduled takes effect."""
        for level, wanted in self._scheduled.items():
            (self._off.add if wanted == "Inoperative" else self._off.discard)(level)
        self._scheduled.clear()

    def _set(self, level: str, wanted: str) -> None:
        (self._off.add if wanted == "Inoperative" else self._off.discard)(level)
        self._after_change()

    def fault(self, *, active: bool) -> None:
        """A fault of the hardware begins or ends; it ends a running transaction."""
        self.faulted = active
        if active:
            self._transactions.stop("AbnormalCondition", "GroundFault")
        self._after_change()

    def _after_change(self) -> None:
        if not self.operative:
            for act in self.blocked:
                act()
        self.tell()

    def unlock(self, message: Any) -> Fields:
        """F05."""
        if (message.evseId, message.connectorId) != (1, 1):
            return status("UnknownConnector")
        if self._transactions.now is not None:
            return status("OngoingAuthorizedTransaction")
        return status("UnlockFailed" if self._core.faults.unlock_fails else "Unlocked")
