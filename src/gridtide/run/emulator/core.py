"""What every block of an emulated station shares: who it is, its clock, its timers, its faults and its way out."""

import asyncio
import heapq
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from gridtide.run.clock import Clock
from gridtide.run.emulator.outbox import Done, Outbox
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import TABLES, Version
from gridtide.wire.ocpp.structs import WireStruct

Fields: TypeAlias = dict[str, Any]
"""A message's fields by wire name."""
Act: TypeAlias = Callable[[Any], Fields]
"""Answers a request of the CSMS with the fields of the response."""
Actions: TypeAlias = Mapping[str, Act]
EVSE = {"id": 1, "connectorId": 1}
"""Where everything happens: the station has one EVSE with one connector."""


class Setup(Struct, frozen=True, kw_only=True):
    """What kind of station this is."""

    vendor: str = "gridtide"
    model: str = "Twin"
    serial: str = ""
    """Serial number; empty: the identity."""
    firmware: str = "1.0.0"
    charge_kw: float = 11.0
    discharge_kw: float = 11.0
    fallback_kw: float = 0.0
    """Power without any charging profile: a charger that nobody limits."""
    connector: str = "cCCS2"
    standard: bool = False
    """True: a vehicle waits for its token's authorisation, and the station tells every change of state. False: transactions
    begin at the plug, as a site under test with known vehicles wants it."""
    least_interval_s: int = 1
    """Shortest TxUpdatedInterval it accepts."""
    update_s: int = 60
    """TxUpdatedInterval to begin with."""
    security_profile: int = 1
    organisation: str = "gridtide"


class Faults(Struct):
    """What goes wrong, settable at any moment."""

    silent: bool = False
    """Keeps the link but says nothing."""
    refuses_discharge: bool = False
    """Rejects every discharging profile."""
    ignores_setpoints: bool = False
    """Accepts every profile and follows none."""
    skew_s: float = 0.0
    """Its clock minus the true time."""
    late_s: float = 0.0
    """Answers this much later."""
    malformed: bool = False
    """Sends a broken frame now and then."""
    drops: bool = False
    """Loses its link now and then."""
    duplicates: bool = False
    """Uses every message id twice."""
    unlock_fails: bool = False
    soc_offset: float = 0.0
    """Tells its vehicle's charge wrong by this much, 0..1."""
    soc_stuck: float | None = None
    """Tells this charge whatever happens; None: the true one."""
    weld: bool = False
    """Its contactor welds when it is told to open under power."""
    energy_register_scale: float = 1.0
    """Its energy registers count so many times what flows."""
    power_scale: float = 1.0
    """Its meter tells so many times the true power."""
    extra_heat_c: float = 0.0
    """Its heat sink is told so much warmer."""


class Block(Protocol):
    """One functional block: the requests it answers."""

    @property
    def actions(self) -> Actions:
        """Answer by action."""


class Core:
    """Shared by all blocks of one station."""

    def __init__(
        self,
        identity: str,
        version: Version,
        clock: Clock,
        new_id: Callable[[], str],
        luck: random.Random,
        setup: Setup,
    ) -> None:
        self.identity, self.version, self.clock, self.new_id, self.luck = identity, version, clock, new_id, luck
        self.setup, self.faults, self.outbox = setup, Faults(), Outbox()
        self.offline_since: datetime | None = None
        self.linked = False
        """There is a link."""
        self.connected = False
        """The CSMS has accepted the station on it."""
        self.boot_reason = "PowerUp"
        self.hang_up: Callable[[], None] = _nothing
        """Ends the link; the station then dials again."""
        self.journal: list[str] = []
        """Lines of the log, newest last."""
        self._numbers = count(1)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []

    @property
    def serial(self) -> str:
        """The serial number: the common name of its certificate."""
        return self.setup.serial or self.identity[:25]

    def now(self) -> datetime:
        """The station's own idea of the time."""
        return datetime.fromtimestamp(self.clock.wall() + self.faults.skew_s, UTC)

    def speaks(self, action: str) -> bool:
        """Whether the version in use has `action`."""
        return action in TABLES[self.version]

    def make(self, action: str, fields: Fields) -> WireStruct:
        """The typed request; `msgspec.ValidationError` if the fields break the schema."""
        return msgspec.convert(fields, codec.payload_type(self.version, action, "request"))

    def say(self, action: str, fields: Fields, done: Done | None = None, *, asked: bool = False) -> None:
        """Queue a message in order; it survives a lost link. `done` gets the answer, or None if there will be none.

        `asked`: the CSMS asked for it, so it may go before the station is accepted.
        """
        self.outbox.put(action, self.make(action, fields), done, asked=asked)

    def soon(self, act: Callable[[], None]) -> None:
        """Do `act` after the answer to the request being handled."""
        asyncio.get_running_loop().call_soon(act)

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do `act` at the first tick after `delay_s`."""
        heapq.heappush(self._timers, (self.clock.monotonic() + delay_s, next(self._numbers), act))

    def ring(self) -> None:
        """Do what is due."""
        now_s = self.clock.monotonic()
        while self._timers and self._timers[0][0] <= now_s:
            heapq.heappop(self._timers)[2]()

    def note(self, line: str) -> None:
        """Add a line to the log; the newest 200 are kept."""
        self.journal.append(f"{self.now().isoformat()} {line}")
        del self.journal[:-200]

    def number(self) -> int:
        """A number not used before at this station."""
        return next(self._numbers)

    def security_event(self, kind: str, text: str = "") -> None:
        """Tell a security event (A04)."""
        self.note(f"{kind} {text}".rstrip())
        fields: Fields = {"type": kind, "timestamp": self.now()}
        self.say("SecurityEventNotification", fields | ({"techInfo": text[:255]} if text else {}))


def reason(code: str, text: str = "") -> Fields:
    """A statusInfo with a reason code of at most 20 characters."""
    info: Fields = {"reasonCode": code[:20]}
    return {"statusInfo": info | ({"additionalInfo": text[:500]} if text else {})}


def status(value: str, code: str = "") -> Fields:
    """An answer that is a status, with its reason."""
    return {"status": value} | (reason(code) if code else {})


def _nothing() -> None:
    """Nothing to hang up."""
