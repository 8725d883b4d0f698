"""What people ask of a station: any message a CSMS may send, checked first, audited, its answer remembered.

No raw message makes a vehicle discharge and none takes the place of the controller's profiles: setpoints have one way, through
the guard.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gridtide.run.clock import Clock
from gridtide.run.conversation import Conversation
from gridtide.run.csms.call_rules import steering
from gridtide.run.csms.device_model import VARIABLE, is_write_only, rules_told
from gridtide.run.csms.hidden import secrets_of, without_secrets, without_texts
from gridtide.run.csms.limits import signal_curve
from gridtide.run.csms.reports import Reports
from gridtide.run.csms.station import Station
from gridtide.run.csms.turns import TooManyWait, Turns
from gridtide.run.store import Store
from gridtide.wire.ocpp import codec, dialects
from gridtide.wire.ocpp.actions import TABLES, may_send
from gridtide.wire.ocpp.checks import Context, request_problems
from gridtide.wire.ocpp.errors import LocalProtocolError, RemoteProtocolError
from gridtide.wire.ocpp.events import CallAnswered
from gridtide.wire.ocpp.outgoing import Priority
from gridtide.wire.ocpp.structs import WireStruct, enc_hook

HOW_TO_DISCHARGE = "only the controller lets a vehicle discharge: use a manual override or `gridtide test-discharge`"
SECRETS = frozenset({"basicauthpassword"})
"""Variables that only `rotate` sets; compared with their letters folded."""
TOKENS = frozenset({"idToken", "customerIdentifier"})
STOP = "RequestStopTransaction"
TOLD_RULES = frozenset({"SetVariables", "GetVariables", "SetChargingProfile", "RequestStartTransaction"})
"""Requests for which the station's own device model holds rules."""
CALLS_AT_ONCE = 200
"""Calls of people under way at once, unless the site file says otherwise."""


CheckUrl = Callable[[str, str], None]
"""(address, field): raises ValueError for an address stations must not be sent to."""


class StationOffline(Exception):
    """The station is not connected or not accepted; try again when it is back."""


