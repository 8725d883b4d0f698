"""Transactions: every event is committed before it is acknowledged, has its effect once, and only for the station it belongs to.

What happened offline is history without control effect, but an end is an end. A gap in the sequence numbers marks the
transaction incomplete and is asked about; energy is never invented.
"""

import math
from datetime import datetime
from typing import Any

import msgspec

from gridtide.run.conversation import Later
from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.needs import NeedsKeeper
from gridtide.run.csms.station import Station
from gridtide.run.csms.tokens import Tokens
from gridtide.run.store import StoreError, StoreRangeError, TransactionEvent
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.events import CallAnswered, CallFailed, CallReceived
from gridtide.wire.ocpp.meter import read_meter_values
from gridtide.wire.ocpp.structs import WireStruct

SKEW_FLAG_S = 10.0
INCOMPLETE_AFTER_S = 60.0
"""A gap that has not closed by then is told (FT12)."""


class Transactions:
    """Answers TransactionEvent and MeterValues."""

    def __init__(self, desk: Desk, tokens: Tokens, needs: NeedsKeeper) -> None:
        self._desk, self._tokens, self._needs = desk, tokens, needs
        self.actions: dict[str, Act] = {"TransactionEvent": self._event, "MeterValues": self._meter_values}

    # --- the message ------------------------------------------------------------------------------------------------
    def _event(self, station: Station, message: Any, call: CallReceived) -> Later:
        evse_id = message.evse.id if message.evse is not None else self._evse_of(station, message)
        event = TransactionEvent(
            station_id=station.provision.identity, transaction_id=message.transactionInfo.transactionId,
            seq_no=message.seqNo, event_type=message.eventType, at_s=message.timestamp.timestamp(), evse_id=evse_id,
            payload_json=call.raw,
        )  # fmt: skip
        self._check_owner(station, event)
        answer, generation = Later(), station.generation

        def booked(new: bool | None, error: Exception | None) -> None:
            # Also when the connection has ended: record and effect stay together, the repetition would have none.
            try:
                if error is not None:
                    self._not_stored(station, error)
                if new:
                    self._take(station, generation, event, message, call.received_at_s)
                answer.give(self._answer(station, message))
            except Exception as failure:
                answer.give(failure)

        try:
            self._desk.store.post_transaction_event(event, booked)
        except (StoreRangeError, StoreError) as error:
            self._not_stored(station, error)
        return answer

    def _not_stored(self, station: Station, error: Exception) -> None:
        if isinstance(error, StoreRangeError):
            # The station's fault, not ours: no trace in the log, and no repetition to wait for.
            raise RemoteProtocolError("PropertyConstraintViolation", "a field of the event cannot be kept") from None
        if isinstance(error, StoreError):
            self._desk.on_event("store_failed", station.provision.identity, "A transaction event could not be stored.")
        raise error

    def _answer(self, station: Station, message: Any) -> WireStruct:
        if message.idToken is None:
            return codec.payload_type(station.version, "TransactionEvent", "response")()
        judged = self._tokens.judge(message.idToken)
        return reply(station, "TransactionEvent", idTokenInfo=self._tokens.info(judged))

    def _check_owner(self, station: Station, event: TransactionEvent) -> None:
        """A transaction belongs to the station that began it; another one that names it is refused and has no effect."""
        if event.transaction_id in station.transactions.values() or event.event_type == "Started":
            return
        if event.transaction_id in station.ended:
            return
        owner = self._desk.store.owner_of_transaction(event.transaction_id, station.provision.identity)
        if owner is None or owner == station.provision.identity:
            return
        name = station.provision.identity
        if station.first("foreign transaction"):
            self._desk.on_event("security", name, f"{name} named a transaction of {owner}; it was refused.")
        raise RemoteProtocolError("SecurityError", "the transaction belongs to another station")

    def _take(self, station: Station, generation: int, event: TransactionEvent, message: Any, heard_s: float) -> None:
        """A new event, committed, takes effect."""
        row = station.provision.rows.get(event.evse_id or 0)
        if row is None or self._is_late(station, row, event):
            return
        if event.event_type == "Ended":
            station.note_ended(event.transaction_id)
            if station.transactions.get(row) == event.transaction_id:
                self.end(station, row)
        elif not message.offline:
            is_news = self._effect(station, message, row, heard_s)
            if station.generation == generation:
                station.synced.add(row)
                self._desk.judge(station, row)
            if is_news:
                self._needs.keep(station, row)

    def _is_late(self, station: Station, row: int, event: TransactionEvent) -> bool:
        """An event older than one of its transaction that was heard already, or after its end, is recorded and has no effect
        (FT11)."""
        if event.transaction_id in station.ended:
            return True
        transaction, seq_no = station.newest.get(row, ("", -1))
        if event.transaction_id == transaction and event.seq_no < seq_no:
            return True
        expected = seq_no + 1 if event.transaction_id == transaction else 0
        station.newest[row] = (event.transaction_id, event.seq_no)
        if event.seq_no > expected:
            self._ask_for_rest(station, event.transaction_id)
        return False

    def _ask_for_rest(self, station: Station, transaction_id: str) -> None:
        """Events are missing: ask whether the station still has them, and say so when they have not come (E14, FT12)."""
        live, name = station.accepted, station.provision.identity
        if live is None or not station.first(f"gap {transaction_id}"):
            return

        def told(_outcome: CallAnswered | CallFailed) -> None:
            station.later.append((self._desk.clock.monotonic() + INCOMPLETE_AFTER_S, look))

        def look() -> None:
            events = self._desk.store.transaction_events(name, transaction_id)
            numbers = [event.seq_no for event in events]
            if numbers and len(numbers) < numbers[-1] + 1:
                missing = numbers[-1] + 1 - len(numbers)
                text = f"Transaction {transaction_id} misses {missing} events; its energy counts only what was told."
                self._desk.on_event("transaction_incomplete", name, text)

        kind = codec.payload_type(station.version, "GetTransactionStatus", "request")
        live.post("GetTransactionStatus", msgspec.convert({"transactionId": transaction_id}, kind), told)

    def _evse_of(self, station: Station, message: Any) -> int:
        """EVSE of a later event that does not name it again; 0 is unknown."""
        row = next((r for r, t in station.transactions.items() if t == message.transactionInfo.transactionId), None)
        return next((e for e, r in station.provision.rows.items() if r == row), 0)

    # --- its effect -------------------------------------------------------------------------------------------------
    def _effect(self, station: Station, message: Any, row: int, heard_s: float) -> bool:
        """A transaction goes on, or a new one begins, at `row`; whether there is news that must be kept."""
        board, transaction = self._desk.board, message.transactionInfo.transactionId
        had_register = not math.isnan(board.register_kwh[row])
        is_news = station.transactions.get(row) != transaction or message.idToken is not None
        if station.transactions.get(row) != transaction:
            board.clear_vehicle(row)
            station.forget_vehicle(row)
        station.transactions[row] = transaction
        if message.evse is not None and message.evse.connectorId is not None:
            station.connectors[row] = message.evse.connectorId
        board.connected[row] = True
        self._flag_skew(station, message.timestamp)
        if message.idToken is not None:
            self._take_token(station, row, message.idToken)
        self.read(row, message.meterValue or (), heard_s)
        return is_news or (not had_register and not math.isnan(board.register_kwh[row]))

    def end(self, station: Station, row: int) -> None:
        """The transaction at `row` is over."""
        station.forget_vehicle(row)
        self._desk.board.clear_vehicle(row)
        self._needs.keep(station, row)

    def _take_token(self, station: Station, row: int, token: Any) -> None:
        """Until the vehicle tells its needs, its driver's defaults hold. A token that may not charge is stopped."""
        desk, board = self._desk, self._desk.board
        station.tokens[row] = token.idToken
        judged = self._tokens.judge(token)
        if judged.status != "Accepted":
            self._stop(station, row)
            return
        entry = judged.entry
        if entry is not None and not entry.may_discharge:
            station.charge_only.add(row)
        default = desk.driver_default(token.idToken, desk.clock.wall())
        if default is not None and default.minimum_soc > 0.0:
            board.minimum_soc[row] = default.minimum_soc
        if default is not None and math.isnan(board.need_soc[row]):
            board.asked_kwh[row] = default.energy_kwh
            board.departs_s[row] = desk.monotonic_of(default.departs_at_s)

    def _stop(self, station: Station, row: int) -> None:
        live, transaction = station.accepted, station.transactions.get(row)
        if live is None or transaction is None or not station.first(f"unwanted {transaction}"):
            return
        kind = codec.payload_type(station.version, "RequestStopTransaction", "request")
        live.post("RequestStopTransaction", kind(transactionId=transaction), lambda _outcome: None)

    def _flag_skew(self, station: Station, stamp: datetime) -> None:
        station.skew_s = stamp.timestamp() - self._desk.clock.wall()
        if abs(station.skew_s) > SKEW_FLAG_S:
            self._desk.on_event("security", station.provision.identity, f"Its clock is off by {station.skew_s:.0f} s.")

    # --- meter values -----------------------------------------------------------------------------------------------
    def _meter_values(self, station: Station, message: Any, call: CallReceived) -> WireStruct:
        row = station.provision.rows.get(message.evseId)
        if row is not None and row in station.transactions:
            self._desk.board.connected[row] = True
            station.synced.add(row)
            self.read(row, message.meterValue, call.received_at_s)
            self._desk.judge(station, row)
            self._needs.keep(station, row)
        return codec.payload_type(station.version, "MeterValues", "response")()

    def read(self, row: int, values: Any, heard_s: float) -> None:
        """Meter values become evidence; what is missing stays as it was and ages."""
        if not values:
            return
        reading, board = read_meter_values(values), self._desk.board
        board.heard_s[row] = heard_s
        if reading.power_kw is not None:
            board.power_kw[row] = reading.power_kw
        if reading.soc is not None:
            board.soc[row] = round(reading.soc, 6)
        if reading.temperature_c is not None:
            board.temperature_c[row] = reading.temperature_c
        if reading.voltage_v is not None:
            board.voltage_v[row] = reading.voltage_v
        if reading.current_a is not None:
            board.current_a[row] = reading.current_a
        if reading.frequency_hz is not None:
            board.frequency_hz[row] = reading.frequency_hz
        if reading.energy_import_kwh is not None:
            board.take_register(row, reading.energy_import_kwh)
