"""What stations tell, handed to the block that answers it. An action no block acts on is answered as the standard says."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.conversation import Answer
from gridtide.run.csms.boot_pace import BootPace, heartbeat_s
from gridtide.run.csms.certificates import Certificates
from gridtide.run.csms.desk import Act, Block, Desk, reply
from gridtide.run.csms.erasure import ErasedTokens
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.needs import NeedsKeeper
from gridtide.run.csms.notices import Notices
from gridtide.run.csms.preparation import Preparation
from gridtide.run.csms.registry import Registry
from gridtide.run.csms.reports import Reports
from gridtide.run.csms.station import DriverDefault, OnEvent, Station
from gridtide.run.csms.tokens import Tokens
from gridtide.run.csms.transactions import Transactions
from gridtide.run.csms.vehicles import Vehicles
from gridtide.run.store import Store
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.dialects import StationDialect
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.events import CallReceived, SendReceived
from gridtide.wire.ocpp.structs import WireStruct

STATUSES_KEPT = 256
"""Connectors of a station whose status is remembered."""


class Intake:
    """Answers the stations' calls."""

    def __init__(
        self,
        table: EvseTable,
        board: EvidenceBoard,
        store: Store,
        clock: Clock,
        lease_s: float,
        on_event: OnEvent,
        dialect: Callable[[Station, int, int], StationDialect],
        driver_default: Callable[[str, float], DriverDefault | None],
        registry: Registry,
    ) -> None:
        self.desk = Desk(
            table=table, board=board, store=store, clock=clock, registry=registry,
            erased=ErasedTokens(store, clock, registry), lease_s=lease_s, on_event=on_event,
            judge=self.judge, driver_default=driver_default,
        )  # fmt: skip
        self.needs = NeedsKeeper(table, board, store, clock)
        self.preparation = Preparation(table, clock, on_event, dialect, self.judge)
        self.certificates = Certificates(self.desk)
        tokens = Tokens(self.desk, self.certificates.contract_status)
        vehicles = Vehicles(self.desk, self.needs)
        self.transactions = Transactions(self.desk, tokens, self.needs, vehicles.take)
        self.reports, self.notices = Reports(self.desk), Notices(self.desk)
        blocks: tuple[Block, ...] = (
            *(tokens, self.transactions, vehicles),
            *(self.reports, self.certificates, self.notices),
        )
        self.boot_pace = BootPace()
        self._actions: dict[str, Act] = {
            "BootNotification": self._boot,
            "Heartbeat": self._heartbeat,
            "StatusNotification": self._status,
        }
        for block in blocks:
            self._actions.update(block.actions)

    def on_call(self, station: Station, call: CallReceived) -> Answer:
        """The answer to a station's call, or what it will become."""
        act = self._actions.get(call.action)
        if act is not None:
            return act(station, call.payload, call)
        return self._generic(station, call.action)

    def on_send(self, station: Station, message: SendReceived) -> None:
        """Take a message that nobody answers (type 6)."""
        self.reports.take_stream(station, message)

    def _generic(self, station: Station, action: str) -> WireStruct:
        """Messages without effect here: an empty answer where the schema allows it, else NotSupported."""
        kind = codec.payload_type(station.version, action, "response")
        if not all(not item.required for item in msgspec.structs.fields(kind)):
            raise RemoteProtocolError("NotSupported", f"{action} is not supported by this system")
        return kind()

    def _boot(self, station: Station, message: Any, _call: CallReceived) -> Answer:
        station.refused.clear()
        station.underneath.clear()
        station.no_v2x.clear()
        for row in station.provision.rows.values():
            self.judge(station, row)
        self.reports.note_boot(station, message)
        now, name = self.desk.now(), station.provision.identity
        if not self.boot_pace.admits(self.desk.clock.monotonic()):
            return reply(
                station, "BootNotification", currentTime=now, interval=self.boot_pace.retry_s(name), status="Pending"
            )
        # Queued, not committed before the answer: where a crash loses it, the station reconnects as one that did not boot
        # and is asked to (`Preparation.welcome`).
        self.needs.note_booted(station)
        # After the answer: a station hears nothing else before it.
        asyncio.get_running_loop().call_soon(self.preparation.prepare, station)
        return reply(station, "BootNotification", currentTime=now, interval=heartbeat_s(name), status="Accepted")

    def _heartbeat(self, station: Station, _message: Any, _call: CallReceived) -> WireStruct:
        return codec.payload_type(station.version, "Heartbeat", "response")(currentTime=self.desk.now())

    def _status(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        row = station.provision.rows.get(message.evseId)
        place = (message.evseId, message.connectorId)
        if place in station.statuses or len(station.statuses) < STATUSES_KEPT:
            station.statuses[place] = str(message.connectorStatus)
        if row is not None:
            self.desk.board.fault[row] = message.connectorStatus == "Faulted" or row in station.tampered
            its_own = station.connectors.get(row, message.connectorId) == message.connectorId
            is_news = message.timestamp.timestamp() >= station.spoke_s.get(row, 0.0)
            if message.connectorStatus == "Available" and its_own and is_news:
                station.early_needs.pop(row, None)
                if row in station.transactions:
                    # The bay is free: only a station that lost the end of its transaction says so.
                    self.transactions.lose(station, row)
            self.judge(station, row)
        return codec.payload_type(station.version, "StatusNotification", "response")()

    def judge(self, station: Station, row: int) -> None:
        """May this row discharge? Dialect, negotiated service or recorded consent, the driver's word, profile underneath, in sync,
        clock right."""
        agreed = row in station.bidirectional or (station.version == "2.0.1" and station.provision.discharge_opt_in)
        self.desk.board.may_discharge[row] = (
            station.fits()
            and station.provision.may_discharge
            and agreed
            and row not in station.refused
            and row not in station.no_v2x
            and row not in station.charge_only
            and row in station.underneath
            and row in station.synced
            and row in station.transactions
            and abs(station.skew_s) <= int(self.desk.lease_s) / 2.0
        )
