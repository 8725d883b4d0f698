"""Block B, the rest: reset, and the network profiles a station may connect with."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from gridtide.run.emulator.certificates import Certificates
from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.transactions import Transactions

SLOTS = range(4)


class Network:
    """Reset and SetNetworkProfile."""

    def __init__(self, core: Core, model: DeviceModel, transactions: Transactions, certificates: Certificates) -> None:
        self._core, self._model = core, model
        self._transactions, self._certificates = transactions, certificates
        self.slots: dict[int, Any] = {}
        """Network profiles by configuration slot."""
        self.unreached = 0
        """Attempts to connect that failed since the last link."""
        self.restart: Callable[[str], None] = lambda _reason: None
        self._waiting: str | None = None
        model.on_write("OCPPCommCtrlr", "NetworkConfigurationPriority", self._priority)
        model.on_write("SecurityCtrlr", "BasicAuthPassword", self._password)
        self.password: str | None = None
        """A password set by the CSMS; the next connection uses it."""

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {"Reset": self.reset, "SetNetworkProfile": self.set_profile}

    @property
    def active(self) -> Any | None:
        """The profile to connect with, or None for how the station was set up.

        After NetworkProfileConnectionAttempts in vain the next one is tried, the first setup last, and so on (B10).
        """
        told = self._model.value("OCPPCommCtrlr", "NetworkConfigurationPriority").split(",")
        usable = [self.slots[int(slot)] for slot in told if slot.isdigit() and int(slot) in self.slots]
        attempts = self._model.number("OCPPCommCtrlr", "NetworkProfileConnectionAttempts")
        return [*usable, None][self.unreached // attempts % (len(usable) + 1)]

    def set_profile(self, message: Any) -> Fields:
        """B09: a profile that cannot work, or is less secure than the present one, is refused."""
        data = message.connectionData
        url = urlsplit(data.ocppCsmsUrl)
        if message.configurationSlot not in SLOTS or data.ocppTransport != "JSON":
            return status("Rejected", "InvalidConfSlot" if data.ocppTransport == "JSON" else "InvalidNetworkConf")
        secure = data.securityProfile >= 2
        if data.securityProfile not in (1, 2, 3) or url.scheme != ("wss" if secure else "ws") or not url.hostname:
            return status("Rejected", "InvalidNetworkConf")
        if self._is_downgrade(data.securityProfile):
            return status("Rejected", "NoSecurityDowngrade")
        if secure and not self._certificates.trusted(["CSMSRootCertificate"]):
            return status("Rejected", "InvalidNetworkConf")
        if data.securityProfile == 3 and "ChargingStationCertificate" not in self._certificates.own:
            return status("Rejected", "InvalidNetworkConf")
        self.slots[message.configurationSlot] = data
        return status("Accepted")

    def _is_downgrade(self, wanted: int) -> bool:
        present = self._model.number("SecurityCtrlr", "SecurityProfile")
        if wanted >= present:
            return False
        return not (wanted == 2 and self._model.is_on("SecurityCtrlr", "AllowSecurityProfileDowngrade"))

    def _priority(self, value: str) -> str | None:
        slots = [int(slot) for slot in value.split(",") if slot.isdigit()]
        return None if slots and all(slot in self.slots for slot in slots) else "InvalidNetworkConf"

    def _password(self, value: str) -> str | None:
        """A01: the station disconnects and comes back with the new password."""
        self.password = value
        self._core.security_event("ReconfigurationOfSecurityParameters", "new password")
        self._core.later(0.0, self._core.hang_up)
        return None

    # --- reset (B11, B12) -------------------------------------------------------------------------------------------
    def reset(self, message: Any) -> Fields:
        """B11, B12: at once, or when nothing is charging; one EVSE, or the station."""
        if message.evseId not in (None, 0, 1):
            return status("Rejected", "UnknownEvse")
        whole = message.evseId in (None, 0)
        if message.type == "OnIdle" and self._transactions.now is not None:
            self._waiting = "ScheduledReset" if whole else "evse"
            return status("Scheduled")
        if message.type == "ImmediateAndResume":
            self._core.soon(lambda: self.restart("RemoteReset"))
        else:
            self._core.soon(lambda: self._go("RemoteReset" if whole else "evse"))
        return status("Accepted")

    def idle(self) -> None:
        """The transaction ended: a scheduled reset happens."""
        if self._waiting is not None:
            what, self._waiting = self._waiting, None
            self._core.soon(lambda: self._go(what))

    def _go(self, what: str) -> None:
        self._transactions.stop("ResetCommand", "ImmediateReset")
        if what != "evse":
            self.restart(what)
