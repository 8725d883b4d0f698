"""Setpoints on their way to stations: only what changed or must be renewed, stops first, every discharge a lease."""

from collections.abc import Hashable, Iterable
from datetime import UTC, datetime

import structlog

from gridtide.model.decision import Decision, Outcome
from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.conversation import Conversation
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.round_trip import RoundTrips
from gridtide.run.csms.station import OnEvent, Sent, Station
from gridtide.wire.ocpp import dialects
from gridtide.wire.ocpp.dialects import Setpoint, StationDialect
from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.events import CallAnswered, CallFailed
from gridtide.wire.ocpp.outgoing import Priority

CHARGE_LEASE_S = 60.0
"""Charging limits end too, so that a dead controller leaves every vehicle at its fallback limit and not at its last one."""
CONTROL_S = 2.0
"""Time limit of a setpoint that travels as a vendor's message; others have it by their action."""
LEASE_PROFILE_ID = 1000
SAME_KW = 0.0005
"""Setpoints closer than this are the same."""
PASSING = ("discharge not authorised", "no transaction", "station clock is off")
"""Denials that end by themselves: the row is judged anew with its next message."""
log = structlog.get_logger(__name__)


class SetpointSender:
    """Translates decisions into the stations' dialects; one slow station delays no other."""

    def __init__(self, table: EvseTable, board: EvidenceBoard, clock: Clock, lease_s: float, on_event: OnEvent) -> None:
        self.table, self._board, self._clock, self._lease_s = table, board, clock, lease_s
        self._on_event = on_event
        self._round_trips = RoundTrips(clock, on_event)
        self._decided_s = 0.0
        self.sent = 0

    def apply(self, decision: Decision, stations: Iterable[Station]) -> None:
        """Send what changed or must be renewed. One row's failure keeps no other from its setpoint; it is raised at the end."""
        failure: Exception | None = None
        self._decided_s = self._clock.monotonic()
        for station in stations:
            for evse_id, row in station.provision.rows.items():
                try:
                    self._serve(station, evse_id, row, float(decision.setpoint_kw[row]))
                except LocalProtocolError as error:
                    log.warning("setpoint_not_sent", row=self.table.ids[row], error=str(error))
                    if station.first(f"not sent {row}"):
                        self._on_event("vehicle_not_following", self.table.ids[row], f"Setpoint not sent: {error}.")
                except Exception as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    def _serve(self, station: Station, evse_id: int, row: int, power_kw: float) -> None:
        conversation, now_s = station.accepted, self._clock.monotonic()
        if conversation is None:
            return
        if row not in station.transactions:
            # An empty bay tells no meter values; its station's living link says that it is not silent.
            self._board.heard_s[row] = now_s
        elif self._due(station, row, power_kw, now_s):
            self._send(station, conversation, evse_id, row, power_kw, now_s)

    def _due(self, station: Station, row: int, power_kw: float, now_s: float) -> bool:
        last, failed = station.sent.get(row), station.failed.get(row)
        if failed is not None and abs(failed.power_kw - power_kw) < SAME_KW:
            return now_s - failed.at_s >= self._lease_s / 2.5 - 1e-6
        if last is None or abs(last.power_kw - power_kw) >= SAME_KW:
            return True
        lease_s = self._lease_s if power_kw < 0.0 else CHARGE_LEASE_S
        return now_s - last.at_s >= lease_s / 2.5 - 1e-6

    def _send(
        self, station: Station, conversation: Conversation, evse_id: int, row: int, power_kw: float, now_s: float
    ) -> None:
        lease_s = self._lease_s if power_kw < 0.0 else CHARGE_LEASE_S
        transaction = station.transactions[row]
        its_time = datetime.fromtimestamp(station.its_time_s(self._clock.monotonic(), self._clock.wall()), UTC)
        setpoint = Setpoint(
            power_kw=power_kw, lease_s=int(lease_s), now=its_time, evse_id=evse_id,
            profile_id=LEASE_PROFILE_ID + evse_id, transaction_id=transaction,
        )  # fmt: skip
        translated = dialects.translate(setpoint, self.dialect(station, evse_id, row))
        if translated.denial is not None:
            self._deny(station, row, f"Not sent: {translated.denial}.", is_final=translated.denial not in PASSING)
            return
        priority = Priority.STOP if _stops(station.sent.get(row), power_kw) else Priority.CONTROL
        generation, decided_s = station.generation, self._decided_s

        def done(outcome: CallAnswered | CallFailed) -> None:
            if generation == station.generation:
                self._round_trips.note(station, decided_s, outcome)
            if generation == station.generation and station.transactions.get(row) == transaction:
                self._outcome(station, row, Sent(power_kw, now_s), outcome)

        actions = {call.action for call in translated.calls}
        # What an older setpoint would have said by another message must not follow this one.
        conversation.withdraw(lambda key: _is_other(key, row, actions), priority)
        for call in translated.calls:
            conversation.post(
                call.action, call.payload, done, priority=priority, replace_key=("setpoint", row, call.action),
                expires_at_s=now_s + lease_s, timeout_s=CONTROL_S if call.action == "DataTransfer" else None,
            )  # fmt: skip
        station.sent[row] = Sent(power_kw, now_s)
        station.failed.pop(row, None)
        self.sent += 1

    def _deny(self, station: Station, row: int, text: str, *, is_final: bool) -> None:
        """No discharge at `row`; a final denial holds until the next transaction or boot, and the plan counts on others."""
        self._board.may_discharge[row] = False
        if is_final:
            station.refused.add(row)
        if station.first(f"denied {row}"):
            self._on_event("discharge_denied", self.table.ids[row], text)

    def dialect(self, station: Station, evse_id: int, row: int) -> StationDialect:
        """What is agreed with the station about one of its EVSEs."""
        return StationDialect(
            version=station.version,
            dialect=station.provision.dialect,
            is_discharge_authorised=bool(self._board.may_discharge[row]),
            is_underlay_accepted=row in station.underneath,
            underlay_profile_id=evse_id,
            underlay_kw=float(self.table.fallback_kw[row]),
            skew_s=station.skew_s,
            template=station.provision.template,
        )

    def _outcome(self, station: Station, row: int, tried: Sent, outcome: CallAnswered | CallFailed) -> None:
        """A missing answer is a refusal; a refused discharge is told, and anything else that fails too, once."""
        if isinstance(outcome, CallFailed) and outcome.reason not in ("call_error", "invalid_answer"):
            if outcome.reason != "replaced":
                station.outcomes[row] = Outcome.LATE
                self._failed(station, row, tried)
            if outcome.reason == "timed_out" and station.first(f"not following {row}"):
                text = f"The station did not answer to the setpoint of {tried.power_kw:.1f} kW in time."
                self._on_event("vehicle_not_following", self.table.ids[row], text)
            return
        accepted = isinstance(outcome, CallAnswered) and str(getattr(outcome.payload, "status", "")) == "Accepted"
        station.outcomes[row] = Outcome.APPLIED if accepted else Outcome.REFUSED
        if accepted:
            return
        self._failed(station, row, tried)
        if tried.power_kw < 0.0:
            self._deny(station, row, "The station rejected the discharge profile.", is_final=True)
        elif station.first(f"not following {row}"):
            text = f"The station rejected the setpoint of {tried.power_kw:.1f} kW."
            self._on_event("vehicle_not_following", self.table.ids[row], text)

    def _failed(self, station: Station, row: int, tried: Sent) -> None:
        """What failed is not at the station; a newer setpoint on its way is not concerned."""
        if station.sent.get(row) == tried:
            del station.sent[row]
            station.failed[row] = tried


def _is_other(key: Hashable, row: int, actions: set[str]) -> bool:
    return isinstance(key, tuple) and key[:2] == ("setpoint", row) and key[2] not in actions


def _stops(last: Sent | None, power_kw: float) -> bool:
    """Whether a setpoint ends what may be going on: any power when it is zero, a discharge when it is not negative."""
    if power_kw == 0.0:
        return last is None or last.power_kw != 0.0
    return power_kw > 0.0 and last is not None and last.power_kw < 0.0
