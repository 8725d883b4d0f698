"""What every block of messages works with: the site's evidence, memory, clock, registry, and whom to tell."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias

import msgspec
import structlog
from msgspec import Struct

from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.conversation import Answer, Conversation, Done
from gridtide.run.csms.erasure import ErasedTokens
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.registry import Registry
from gridtide.run.csms.station import DriverDefault, OnEvent, Station
from gridtide.run.steady_clock import latest_s
from gridtide.run.store import Store
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

log = structlog.get_logger(__name__)
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
    erased: ErasedTokens
    lease_s: float
    on_event: OnEvent
    judge: Callable[[Station, int], None]
    """Decides anew whether a row may discharge; call it after everything that may change that."""
    driver_default: Callable[[str, float], DriverDefault | None]

    def now(self) -> datetime:
        """Wall time, for what goes on the wire and into records."""
        return datetime.fromtimestamp(self.clock.wall(), UTC)

    def monotonic_of(self, wall_s: float) -> float:
        """The monotonic instant of a wall-clock one, or an earlier one where the time is in doubt."""
        return wall_s - latest_s(self.clock) + self.clock.monotonic()


def reply(station: Station, action: str, **fields: Any) -> WireStruct:
    """The answer to `action` in the station's version; `fields` as plain JSON values."""
    return msgspec.convert(fields, codec.payload_type(station.version, action, "response"))


def post_if_room(live: Conversation, action: str, payload: WireStruct, done: Done) -> None:
    """Ask the station something that may also stay unasked: a full queue must not part a record from its effect."""
    try:
        live.post(action, payload, done)
    except LocalProtocolError as error:
        log.warning("ocpp_not_asked", action=action, error=str(error))
