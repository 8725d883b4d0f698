"""All blocks of one emulated station, and the ties between them."""

from collections.abc import Callable
from typing import Any

from gridtide.run.emulator.authorization import Authorization
from gridtide.run.emulator.availability import Availability
from gridtide.run.emulator.certificates import Certificates
from gridtide.run.emulator.core import Block, Core, Fields
from gridtide.run.emulator.der import DerControls
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.diagnostics import Diagnostics
from gridtide.run.emulator.display import Display
from gridtide.run.emulator.firmware import Firmware
from gridtide.run.emulator.local_list import LocalList
from gridtide.run.emulator.monitoring import Monitoring
from gridtide.run.emulator.network import Network
from gridtide.run.emulator.profiles_book import ProfilesBook
from gridtide.run.emulator.remote import Remote
from gridtide.run.emulator.reservations import Reservations
from gridtide.run.emulator.services import Services
from gridtide.run.emulator.streams import Streams
from gridtide.run.emulator.tariffs import Tariffs
from gridtide.run.emulator.transactions import Transaction, Transactions
from gridtide.run.emulator.v2x import V2x


class Blocks:
    """The functional blocks of a station, tied together; what they keep survives a reboot."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.model = DeviceModel(core)
        self.local_list = LocalList(core, self.model)
        self.authorization = Authorization(core, self.model, self.local_list)
        self.transactions = Transactions(core, self.model, self.authorization)
        self.availability = Availability(core, self.model, self.transactions)
        self.reservations = Reservations(core, self.model, self.availability)
        self.book = ProfilesBook(core, self.model, self.transactions)
        self.remote = Remote(
            core, self.model, self.authorization, self.availability, self.transactions, self.book
        )  # fmt: skip
        self.tariffs = Tariffs(core, self.transactions)
        self.certificates = Certificates(core, self.model)
        self.firmware = Firmware(core, self.model, self.certificates, self.transactions)
        self.network = Network(core, self.model, self.transactions, self.certificates)
        self.diagnostics = Diagnostics(core, self.authorization, self.local_list)
        self.monitoring = Monitoring(core, self.model)
        self.display = Display(core, self.model, self.transactions)
        self.services = Services(core, self.transactions)
        shared: tuple[Block, ...] = (
            self.book, self.model, self.remote, self.availability, self.local_list, self.authorization,
            self.reservations, self.tariffs, self.certificates, self.firmware, self.network, self.diagnostics,
            self.monitoring, self.display, self.services,
        )  # fmt: skip
        self.v2x = V2x(core, self.model, self.transactions, self.book)
        self.der = DerControls(core, self.model)
        self.streams = Streams(core, self.model, self.monitoring)
        self._all: tuple[Block, ...] = shared + (
            (self.v2x, self.der, self.streams) if core.version == "2.1" else ()
        )  # fmt: skip
        self._tie()

    def _tie(self) -> None:
        transactions = self.transactions
        transactions.changed = self.availability.tell
        transactions.ended = self._ended
        transactions.taken = self.reservations.use
        transactions.may_start = lambda token, group: (
            self.availability.operative and self.reservations.admits(token, group)
        )  # fmt: skip
        self.monitoring.in_transaction = lambda: None if transactions.now is None else transactions.now.id
        self.remote.triggers |= {
            "StatusNotification": self._tell_status,
            "TransactionEvent": self._tell_transaction,
            "FirmwareStatusNotification": self.firmware.tell,
            "PublishFirmwareStatusNotification": self.firmware.tell_published,
            "LogStatusNotification": self.diagnostics.tell,
            **{name: self._signer(name) for name in ("SignChargingStationCertificate", "SignV2GCertificate")},
            "SignCombinedCertificate": self._signer("SignCombinedCertificate"),
        }
        if self.core.version == "2.1":
            self.remote.triggers["SignV2G20Certificate"] = self._signer("SignV2G20Certificate")
            self.remote.custom["gridtide.needs"] = self._tell_needs

    def _signer(self, name: str) -> Callable[[], bool]:
        return lambda: self.certificates.sign(name)

    def _tell_status(self) -> bool:
        self.availability.tell(always=True)
        return True

    def _tell_transaction(self) -> bool:
        self.transactions.tell("Updated", "Trigger")
        return True

    def _tell_needs(self) -> bool:
        self.transactions.tell_needs()
        return True

    def _ended(self, ended: Transaction) -> None:
        self.book.transaction_ended()
        self.display.transaction_ended(ended.id)
        self.availability.settle()
        self.network.idle()

    def answer(self, action: str, payload: Any) -> Fields | None:
        """The fields of the response to a request; None if no block answers it in this version."""
        # The book of profiles stands first: most of all messages are for it.
        for block in self._all:
            act = block.actions.get(action)
            if act is not None:
                return act(payload)
        return None

    def actions(self) -> frozenset[str]:
        """Every action that is answered."""
        return frozenset(name for block in self._all for name in block.actions)

    def tick(self) -> None:
        """Let time pass in every block that has something to do."""
        self.core.ring()
        self.reservations.tick()
        self.monitoring.tick()
        self.display.tick()
        self.book.tick()
        if self.core.version == "2.1":
            self.der.tick()
            self.streams.tick()
