"""What every block of messages works with: the site's evidence, memory, clock, registry, and whom to tell."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.conversation import Answer
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.registry import Registry
from gridtide.run.csms.station import DriverDefault, OnEvent, Station
from gridtide.run.store import Store
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

Act: TypeAlias = Callable[[Station, Any, CallReceived], Answer]
"""Takes a station's message (typed payload, and the call it came with) and answers it."""


class Block(Protocol):
    """One functional block: how its messages are answered."""

    @property
    def actions(self) -> Mapping[str, Act]:
        """What answers which message."""


class Desk(Struct, frozen=True, eq=False, kw_only=True):
    """Shared by all blocks."""

    table: EvseTable
    board: EvidenceBoard
    store: Store
    clock: Clock
    registry: Registry
    lease_s: float
    on_event: OnEvent
    judge: Callable[[Station, int], None]
    """Decides anew whether a row may discharge; call it after everything that may change that."""
    driver_default: Callable[[str, float], DriverDefault | None]

    def now(self) -> datetime:
        """Wall time, for what goes on the wire and into records."""
        return datetime.fromtimestamp(self.clock.wall(), UTC)

    def monotonic_of(self, wall_s: float) -> float:
        """The monotonic instant of a wall-clock one."""
        return wall_s - self.clock.wall() + self.clock.monotonic()


def reply(station: Station, action: str, **fields: Any) -> WireStruct:
    """The answer to `action` in the station's version; `fields` as plain JSON values."""
    return msgspec.convert(fields, codec.payload_type(station.version, action, "response"))
