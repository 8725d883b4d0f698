"""What a message does is done to its end and in the order of arrival, whatever becomes of the connection it came on.

A station's message is answered when its effect is committed. A connection that ends meanwhile takes the answer with it and
nothing else: the record and its effect are never parted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import structlog

from gridtide.run.conversation import Answer
from gridtide.run.csms.desk import Act, Desk
from gridtide.run.csms.station import Station
from gridtide.run.store import StoreError, StoreRangeError
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

T = TypeVar("T")
Work: TypeAlias = Callable[[Station, Any, CallReceived], Awaitable[WireStruct]]
WAITING = 64
"""Messages of one station whose effect is not done yet; more are refused."""
RESERVE = 64
"""So many more of those that must not be lost under load."""
log = structlog.get_logger(__name__)


class Effects:
    """Runs the work of messages, one at a time for each station."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._last: dict[str, asyncio.Task[Any]] = {}
        self._waiting: dict[str, int] = {}

    def act(self, work: Work, *, is_vital: bool = False) -> Act:
        """An act that answers when `work` is done; `is_vital` has a reserve of its own."""

        def begin(station: Station, message: Any, call: CallReceived) -> Answer:
            return asyncio.shield(self._begin(station, lambda: work(station, message, call), is_vital))

        return begin

    def spawn(self, station: Station, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` in its turn; nobody waits for it. A failure is told and logged."""
        try:
            self._begin(station, work, is_vital=True).add_done_callback(_log_failure)
        except RemoteProtocolError as refusal:
            log.warning("effect_not_begun", station=station.provision.identity, error=str(refusal))

    async def idle(self) -> None:
        """Wait until everything begun so far is done."""
        while self._last:
            await asyncio.wait(list(self._last.values()))
            await asyncio.sleep(0)

    def _begin(self, station: Station, work: Callable[[], Awaitable[T]], is_vital: bool) -> asyncio.Task[T]:
        name = station.provision.identity
        waiting = self._waiting.get(name, 0)
        if waiting >= WAITING + (RESERVE if is_vital else 0):
            raise RemoteProtocolError("GenericError", "too many messages wait to be stored")
        task = asyncio.ensure_future(self._in_turn(name, self._last.get(name), work))
        self._waiting[name] = waiting + 1
        self._last[name] = task
        task.add_done_callback(lambda done: self._done(name, done))
        return task

    def _done(self, name: str, task: asyncio.Task[Any]) -> None:
        self._waiting[name] -= 1
        if self._last.get(name) is task:
            del self._last[name]
            del self._waiting[name]

    async def _in_turn(self, name: str, before: asyncio.Task[Any] | None, work: Callable[[], Awaitable[T]]) -> T:
        if before is not None:
            await asyncio.wait([before])
        try:
            return await work()
        except StoreRangeError:
            raise RemoteProtocolError("PropertyConstraintViolation", "a field of the message cannot be kept") from None
        except StoreError:
            self._desk.on_event("store_failed", name, "What the station told could not be stored.")
            raise


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.warning("effect_failed", error=str(task.exception()))
