"""What stations tell, made into records, evidence and answers. A transaction event is acknowledged after it is committed."""

import asyncio
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.conversation import Answer
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.needs import NeedsKeeper
from gridtide.run.csms.preparation import Preparation
from gridtide.run.csms.station import DriverDefault, OnEvent, Station
from gridtide.run.store import Store, StoreError, StoreRangeError, TransactionEvent
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.dialects import StationDialect
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.meter import read_meter_values
from gridtide.wire.ocpp.structs import WireStruct

SKEW_FLAG_S = 10.0


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
    ) -> None:
        self._table, self._board, self._store, self._clock = table, board, store, clock
        self._lease_s, self._on_event = lease_s, on_event
        self.needs = NeedsKeeper(table, board, store, clock)
        self.preparation = Preparation(table, clock, on_event, dialect, self._judge)
        self._driver_default = driver_default
        self._bookings: set[asyncio.Future[None]] = set()
        self._actions: dict[str, Callable[[Station, Any, CallReceived], Answer]] = {
            "BootNotification": self._boot,
            "Heartbeat": self._heartbeat,
            "StatusNotification": self._status,
            "Authorize": self._authorize,
            "TransactionEvent": self._transaction,
            "MeterValues": self._meter_values,
            "NotifyEVChargingNeeds": self._needs,
            "SecurityEventNotification": self._security,
            "DataTransfer": self._data_transfer,
        }

    def on_call(self, station: Station, call: CallReceived) -> Answer:
        act = self._actions.get(call.action)
        if act is not None:
            return act(station, call.payload, call)
        return self._generic(station, call.action)

    def _generic(self, station: Station, action: str) -> WireStruct:
        """Messages without effect here: an empty answer where the schema allows it, else NotSupported."""
        kind = codec.payload_type(station.version, action, "response")
        if getattr(kind, "__struct_fields__", ()) and not _all_optional(kind):
            raise RemoteProtocolError("NotSupported", f"{action} is not supported by this system")
        return kind()

    def _reply(self, station: Station, action: str, **fields: Any) -> WireStruct:
        return codec.payload_type(station.version, action, "response")(**fields)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)

    def _boot(self, station: Station, _message: Any, _call: CallReceived) -> WireStruct:
        station.refused.clear()
        station.underneath.clear()
        for row in station.provision.rows.values():
            self._judge(station, row)
        self.needs.note_booted(station)
        # After the answer: a station hears nothing else before it.
        asyncio.get_running_loop().call_soon(self.preparation.prepare, station)
        return self._reply(station, "BootNotification", currentTime=self._now(), interval=300, status="Accepted")

    def _heartbeat(self, station: Station, _message: Any, _call: CallReceived) -> WireStruct:
        return self._reply(station, "Heartbeat", currentTime=self._now())

    def _status(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        row = station.provision.rows.get(message.evseId)
        if row is not None:
            self._board.fault[row] = message.connectorStatus == "Faulted" or row in station.tampered
            its_own = station.connectors.get(row, message.connectorId) == message.connectorId
            if message.connectorStatus == "Available" and its_own and row in station.transactions:
                # The bay is free: only a station that lost the end of its transaction says so.
                self._end(station, row)
            self._judge(station, row)
        return self._reply(station, "StatusNotification")

    def _authorize(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        info: dict[str, Any] = {"idTokenInfo": {"status": "Accepted" if message.idToken.idToken else "Invalid"}}
        if station.version == "2.1" and station.provision.dialect != "refuse":
            info["allowedEnergyTransfer"] = ["DC", "DC_BPT", "AC_single_phase", "AC_three_phase", "AC_BPT"]
        return msgspec.convert(info, codec.payload_type(station.version, "Authorize", "response"))

    async def _transaction(self, station: Station, message: Any, call: CallReceived) -> WireStruct:
        evse_id = message.evse.id if message.evse is not None else self._evse_of(station, message)
        event = TransactionEvent(
            station_id=station.provision.identity, transaction_id=message.transactionInfo.transactionId,
            seq_no=message.seqNo, event_type=message.eventType, at_s=message.timestamp.timestamp(), evse_id=evse_id,
            payload_json=codec.encode(station.version, "TransactionEvent", "request", message),
        )  # fmt: skip
        # A connection that ends meanwhile must not part the record from its effect: the repetition would have none.
        booking = asyncio.ensure_future(self._book(station, station.generation, event, message, call.received_at_s))
        self._bookings.add(booking)
        booking.add_done_callback(self._bookings.discard)
        await asyncio.shield(booking)
        fields = {"idTokenInfo": {"status": "Accepted"}} if message.idToken is not None else {}
        return msgspec.convert(fields, codec.payload_type(station.version, "TransactionEvent", "response"))

    async def _book(
        self, station: Station, generation: int, event: TransactionEvent, message: Any, heard_s: float
    ) -> None:
        """Commit the event; a new one then takes effect. What happened offline is history, but an end is an end."""
        try:
            new = await self._store.add_transaction_event(event)
        except StoreRangeError:
            # The station's fault, not ours: no trace in the log, and no repetition to wait for.
            raise RemoteProtocolError("PropertyConstraintViolation", "a field of the event cannot be kept") from None
        except StoreError:
            self._on_event("store_failed", station.provision.identity, "A transaction event could not be stored.")
            raise
        row = station.provision.rows.get(event.evse_id or 0)
        if not new or row is None or self._is_late(station, row, event):
            return
        if event.event_type == "Ended":
            if station.transactions.get(row) == event.transaction_id:
                self._end(station, row)
        elif not message.offline:
            self._effect(station, message, row, heard_s)
            if station.generation == generation:
                station.synced.add(row)
                self._judge(station, row)
            self.needs.keep(station, row)

    def _is_late(self, station: Station, row: int, event: TransactionEvent) -> bool:
        """An event older than one of its transaction that was heard already is recorded and has no effect (FT11)."""
        transaction, seq_no = station.newest.get(row, ("", 0))
        if event.transaction_id == transaction and event.seq_no < seq_no:
            return True
        station.newest[row] = (event.transaction_id, event.seq_no)
        return False

    def _evse_of(self, station: Station, message: Any) -> int:
        """EVSE of a later event that does not name it again; 0 is unknown."""
        row = next((r for r, t in station.transactions.items() if t == message.transactionInfo.transactionId), None)
        return next((e for e, r in station.provision.rows.items() if r == row), 0)

    def _effect(self, station: Station, message: Any, row: int, heard_s: float) -> None:
        """A transaction goes on, or a new one begins, at `row`."""
        board, transaction = self._board, message.transactionInfo.transactionId
        if station.transactions.get(row) != transaction:
            board.clear_vehicle(row)
            station.forget_vehicle(row)
        station.transactions[row] = transaction
        if message.evse is not None and message.evse.connectorId is not None:
            station.connectors[row] = message.evse.connectorId
        board.connected[row] = True
        self._flag_skew(station, message.timestamp)
        if message.idToken is not None:
            self._default_need(station, row, message.idToken.idToken)
        self._read(row, message.meterValue or (), heard_s)

    def _end(self, station: Station, row: int) -> None:
        station.forget_vehicle(row)
        self._board.clear_vehicle(row)
        self.needs.keep(station, row)

    def _default_need(self, station: Station, row: int, token: str) -> None:
        """Until the vehicle tells its needs, its driver's defaults hold."""
        station.tokens[row] = token
        default = self._driver_default(token, self._clock.wall())
        if default is not None and math.isnan(self._board.need_soc[row]):
            self._board.asked_kwh[row] = default.energy_kwh
            self._board.departs_s[row] = self._monotonic_of(default.departs_at_s)

    def _monotonic_of(self, wall_s: float) -> float:
        return wall_s - self._clock.wall() + self._clock.monotonic()

    def _flag_skew(self, station: Station, stamp: datetime) -> None:
        station.skew_s = stamp.timestamp() - self._clock.wall()
        if abs(station.skew_s) > SKEW_FLAG_S:
            self._on_event("security", station.provision.identity, f"Its clock is off by {station.skew_s:.0f} s.")

    def _meter_values(self, station: Station, message: Any, call: CallReceived) -> WireStruct:
        row = station.provision.rows.get(message.evseId)
        if row is not None and row in station.transactions:
            self._board.connected[row] = True
            station.synced.add(row)
            self._read(row, message.meterValue, call.received_at_s)
            self._judge(station, row)
            self.needs.keep(station, row)
        return self._reply(station, "MeterValues")

    def _read(self, row: int, values: Any, heard_s: float) -> None:
        """Meter values become evidence; what is missing stays as it was and ages."""
        if not values:
            return
        reading, board = read_meter_values(values), self._board
        board.heard_s[row] = heard_s
        if reading.power_kw is not None:
            board.power_kw[row] = reading.power_kw
        if reading.soc is not None:
            board.soc[row] = round(reading.soc, 6)
        if reading.temperature_c is not None:
            board.temperature_c[row] = reading.temperature_c
        if reading.energy_import_kwh is not None:
            board.take_register(row, reading.energy_import_kwh)

    def _needs(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        row = station.provision.rows.get(message.evseId)
        if row is not None:
            self._take_needs(station, row, message.chargingNeeds)
        status = "Accepted" if row is not None else "Rejected"
        return self._reply(station, "NotifyEVChargingNeeds", status=status)

    def _take_needs(self, station: Station, row: int, needs: Any) -> None:
        board, dc = self._board, needs.dcChargingParameters
        if dc is not None and dc.evEnergyCapacity:
            board.capacity_kwh[row] = dc.evEnergyCapacity / 1000.0
            if dc.evMaxPower:
                board.charge_limit_kw[row] = min(dc.evMaxPower / 1000.0, float(self._table.charge_kw[row]))
        if needs.departureTime is not None:
            board.departs_s[row] = self._monotonic_of(needs.departureTime.timestamp())
        v2x = getattr(needs, "v2xChargingParameters", None)
        target = v2x.targetSoC if v2x is not None else None
        if target is not None:
            board.need_soc[row] = target / 100.0
        elif dc is not None and dc.energyAmount is not None and dc.stateOfCharge is not None and dc.evEnergyCapacity:
            gained = dc.energyAmount / dc.evEnergyCapacity
            board.need_soc[row] = min(1.0, dc.stateOfCharge / 100.0 + gained)
        if v2x is not None and v2x.maxDischargePower is not None:
            board.discharge_limit_kw[row] = min(
                abs(v2x.maxDischargePower) / 1000.0, float(self._table.discharge_kw[row])
            )
        if str(needs.requestedEnergyTransfer).endswith("BPT"):
            station.bidirectional.add(row)
        self._judge(station, row)
        self.needs.keep(station, row)

    def _judge(self, station: Station, row: int) -> None:
        """May this row discharge? Dialect, negotiated service or recorded consent, profile underneath, in sync, clock right."""
        agreed = row in station.bidirectional or (station.version == "2.0.1" and station.provision.discharge_opt_in)
        self._board.may_discharge[row] = (
            station.fits()
            and agreed
            and row not in station.refused
            and row in station.underneath
            and row in station.synced
            and row in station.transactions
            and abs(station.skew_s) <= int(self._lease_s) / 2.0
        )

    async def _security(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        if message.type == "TamperDetectionActivated":
            for row in station.provision.rows.values():
                station.tampered.add(row)
                self._board.fault[row] = True
        self._on_event("security", station.provision.identity, f"{message.type}: {message.techInfo or 'no details'}")
        await asyncio.sleep(0)
        return self._reply(station, "SecurityEventNotification")

    def _data_transfer(self, station: Station, _message: Any, _call: CallReceived) -> WireStruct:
        return self._reply(station, "DataTransfer", status="UnknownVendorId")


def _all_optional(kind: type[WireStruct]) -> bool:
    return all(not item.required for item in msgspec.structs.fields(kind))
