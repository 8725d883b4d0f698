"""Setpoints on their way to stations: only what changed or must be renewed, stops first, every discharge a lease."""

from collections.abc import Iterable
from datetime import UTC, datetime

from gridtide.model.decision import Decision, Outcome
from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.conversation import Conversation
from gridtide.run.evidence import EvidenceBoard
from gridtide.run.station import OnEvent, Sent, Station
from gridtide.wire.ocpp import dialects
from gridtide.wire.ocpp.dialects import Setpoint, StationDialect
from gridtide.wire.ocpp.events import CallAnswered, CallFailed
from gridtide.wire.ocpp.outgoing import Priority

CHARGE_LEASE_S = 60.0
"""Charging limits end too, so that a dead controller leaves every vehicle at its fallback limit and not at its last one."""
LEASE_PROFILE_ID = 1000


class SetpointSender:
    """Translates decisions into the stations' dialects; one slow station delays no other."""

    def __init__(self, table: EvseTable, board: EvidenceBoard, clock: Clock, lease_s: float, on_event: OnEvent) -> None:
        self._table, self._board, self._clock, self._lease_s = table, board, clock, lease_s
        self._on_event = on_event
        self.sent = 0

    def apply(self, decision: Decision, stations: Iterable[Station]) -> None:
        """Send what changed or must be renewed."""
        now_s = self._clock.monotonic()
        for station in stations:
            conversation = station.accepted
            if conversation is None:
                continue
            for evse_id, row in station.provision.rows.items():
                power_kw = float(decision.setpoint_kw[row])
                if row not in station.transactions:
                    # An empty bay tells no meter values; its station's living link says that it is not silent.
                    self._board.heard_s[row] = now_s
                elif self._due(station, row, power_kw, now_s):
                    self._send(station, conversation, evse_id, row, power_kw, now_s)

    def _due(self, station: Station, row: int, power_kw: float, now_s: float) -> bool:
        last = station.sent.get(row)
        if last is None or abs(last.power_kw - power_kw) >= 0.0005:
            return True
        lease_s = self._lease_s if power_kw < 0.0 else CHARGE_LEASE_S
        return now_s - last.at_s >= lease_s / 2.5 - 1e-6

    def _send(
        self, station: Station, conversation: Conversation, evse_id: int, row: int, power_kw: float, now_s: float
    ) -> None:
        last = station.sent.get(row)
        stops = power_kw >= 0.0 and last is not None and last.power_kw < 0.0
        lease_s = self._lease_s if power_kw < 0.0 else CHARGE_LEASE_S
        setpoint = Setpoint(
            power_kw=power_kw, lease_s=int(lease_s), now=datetime.fromtimestamp(self._clock.wall(), UTC), evse_id=evse_id,
            profile_id=LEASE_PROFILE_ID + evse_id, transaction_id=station.transactions[row],
        )  # fmt: skip
        translated = dialects.translate(setpoint, self.dialect(station, evse_id, row))
        if translated.denial is not None:
            self._board.may_discharge[row] = False
            self._on_event("discharge_denied", self._table.ids[row], f"Not sent: {translated.denial}.")
            return
        station.sent[row] = Sent(power_kw, now_s)
        self.sent += 1
        generation = station.generation
        for call in translated.calls:
            conversation.post(
                call.action, call.payload,
                lambda outcome: self._outcome(station, generation, row, power_kw, outcome),
                priority=Priority.STOP if stops else Priority.CONTROL, replace_key=("setpoint", row),
                expires_at_s=now_s + lease_s,
            )  # fmt: skip

    def dialect(self, station: Station, evse_id: int, row: int) -> StationDialect:
        """What is agreed with the station about one of its EVSEs."""
        return StationDialect(
            version=station.version,
            dialect=station.provision.dialect,
            is_discharge_authorised=bool(self._board.may_discharge[row]),
            is_underlay_accepted=row in station.underneath,
            underlay_profile_id=evse_id,
            underlay_kw=float(self._table.fallback_kw[row]),
            skew_s=station.skew_s,
        )

    def _outcome(
        self, station: Station, generation: int, row: int, power_kw: float, outcome: CallAnswered | CallFailed
    ) -> None:
        """A missing answer is a refusal; a refused discharge is told."""
        if generation != station.generation:
            return
        if isinstance(outcome, CallFailed):
            if outcome.reason != "replaced":
                station.outcomes[row] = Outcome.LATE
                station.sent.pop(row, None)
            return
        accepted = str(getattr(outcome.payload, "status", "")) == "Accepted"
        station.outcomes[row] = Outcome.APPLIED if accepted else Outcome.REFUSED
        if not accepted:
            station.sent.pop(row, None)
            if power_kw < 0.0:
                self._board.may_discharge[row] = False
                station.bidirectional.discard(row)
                self._on_event("discharge_denied", self._table.ids[row], "The station rejected the discharge profile.")
