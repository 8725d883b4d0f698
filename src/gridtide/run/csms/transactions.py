"""Transactions: every event is committed before it is acknowledged, has its effect once, and only for the station it belongs to.

What happened offline is history without control effect, but an end is an end. A gap in the sequence numbers marks the
transaction incomplete and is asked about; energy is never invented.
"""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from gridtide.run.conversation import Later
from gridtide.run.csms.cards import Cards
from gridtide.run.csms.desk import Act, Desk, post_if_room, reply
from gridtide.run.csms.needs import NeedsKeeper
from gridtide.run.csms.station import Station
from gridtide.run.csms.tokens import Tokens
from gridtide.run.store import StoreError, StoreRangeError, TransactionEvent
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.events import CallAnswered, CallFailed, CallReceived
from gridtide.wire.ocpp.meter import read_meter_values
from gridtide.wire.ocpp.structs import WireStruct

log = structlog.get_logger(__name__)
SKEW_FLAG_S = 10.0
OLD_S = 10.0
"""Meter values further from the station's clock than this are history without effect (FT11)."""
INCOMPLETE_AFTER_S = 60.0
"""A gap that has not closed by then is told (FT12)."""


class Transactions:
    """Answers TransactionEvent and MeterValues."""

    def __init__(
        self, desk: Desk, tokens: Tokens, needs: NeedsKeeper, take_needs: Callable[[Station, int, Any], None]
    ) -> None:
        """`take_needs` makes charging needs that were told before their transaction evidence for it."""
        self._desk, self._tokens, self._needs, self._take_needs = desk, tokens, needs, take_needs
        self.cards = Cards(desk, tokens, needs)
        self.actions: dict[str, Act] = {"TransactionEvent": self._event, "MeterValues": self._meter_values}

    # --- the message ------------------------------------------------------------------------------------------------
    def _event(self, station: Station, message: Any, call: CallReceived) -> Later:
        evse_id = message.evse.id if message.evse is not None else self._evse_of(station, message)
        event = TransactionEvent(
            station_id=station.provision.identity, transaction_id=message.transactionInfo.transactionId,
            seq_no=message.seqNo, event_type=message.eventType, at_s=message.timestamp.timestamp(), evse_id=evse_id,
            payload_json=self._desk.erased.cleaned(message.idToken, call.raw),
        )  # fmt: skip
        self._check_owner(station, event)
        if event.event_type != "Ended":
            # At once, stored or not: whoever has begun may draw power.
            station.open_since_s.pop(station.provision.rows.get(evse_id, -1), None)
            station.begun.add(station.provision.rows.get(evse_id, -1))
        answer, generation = Later(), station.generation

        def booked(new: bool | None, error: Exception | None) -> None:
            # Also when the connection has ended: record and effect stay together, the repetition would have none.
            try:
                if error is not None:
                    self._not_stored(station, event, error)
                if new:
                    self._take(station, generation, event, message, call.received_at_s)
                answer.give(self._answer(station, message))
            except Exception as failure:
                answer.give(failure)

        try:
            self._desk.store.post_transaction_event(event, booked)
        except (StoreRangeError, StoreError) as error:
            self._not_stored(station, event, error)
        return answer

    def _not_stored(self, station: Station, event: TransactionEvent, error: Exception) -> None:
        if isinstance(error, StoreRangeError):
            # The station's fault, not ours: no trace in the log, and no repetition to wait for.
            raise RemoteProtocolError("PropertyConstraintViolation", "a field of the event cannot be kept") from None
        if isinstance(error, StoreError):
            station.note_unstored(event.at_s, self._desk.clock.monotonic())
            self._desk.on_event("store_failed", station.provision.identity, "A transaction event could not be stored.")
        raise error

    def _answer(self, station: Station, message: Any) -> WireStruct:
        if message.idToken is None:
            return codec.payload_type(station.version, "TransactionEvent", "response")()
        judged = self._tokens.present(station, message.idToken)
        return reply(station, "TransactionEvent", idTokenInfo=self._tokens.info(judged))

    def _check_owner(self, station: Station, event: TransactionEvent) -> None:
        """A transaction belongs to the station that began it; another one that names it is refused and has no effect."""
        if event.transaction_id in station.transactions.values() or event.event_type == "Started":
            return
        if event.transaction_id in station.ended or event.transaction_id in station.own:
            return
        owner = self._desk.store.owner_of_transaction(event.transaction_id, station.provision.identity)
        if owner is None or owner == station.provision.identity:
            station.note_own(event.transaction_id)
            return
        name = station.provision.identity
        if station.first("foreign transaction"):
            self._desk.on_event("security", name, f"{name} named a transaction of {owner}; it was refused.")
        raise RemoteProtocolError("SecurityError", "the transaction belongs to another station")

    def _take(self, station: Station, generation: int, event: TransactionEvent, message: Any, heard_s: float) -> None:
        """A new event, committed, takes effect."""
        row = station.provision.rows.get(event.evse_id or 0)
        if row is None:
            self._take_elsewhere(station, event, message)
            return
        if self._is_late(station, row, event):
            return
        station.spoke_s[row] = max(event.at_s, station.spoke_s.get(row, 0.0))
        if event.event_type == "Ended":
            station.note_ended(event.transaction_id)
            if station.transactions.get(row) == event.transaction_id:
                self.end(station, row)
                station.open_since_s[row] = event.at_s
                station.begun.discard(row)
        elif not message.offline:
            is_news = self._effect(station, event, message, row, heard_s)
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
        if event.transaction_id != station.transactions.get(row) and event.event_type == "Updated":
            if event.at_s < station.began_s.get(row, 0.0):
                return True  # of a vehicle that stood here before the present one
            if self._has_ended(station, event.transaction_id):
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
            head = self._desk.store.transaction_head(name, transaction_id)
            if head is not None and head.events < head.last_seq_no + 1:
                missing = head.last_seq_no + 1 - head.events
                text = f"Transaction {transaction_id} misses {missing} events; its energy counts only what was told."
                self._desk.on_event("transaction_incomplete", name, text)

        kind = codec.payload_type(station.version, "GetTransactionStatus", "request")
        post_if_room(live, "GetTransactionStatus", msgspec.convert({"transactionId": transaction_id}, kind), told)

    def _has_ended(self, station: Station, transaction_id: str) -> bool:
        """Whether the store knows the end of a transaction, also from before a restart."""
        try:
            head = self._desk.store.transaction_head(station.provision.identity, transaction_id)
        except StoreError:
            return False
        if head is not None and head.ended:
            station.note_ended(transaction_id)
        return head is not None and head.ended

    def _take_elsewhere(self, station: Station, event: TransactionEvent, message: Any) -> None:
        """At an EVSE nobody steers only the card counts: one that may not charge is stopped; missing events are asked for."""
        if station.skips(event.transaction_id, event.seq_no):
            self._ask_for_rest(station, event.transaction_id)
        goes_on = message.idToken is not None and event.event_type != "Ended" and not message.offline
        if goes_on and self._tokens.judge(message.idToken).status != "Accepted":
            self.cards.ask_to_stop(station, event.transaction_id)

    def _evse_of(self, station: Station, message: Any) -> int:
        """EVSE of a later event that does not name it again; 0 is unknown."""
        row = next((r for r, t in station.transactions.items() if t == message.transactionInfo.transactionId), None)
        return next((e for e, r in station.provision.rows.items() if r == row), 0)

    # --- its effect -------------------------------------------------------------------------------------------------
    def _effect(self, station: Station, event: TransactionEvent, message: Any, row: int, heard_s: float) -> bool:
        """A transaction goes on, or a new one begins, at `row`; whether there is news that must be kept."""
        board, transaction = self._desk.board, event.transaction_id
        is_new = station.transactions.get(row) != transaction
        if is_new:
            board.clear_vehicle(row)
            station.forget_vehicle(row)
            station.transactions[row] = transaction
            station.began_s[row] = event.at_s
            self._needs_told_before(station, row)
        if message.evse is not None and message.evse.connectorId is not None:
            station.connectors[row] = message.evse.connectorId
        board.connected[row] = True
        self._hear_clock(station, event.at_s)
        token = (
            message.idToken if message.idToken is not None or not is_new else self.cards.presented(station, transaction)
        )
        if token is not None:
            self.cards.take(station, row, token)
        is_first_register = self.read(row, message.meterValue, heard_s)
        return is_new or is_first_register or message.idToken is not None

    def _hear_clock(self, station: Station, stamp_s: float) -> None:
        monotonic_s, wall_s = self._desk.clock.monotonic(), self._desk.clock.wall()
        if station.waited(stamp_s, monotonic_s, wall_s):
            return
        station.hear_clock(stamp_s, monotonic_s, wall_s)
        # Whatever it is, no lease is built on a clock that may be off: as it is told now, or as its setpoints are still stamped.
        believed_s = station.its_time_s(monotonic_s, wall_s)
        station.skew_s = max(stamp_s - wall_s, believed_s - wall_s, key=abs)
        if abs(station.skew_s) > SKEW_FLAG_S and station.first("skew"):
            self._desk.on_event("security", station.provision.identity, f"Its clock is off by {station.skew_s:.0f} s.")

    def end(self, station: Station, row: int) -> None:
        """The transaction at `row` is over."""
        station.forget_vehicle(row)
        self._desk.board.clear_vehicle(row)
        self._needs.keep(station, row)

    def lose(self, station: Station, row: int) -> None:
        """The bay at `row` is free although nobody told the end of its transaction: its record stays open, and that is told."""
        name, transaction = station.provision.identity, station.transactions[row]
        station.note_ended(transaction)
        self.end(station, row)
        self._desk.on_event("transaction_incomplete", name, f"Transaction {transaction} never told its end.")

    def _needs_told_before(self, station: Station, row: int) -> None:
        early = station.early_needs.pop(row, None)
        if early is not None:
            self._take_needs(station, row, early)

    # --- meter values -----------------------------------------------------------------------------------------------
    def _meter_values(self, station: Station, message: Any, call: CallReceived) -> WireStruct:
        row = station.provision.rows.get(message.evseId)
        if row is not None and row in station.transactions and self._is_of_now(station, message.meterValue):
            self._desk.board.connected[row] = True
            self.read(row, message.meterValue, call.received_at_s)
            self._desk.judge(station, row)
            self._needs.keep(station, row)
        elif row is not None and row not in station.transactions:
            self._read_open(station, row, message.meterValue, call.received_at_s)
        return codec.payload_type(station.version, "MeterValues", "response")()

    def _read_open(self, station: Station, row: int, values: Any, heard_s: float) -> None:
        """Power at a bay whose transaction has ended, or that has none since its station is back: nothing should flow, and the
        controller must see if something does (FT28)."""
        reading = read_meter_values(values)
        since_s = station.open_since_s.get(row)
        if since_s is None:
            is_open = heard_s >= station.settled_s and row not in station.begun and self._is_of_now(station, values)
        else:
            is_open = reading.t_s > since_s
        if reading.power_kw is not None and is_open:
            self._desk.board.power_kw[row] = reading.power_kw
            self._desk.board.heard_s[row] = heard_s

    def _is_of_now(self, station: Station, values: Any) -> bool:
        """Meter values name no transaction: only those of this moment, by the station's clock, are surely of the present one."""
        newest_s: float = max(value.timestamp.timestamp() for value in values)
        clock = self._desk.clock
        station.hear_clock(newest_s, clock.monotonic(), clock.wall())
        return abs(newest_s - station.its_time_s(clock.monotonic(), clock.wall())) <= OLD_S

    def read(self, row: int, values: Any, heard_s: float) -> bool:
        """Meter values become evidence; what is missing stays as it was and ages. Whether they hold the stay's first register."""
        if not values:
            return False
        reading, board = read_meter_values(values), self._desk.board
        board.heard_s[row] = heard_s
        if reading.power_kw is not None:
            board.power_kw[row] = reading.power_kw
        if reading.soc is not None:
            board.soc[row] = round(reading.soc, 6)
        elif reading.soc_is_impossible:
            # Not as if nothing was told: the last one told is no longer believed (FT26).
            board.soc[row] = math.nan
        if reading.temperature_c is not None:
            board.temperature_c[row] = reading.temperature_c
        if reading.voltage_v is not None:
            board.voltage_v[row] = reading.voltage_v
        if reading.current_a is not None:
            board.current_a[row] = reading.current_a
        if reading.frequency_hz is not None:
            board.frequency_hz[row] = reading.frequency_hz
        if reading.energy_import_kwh is None:
            return False
        board.take_net(row, reading.energy_import_kwh, reading.energy_export_kwh)
        return board.take_register(row, reading.energy_import_kwh)
