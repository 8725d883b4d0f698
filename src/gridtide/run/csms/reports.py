"""What stations report in parts or over time, and what their answers to our own requests tell: one block of many.

Each sub-block keeps its own kinds of records and journals; this one hands messages, requests and answers to them.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from gridtide.run.csms.der import DerControls
from gridtide.run.csms.desk import Act, Desk
from gridtide.run.csms.device_model import DeviceModel
from gridtide.run.csms.display import CUSTOMER, Display
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.installed import InstalledCertificates
from gridtide.run.csms.keeping import as_json
from gridtide.run.csms.limits import Limits
from gridtide.run.csms.local_list import Calls, LocalLists
from gridtide.run.csms.monitoring import Monitoring
from gridtide.run.csms.parts import PartBook, Progress
from gridtide.run.csms.reservations import Reservation, Reservations
from gridtide.run.csms.station import Station
from gridtide.run.csms.streams import Streams
from gridtide.run.store.rows import StationRecord
from gridtide.wire.ocpp.actions import REPORTS_ASKED_BY
from gridtide.wire.ocpp.events import SendReceived
from gridtide.wire.ocpp.structs import WireStruct

NoteRequest: TypeAlias = Callable[[Station, Any], None]
NoteAnswer: TypeAlias = Callable[[Station, Any, Any], Awaitable[None]]


class Noting(Protocol):
    """A sub-block that hears our own requests and their answers."""

    @property
    def requests(self) -> Mapping[str, NoteRequest]:
        """What notes which request before it goes out."""

    @property
    def answers(self) -> Mapping[str, NoteAnswer]:
        """What takes which answer."""


class Reports:
    """Answers the Notify... and Report... messages; remembers what answers to our own requests tell."""

    def __init__(self, desk: Desk) -> None:
        self._store, self.effects = desk.store, Effects(desk)
        self._book = PartBook(desk, self.effects)
        self._model = DeviceModel(desk, self.effects, self._book)
        self._reservations = Reservations(desk, self.effects)
        self._streams = Streams(desk, self.effects)
        self.local_lists = LocalLists(desk)
        monitoring = Monitoring(desk, self.effects, self._book)
        others = (cls(desk, self.effects, self._book) for cls in (Display, DerControls, Limits))
        acting = (self._model, self._reservations, self._streams, monitoring, *others)
        noting: tuple[Noting, ...] = (*acting, self.local_lists, InstalledCertificates(desk))
        self.actions: dict[str, Act] = {name: act for block in acting for name, act in block.actions.items()}
        self._requests = {name: note for block in noting for name, note in block.requests.items()}
        self._answers = {name: note for block in noting for name, note in block.answers.items()}

    # --- for faces --------------------------------------------------------------------------------------------------
    def device_model(self, identity: str) -> tuple[StationRecord, ...]:
        """A station's variables, by key `component|instance|evse|connector|variable|instance`."""
        return self._model.variables(identity)

    def reports(self, identity: str) -> tuple[Progress, ...]:
        """How far the reports of a station have come."""
        return self._book.reports(identity)

    def reservations(self, identity: str) -> tuple[Reservation, ...]:
        """Reservations at a station that are not over."""
        return self._reservations.of(identity)

    def local_list_calls(self, station: Station, *, is_full: bool = False) -> Calls:
        """The messages that bring a station's local list up to date: (action, payload)."""
        return self.local_lists.calls(station, is_full=is_full)

    async def push_local_list(self, station: Station) -> bool:
        """Bring a station's local list up to date now; False if that did not succeed."""
        return await self.local_lists.push(station)

    async def tokens_changed(self, stations: Iterable[Station]) -> None:
        """Tokens were registered, changed or removed: stations that keep a list of ours get the difference."""
        await self.local_lists.push_to(stations)

    async def erase_token(self, identity: str, id_token: str) -> int:
        """Forget what a station told of a token's holder: reservations, and all customer information, which nobody can tell
        apart; how many records went. The local list forgets it with the registry, journals with the transactions."""
        customers = 0
        if self._store.records(identity, CUSTOMER):
            customers = await self._store.remove_records(identity, CUSTOMER)
        return customers + await self._reservations.erase(identity, id_token)

    # --- for the CSMS -----------------------------------------------------------------------------------------------
    def note_boot(self, station: Station, message: Any) -> None:
        """Keep model, vendor, serial number and firmware of a station that boots."""
        station.about = as_json(message.chargingStation)

    def take_stream(self, station: Station, message: SendReceived) -> None:
        """Values of a periodic event stream (2.1, type 6)."""
        if message.action == "NotifyPeriodicEventStream":
            self._streams.take(station, message)

    def note_request(self, station: Station, action: str, request: WireStruct) -> None:
        """A request goes out whose answer comes as reports: expect them."""
        note = self._requests.get(action)
        if note is not None:
            note(station, request)

    def note_answer(self, station: Station, action: str, request: WireStruct, answer: WireStruct) -> None:
        """What a station's answer to one of our calls tells of it."""
        note = self._answers.get(action)
        if note is not None:
            self.effects.spawn(station, lambda: note(station, request, answer))

    def note_failure(self, station: Station, action: str, request: WireStruct) -> None:
        """A station refused one of our calls or did not answer it: no report will come of it."""
        report, request_id = REPORTS_ASKED_BY.get(action), getattr(request, "requestId", None)
        if report is not None and request_id is not None and action in self._requests:
            self.effects.spawn(station, lambda: self._book.cancel(station, report, request_id))