class TooManyCalls(StationOffline):
    """Too many calls of people are under way; try again later."""


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
        unprepare: Callable[[Station], None],
        limit: int = CALLS_AT_ONCE,
    ) -> None:
        """`unprepare` ends the right to discharge before somebody clears profiles, `reprepare` puts the one underneath a
        station again; at most `limit` calls are
        under way at once."""
        self._stations, self._store, self._clock, self._reports = stations, store, clock, reports
        self._check_url, self._reprepare, self._unprepare = check_url, reprepare, unprepare
        self.turns = Turns(limit)

    async def call(
        self, identity: str, action: str, payload: Mapping[str, Any], actor: str, timeout_s: float | None = None
    ) -> CallOutcome:
        """Send `action` with `payload` (JSON values) and wait for the outcome. A stop waits for nobody else's call.

        Raises KeyError (no such station), ValueError (field, value, cure), StationOffline, TooManyCalls.
        """
        station = self._stations.get(identity)
        if station is None:
            raise KeyError(f"there is no station {identity!r}")
        request = self.checked(station, action, payload)
        _connected(station)
        if action == STOP:
            return await self._call(station, action, request, payload, actor, timeout_s)
        try:
            async with self.turns:
                return await self._call(station, action, request, payload, actor, timeout_s)
        except TooManyWait:
            raise TooManyCalls("too many calls wait for stations to answer: try again in a minute") from None

    async def _call(
        self,
        station: Station,
        action: str,
        request: WireStruct,
        payload: Mapping[str, Any],
        actor: str,
        timeout_s: float | None,
    ) -> CallOutcome:
        identity = station.provision.identity
        secrets = secrets_of(payload) | self._write_only(station, action, request)
        told = without_texts(without_secrets(_unnamed(payload)), secrets)
        detail = msgspec.json.encode({"station": identity, "action": action, "payload": told})
        await self._store.append_audit(self._clock.wall(), actor, "ocpp.call", detail)
        # Only now: it may have come and gone while this call waited.
        live = _connected(station)
        self._reports.note_request(station, action, request)
        began_s = self._clock.monotonic()
        priority = Priority.STOP if action == STOP else None
        self._before(station, action)
        try:
            outcome = await live.call(action, request, timeout_s=timeout_s, priority=priority)
        except LocalProtocolError as error:
            raise StationOffline(f"station {identity} takes no more calls now: {error}") from None
        finally:
            self._after(station, action)
        elapsed_s = self._clock.monotonic() - began_s
        if isinstance(outcome, CallAnswered):
            self._reports.note_answer(station, action, request, outcome.payload)
            answer = msgspec.to_builtins(outcome.payload, enc_hook=enc_hook)
            hidden = without_texts(without_secrets(_without_none(answer)), secrets)
            return CallOutcome(status="answered", payload=hidden, elapsed_s=elapsed_s)
        self._reports.note_failure(station, action, request)
        status: Literal["error", "failed"] = "error" if outcome.reason == "call_error" else "failed"
        code, description = outcome.code or outcome.reason, without_texts(outcome.description, secrets)
        return CallOutcome(status=status, code=code, description=description, elapsed_s=elapsed_s)

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
        problems = request_problems(action, request, self._context(station, action, now))
        if problems:
            told = "; ".join(str(item) for item in problems[:3])
            raise ValueError(f"{action}: {told}" + (f"; {HOW_TO_DISCHARGE}" if "discharg" in told else ""))
        against = next(steering(station, action, request), None)
        if against is not None:
            raise ValueError(f"{action}: {against}")
        if action == "SetVariables":
            for item in request.setVariableData:
                if item.variable.name.casefold() in SECRETS:
                    raise ValueError(
                        f"variable {item.variable.name} is a secret: use `gridtide stations rotate` instead"
                    )
        for field, address in _addresses(request):
            self._check_url(address, field)

    def _before(self, station: Station, action: str) -> None:
        """No discharge while profiles, the one underneath among them, may be going."""
        if action == "ClearChargingProfile":
            self._unprepare(station)

    def _write_only(self, station: Station, action: str, request: Any) -> frozenset[str]:
        """Values for variables that the station, or the standard, lets nobody read."""
        if action != "SetVariables":
            return frozenset()
        _, told = rules_told(self._store.records(station.provision.identity, VARIABLE))
        return frozenset(
            item.attributeValue
            for item in request.setVariableData
            if is_write_only((item.component.name, item.variable.name), told) and item.attributeValue
        )

    def _context(self, station: Station, action: str, now: datetime) -> Context:
        """What is known of the station, where a rule for this action asks for it."""
        if action == "AFRRSignal":
            curve = signal_curve(self._store, station.provision.identity)
            return Context(now=now, allows_discharge=False, signal_curve=curve)
        if action not in TOLD_RULES:
            return Context(now=now, allows_discharge=False)
        limits, mutability = rules_told(self._store.records(station.provision.identity, VARIABLE))
        return Context(now=now, allows_discharge=False, profile_limits=limits, mutability=mutability)

    def _after(self, station: Station, action: str) -> None:
        """Whatever the answer was, or whether there was one: profiles may be gone."""
        if action == "ClearChargingProfile":
            self._reprepare(station)


def _connected(station: Station) -> Conversation:
    live = station.accepted
    if live is None:
        raise StationOffline(f"station {station.provision.identity} is not connected: try again when it is back")
    return live


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


def _unnamed(value: Any) -> Any:
    """A payload for the audit, whose chain cannot forget: of idTokens it holds a digest alone."""
    if isinstance(value, Mapping):
        return {
            key: {"sha256": hashlib.sha256(item.lower().encode()).hexdigest()}
            if key in TOKENS and isinstance(item, str)
            else _unnamed(item)
            for key, item in value.items()
        }
    return [_unnamed(item) for item in value] if isinstance(value, (list, tuple)) else value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, (list, tuple)) else value
