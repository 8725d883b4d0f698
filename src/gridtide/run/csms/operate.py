"""What people ask of a station: any message a CSMS may send, checked first, audited, its answer remembered.

No raw message makes a vehicle discharge and none takes the place of the controller's profiles: setpoints have one way, through
the guard.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gridtide.run.clock import Clock
from gridtide.run.csms.reports import Reports
from gridtide.run.csms.setpoints import LEASE_PROFILE_ID
from gridtide.run.csms.station import Station
from gridtide.run.store import Store
from gridtide.wire.ocpp import codec, dialects
from gridtide.wire.ocpp.actions import TABLES, may_send
from gridtide.wire.ocpp.checks import Context, request_problems
from gridtide.wire.ocpp.dialects import LEASE_STACK_LEVEL, UNDERLAY_STACK_LEVEL
from gridtide.wire.ocpp.errors import LocalProtocolError, RemoteProtocolError
from gridtide.wire.ocpp.events import CallAnswered
from gridtide.wire.ocpp.outgoing import Priority
from gridtide.wire.ocpp.structs import WireStruct, enc_hook

HOW_TO_DISCHARGE = "only the controller lets a vehicle discharge: use a manual override or `gridtide test-discharge`"
SECRETS = frozenset({"BasicAuthPassword"})


CheckUrl = Callable[[str, str], None]
"""(address, field): raises ValueError for an address stations must not be sent to."""


class StationOffline(Exception):
    """The station is not connected or not accepted; try again when it is back."""


class CallOutcome(Struct, frozen=True, kw_only=True):
    """What became of a call."""

    status: Literal["answered", "error", "failed"]
    """`error`: the station answered with an error; `failed`: it did not answer."""
    payload: Any = None
    """The answer as JSON values."""
    code: str = ""
    description: str = ""
    elapsed_s: float = 0.0


class Operator:
    """Calls stations on behalf of people."""

    def __init__(
        self,
        stations: Mapping[str, Station],
        store: Store,
        clock: Clock,
        reports: Reports,
        check_url: CheckUrl,
        reprepare: Callable[[Station], None],
    ) -> None:
        """`reprepare` puts the profile underneath a station again after somebody cleared profiles."""
        self._stations, self._store, self._clock, self._reports = stations, store, clock, reports
        self._check_url, self._reprepare = check_url, reprepare

    async def call(
        self, identity: str, action: str, payload: Mapping[str, Any], actor: str, timeout_s: float | None = None
    ) -> CallOutcome:
        """Send `action` with `payload` (JSON values) and wait for the outcome.

        Raises KeyError (no such station), ValueError (field, value, cure), StationOffline.
        """
        station = self._stations.get(identity)
        if station is None:
            raise KeyError(f"there is no station {identity!r}")
        request = self.checked(station, action, payload)
        live = station.accepted
        if live is None:
            raise StationOffline(f"station {identity} is not connected: try again when it is back")
        detail = msgspec.json.encode({"station": identity, "action": action, "payload": payload})
        await self._store.append_audit(self._clock.wall(), actor, "ocpp.call", detail)
        self._reports.note_request(station, action, request)
        began_s = self._clock.monotonic()
        priority = Priority.STOP if action == "RequestStopTransaction" else None
        try:
            outcome = await live.call(action, request, timeout_s=timeout_s, priority=priority)
        except LocalProtocolError as error:
            raise StationOffline(f"station {identity} takes no more calls now: {error}") from None
        self._after(station, action)
        elapsed_s = self._clock.monotonic() - began_s
        if isinstance(outcome, CallAnswered):
            self._reports.note_answer(station, action, request, outcome.payload)
            answer = msgspec.to_builtins(outcome.payload, enc_hook=enc_hook)
            return CallOutcome(status="answered", payload=_without_none(answer), elapsed_s=elapsed_s)
        self._reports.note_failure(station, action, request)
        status: Literal["error", "failed"] = "error" if outcome.reason == "call_error" else "failed"
        return CallOutcome(
            status=status, code=outcome.code or outcome.reason, description=outcome.description, elapsed_s=elapsed_s
        )

    def checked(self, station: Station, action: str, payload: Mapping[str, Any]) -> WireStruct:
        """The typed request if it may be sent, else ValueError."""
        pair = TABLES[station.version].get(action)
        if pair is None or pair[1] is None or not may_send("csms", action):
            raise ValueError(f"action is {action[:64]!r}: OCPP {station.version} knows no such request of a CSMS")
        try:
            shapes = dialects.request_overrides(station.provision.dialect, station.version)
            shape = shapes.get(action, station.version)
            request = codec.decode(shape, action, "request", msgspec.json.encode(payload))
        except RemoteProtocolError as error:
            raise ValueError(f"payload of {action}: {error.description}") from None
        self._check_policy(station, action, request)
        return request

    def _check_policy(self, station: Station, action: str, request: Any) -> None:
        now = datetime.fromtimestamp(self._clock.wall(), UTC)
        problems = request_problems(action, request, Context(now=now, allows_discharge=False))
        if problems:
            told = "; ".join(str(item) for item in problems[:3])
            raise ValueError(f"{action}: {told}" + (f"; {HOW_TO_DISCHARGE}" if "discharg" in told else ""))
        if action == "UpdateDynamicSchedule" and request.chargingProfileId >= LEASE_PROFILE_ID:
            raise ValueError(f"chargingProfileId is {request.chargingProfileId}: that profile is the controller's")
        profile = getattr(request, "chargingProfile", None)
        if profile is not None and action in ("SetChargingProfile", "RequestStartTransaction"):
            _check_place(station, profile)
        if action == "SetVariables":
            for item in request.setVariableData:
                if item.variable.name in SECRETS:
                    raise ValueError(
                        f"variable {item.variable.name} is a secret: use `gridtide stations rotate` instead"
                    )
        for field, address in _addresses(request):
            self._check_url(address, field)

    def _after(self, station: Station, action: str) -> None:
        """Whatever the answer was, or whether there was one: profiles may be gone."""
        if action == "ClearChargingProfile":
            self._reprepare(station)


def _check_place(station: Station, profile: Any) -> None:
    """The profiles underneath and the leases are the controller's; what takes their place would steer in its stead."""
    if profile.chargingProfilePurpose not in ("TxDefaultProfile", "TxProfile"):
        return
    taken = profile.id >= LEASE_PROFILE_ID or profile.id in station.provision.rows
    if taken or profile.stackLevel >= LEASE_STACK_LEVEL or profile.stackLevel == UNDERLAY_STACK_LEVEL:
        raise ValueError(
            f"chargingProfile id {profile.id}, stackLevel {profile.stackLevel}: EVSE ids, ids from {LEASE_PROFILE_ID} and the "
            f"stack levels {UNDERLAY_STACK_LEVEL} and from {LEASE_STACK_LEVEL} are the controller's; give others"
        )


def _addresses(request: Any) -> list[tuple[str, str]]:
    """(field, address) of everything in a request that a station would open."""
    places = (("", "location"), ("log", "remoteLocation"), ("firmware", "location"), ("connectionData", "ocppCsmsUrl"))
    found = []
    for outer, name in places:
        part = getattr(request, outer, None) if outer else request
        address = getattr(part, name, None)
        if isinstance(address, str):
            found.append((f"{outer}.{name}".strip("."), address))
    return found


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, (list, tuple)) else value
