"""Block Q: what may flow between vehicle and grid, and the signals that a station follows by itself."""

from datetime import datetime
from typing import Any

import msgspec

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.profiles_book import ProfilesBook
from gridtide.run.emulator.transactions import Transactions


class V2x:
    """Allowed energy transfer, AFRR signals, grid frequency, a site's own setpoint."""

    def __init__(self, core: Core, model: DeviceModel, transactions: Transactions, book: ProfilesBook) -> None:
        self._core, self._model, self._transactions, self._book = core, model, transactions, book
        self._signal_at: datetime | None = None

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {"NotifyAllowedEnergyTransfer": self.allow, "AFRRSignal": self.afrr}

    def allow(self, message: Any) -> Fields:
        """Q02: the service is negotiated anew, and the vehicle tells its needs again."""
        now = self._transactions.now
        if now is None or now.id != message.transactionId:
            return status("Rejected", "TxNotFound")
        if not self._model.is_on("ISO15118Ctrlr", "ServiceRenegotiationSupport"):
            return status("Rejected", "UnsupportedRequest")
        supported = self._model.value("V2XChargingCtrlr", "SupportedEnergyTransferModes").split(",")
        if not any(mode in supported for mode in message.allowedEnergyTransfer):
            return status("Rejected", "UnsupportedParam")
        before = self.may_discharge
        now.transfers = message.allowedEnergyTransfer
        if self.may_discharge != before:
            self._core.soon(self._transactions.tell_needs)
        return status("Accepted")

    @property
    def may_discharge(self) -> bool:
        """Whether vehicle, station and what was negotiated let power out."""
        car, now = self._transactions.car, self._transactions.now
        if car is None or now is None or not car.bidirectional:
            return False
        if self._core.version == "2.1" and not self._model.is_on("V2XChargingCtrlr"):
            return False
        return now.transfers is None or any("BPT" in mode for mode in now.transfers)

    def afrr(self, message: Any) -> Fields:
        """Q07: taken only while a CentralFrequency schedule is in force, and never an older one."""
        power = self._book.power()
        if power is None or power.mode != "CentralFrequency":
            return status("Rejected", "NoFrequencyProfile")
        if self._signal_at is not None and message.timestamp < self._signal_at:
            return status("Rejected", "OutdatedSignal")
        self._signal_at = message.timestamp
        self.sense(signal=message.signal)
        return status("Accepted")

    def sense(self, **what: Any) -> None:
        """Set what the station measures or hears: `frequency_hz`, `external_kw`, `load_kw`, `signal`."""
        self._book.around = msgspec.structs.replace(self._book.around, **what)
