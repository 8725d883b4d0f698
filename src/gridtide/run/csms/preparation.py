"""What every accepted station gets first: the non-discharging profile underneath, and how often to report."""

from collections.abc import Callable
from typing import Any

import msgspec

from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.conversation import Conversation
from gridtide.run.csms.station import OnEvent, Station
from gridtide.wire.ocpp import codec, dialects
from gridtide.wire.ocpp.dialects import StationDialect
from gridtide.wire.ocpp.events import CallAnswered, CallFailed
from gridtide.wire.ocpp.outgoing import Priority

REPORT_S = 1
"""Interval at which stations are asked to report their meter, s."""
REPORT_NAME = "TxUpdatedInterval"
ATTEMPTS = 20
"""How often a station is to tell a transaction event that our disk did not take, with growing pauses (E13): with the usual first
pause of 10 s for half an hour. By itself it may give up after three."""
SLOW_RETRY_S = 30.0
RETRY_S = 5.0
"""An unanswered profile underneath is sent once more after this time."""
SETTLED_S = 60.0
"""What a station queued while it was away has come by then."""
ASK_S = 2.0
"""How long the station may take to tell about itself."""
BOOT_WAIT_S = 2.0
"""A station that is unknown and does not boot is asked to after this time."""


class Preparation:
    """Prepares stations; `judge` is told of every row that now has its profile underneath."""

    def __init__(
        self,
        table: EvseTable,
        clock: Clock,
        on_event: OnEvent,
        dialect: Callable[[Station, int, int], StationDialect],
        judge: Callable[[Station, int], None],
    ) -> None:
        self._table, self._clock, self._on_event, self._dialect, self._judge = table, clock, on_event, dialect, judge
        self.prepared: Callable[[Station], None] = lambda _station: None
        """Told of every station that has its first messages on the way."""

    def welcome(self, station: Station) -> None:
        """A new connection: who was accepted before need not boot again; who was not is asked to."""
        if station.accepted is not None:
            self.prepare(station)
        else:
            station.later.append((self._clock.monotonic() + BOOT_WAIT_S, lambda: self._ask_to_boot(station)))

    def prepare(self, station: Station) -> None:
        """The profile underneath, then how often to report; answers to an earlier preparation count no more, and what of it has
        not left yet is not sent: a station that was accepted before and boots is prepared once, not twice."""
        conversation = station.accepted
        if conversation is None:
            return
        station.preparation += 1
        station.settled_s = self._clock.monotonic() + SETTLED_S
        if station.generation > 1 and station.first("back"):
            name = station.provision.identity
            self._on_event("station_back", name, f"{name} is connected again.")
        for evse_id, row in station.provision.rows.items():
            self._put_underneath(station, evse_id, row, is_last=False)
        request = codec.payload_type(station.version, "SetVariables", "request")
        wanted = msgspec.convert(
            {"setVariableData": [
                {"attributeValue": str(REPORT_S), "component": {"name": "SampledDataCtrlr"},
                 "variable": {"name": REPORT_NAME}},
                {"attributeValue": str(ATTEMPTS), "component": {"name": "OCPPCommCtrlr"},
                 "variable": {"name": "MessageAttempts", "instance": "TransactionEvent"}},
            ]},
            request,
        )  # fmt: skip
        conversation.post(
            "SetVariables", wanted, lambda outcome: self._interval_set(station, outcome), replace_key="report interval"
        )
        if station.may_ever_discharge():
            self._ask_for_v2x(station, conversation)
        self.prepared(station)

    def _ask_for_v2x(self, station: Station, conversation: Conversation) -> None:
        """What the station itself reports of its V2X controller; one that says it has none is never asked to discharge."""
        mine = station.preparation
        kind = codec.payload_type(station.version, "GetVariables", "request")
        asked = [
            {"component": {"name": "V2XChargingCtrlr", "evse": {"id": evse_id}}, "variable": {"name": name}}
            for evse_id in station.provision.rows for name in ("Available", "Enabled")
        ]  # fmt: skip
        if not asked:
            return

        def done(outcome: CallAnswered | CallFailed) -> None:
            if mine == station.preparation and isinstance(outcome, CallAnswered):
                self._take_v2x(station, outcome.payload)

        # Some clients never answer what they have no handler for, and setpoints wait behind it.
        wanted = msgspec.convert({"getVariableData": asked}, kind)
        conversation.post(
            "GetVariables", wanted, done, timeout_s=ASK_S, priority=Priority.BACKGROUND, replace_key="V2X controller"
        )

    def _take_v2x(self, station: Station, answer: Any) -> None:
        for result in answer.getVariableResult:
            evse = result.component.evse
            row = station.provision.rows.get(evse.id if evse is not None else 0)
            if row is None or str(result.attributeStatus) != "Accepted":
                continue
            if str(result.attributeValue).lower() == "false":
                station.no_v2x.add(row)
                self._judge(station, row)
                if station.first(f"no v2x {row}"):
                    text = f"The station reports V2XChargingCtrlr.{result.variable.name} = false, so it will not discharge."
                    self._on_event("discharge_denied", self._table.ids[row], text)

    def _ask_to_boot(self, station: Station) -> None:
        live = station.conversation
        if live is None or live.session.boot_state != "unbooted":
            return
        request = codec.payload_type(station.version, "TriggerMessage", "request")
        wanted = msgspec.convert({"requestedMessage": "BootNotification"}, request)
        live.post("TriggerMessage", wanted, lambda _outcome: None)

    def _put_underneath(self, station: Station, evse_id: int, row: int, *, is_last: bool) -> None:
        conversation, mine = station.accepted, station.preparation
        if conversation is None:
            return

        def done(outcome: CallAnswered | CallFailed) -> None:
            if mine != station.preparation:
                return
            if isinstance(outcome, CallAnswered) and str(getattr(outcome.payload, "status", "")) == "Accepted":
                station.underneath.add(row)
                self._judge(station, row)
            elif isinstance(outcome, CallAnswered) or outcome.reason in ("call_error", "invalid_answer"):
                self._deny(station, row, "refused")
            elif outcome.reason != "socket_ended":
                if is_last:
                    self._deny(station, row, "did not confirm")
                # A station may be slow for a while only: it is asked again, less often once that was told.
                station.later.append((self._clock.monotonic() + (SLOW_RETRY_S if is_last else RETRY_S), retry))

        def retry() -> None:
            if mine == station.preparation:
                self._put_underneath(station, evse_id, row, is_last=True)

        call = dialects.underlay_call(self._dialect(station, evse_id, row), evse_id)
        conversation.post(call.action, call.payload, done, replace_key=("underneath", row))

    def _deny(self, station: Station, row: int, what: str) -> None:
        if station.provision.dialect != "refuse" and station.first("underneath"):
            text = (
                f"The station {what} the charging limit that must lie under every discharge, so it will not discharge."
            )
            self._on_event("discharge_denied", self._table.ids[row], text)

    def _interval_set(self, station: Station, outcome: CallAnswered | CallFailed) -> None:
        if isinstance(outcome, CallAnswered):
            results: Any = getattr(outcome.payload, "setVariableResult", ())
            asked = [item for item in results if item.variable.name.lower() == REPORT_NAME.lower()]
            taken = all(str(item.attributeStatus) == "Accepted" for item in asked)
        else:
            taken = outcome.reason not in ("call_error", "invalid_answer")
        if not taken and station.first("slow_reports"):
            name = station.provision.identity
            self._on_event("slow_reports", name, f"{name} did not accept to report its meter every {REPORT_S} s.")
