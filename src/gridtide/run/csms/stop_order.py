"""The emergency stop as every station keeps it by itself: no vehicle takes power, also where no transaction is known to us.

Setpoints reach only vehicles whose transaction has told itself. A limit of zero for the whole station (K01, purpose
ChargingStationMaxProfile) holds at once for whoever stands there or comes, over reboots and while the link is down; it is lifted
when the emergency stop is cleared, at stations that were away as soon as they are back. Discharge ends with its lease.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from gridtide.run.clock import Clock
from gridtide.run.csms.station import OnEvent, Station
from gridtide.run.store import Store
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.events import CallAnswered, CallFailed
from gridtide.wire.ocpp.outgoing import Priority, QueueFull
from gridtide.wire.ocpp.structs import WireStruct

STOP_PROFILE_ID: Final = 990
STOP_STACK_LEVEL: Final = 9
ORDERED: Final = "stop_order/"
"""State of a station that may hold a stop order, until it has confirmed that it holds none."""
RETRY_S: Final = 5.0
REFUSED_RETRY_S: Final = 60.0
SINCE: Final = "2000-01-01T00:00:00Z"
"""As long ago as every clock can tell: a station whose own is off stops too."""
_NOT_TAKEN: Final = (
    "The station did not take the emergency stop as a limit of its own: a vehicle that it has not told of may charge at its "
    "fallback limit. All others are at zero."
)
_NOT_LIFTED: Final = "The station did not lift the limit of zero of the emergency stop: it is asked again every minute."
_LIMIT: Final = {
    "evseId": 0,
    "chargingProfile": {
        "id": STOP_PROFILE_ID, "stackLevel": STOP_STACK_LEVEL, "chargingProfilePurpose": "ChargingStationMaxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [{"id": 1, "startSchedule": SINCE, "chargingRateUnit": "W",
                              "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 0.0}]}],
    },
}  # fmt: skip


class StopOrders:
    """Follows the emergency stop at every station."""

    def __init__(
        self, stations: Callable[[], Iterable[Station]], store: Store, clock: Clock, on_event: OnEvent
    ) -> None:
        self._stations, self._store, self._clock, self._on_event = stations, store, clock, on_event
        self._is_pressed: bool | None = None
        """None before the first decision: after a restart nobody is let go too soon."""
        self._ordered = {name for name in _names(stations()) if store.get_state(ORDERED + name)}

    def follow(self, is_pressed: bool) -> None:
        """The controller's word, once a cycle."""
        if is_pressed is self._is_pressed:
            return
        self._is_pressed = is_pressed
        for station in self._stations():
            self.tell(station)

    def tell(self, station: Station) -> None:
        """Bring one station that is accepted up to date."""
        if self._is_pressed:
            self._keep(station, True)
            self._post(station, "SetChargingProfile", _LIMIT)
        elif self._is_pressed is False and station.provision.identity in self._ordered:
            self._post(station, "ClearChargingProfile", {"chargingProfileId": STOP_PROFILE_ID})

    def forget(self, identity: str) -> None:
        """A station that is no longer registered."""
        if identity in self._ordered:
            self._ordered.discard(identity)
            self._store.put_state(ORDERED + identity, b"")

    def _post(self, station: Station, action: str, fields: dict[str, Any]) -> None:
        live, is_pressed, generation = station.accepted, self._is_pressed, station.generation
        if live is None:
            return

        def done(outcome: CallAnswered | CallFailed) -> None:
            if is_pressed is self._is_pressed and generation == station.generation:
                self._answered(station, outcome)

        try:
            live.post(action, _request(station, action, fields), done, priority=Priority.STOP, replace_key="stop order")
        except QueueFull:
            # Too much waits for this station: once more when some of it has left.
            self._again(station, RETRY_S)

    def _answered(self, station: Station, outcome: CallAnswered | CallFailed) -> None:
        if isinstance(outcome, CallFailed) and outcome.reason not in ("call_error", "invalid_answer"):
            if outcome.reason not in ("replaced", "socket_ended"):
                self._again(station, RETRY_S)
            return
        status = str(getattr(outcome.payload, "status", "")) if isinstance(outcome, CallAnswered) else ""
        if self._is_pressed is False and status in ("Accepted", "Unknown"):
            self._keep(station, False)
        elif status != "Accepted":
            if station.first(f"stop order {self._is_pressed}"):
                text = _NOT_TAKEN if self._is_pressed else _NOT_LIFTED
                self._on_event("vehicle_not_following", station.provision.identity, text)
            self._again(station, REFUSED_RETRY_S)

    def _again(self, station: Station, after_s: float) -> None:
        def act() -> None:
            self.tell(station)

        station.later.append((self._clock.monotonic() + after_s, act))

    def _keep(self, station: Station, is_ordered: bool) -> None:
        name = station.provision.identity
        if (name in self._ordered) is not is_ordered:
            (self._ordered.add if is_ordered else self._ordered.discard)(name)
            self._store.put_state(ORDERED + name, b"1" if is_ordered else b"")


def _names(stations: Iterable[Station]) -> list[str]:
    return [station.provision.identity for station in stations]


def _request(station: Station, action: str, fields: dict[str, Any]) -> WireStruct:
    return msgspec.convert(fields, codec.payload_type(station.version, action, "request"))
