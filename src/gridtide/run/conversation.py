"""One OCPP conversation: a sans-IO session, a link and a clock. Serves the CSMS and the emulated station alike."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

import structlog

from gridtide.run.clock import Clock
from gridtide.run.net import Link, LinkClosed
from gridtide.wire.ocpp.errors import LocalProtocolError, RemoteProtocolError
from gridtide.wire.ocpp.events import CallAnswered, CallFailed, CallReceived, CloseWanted, Event, ProtocolViolation
from gridtide.wire.ocpp.session import Session
from gridtide.wire.ocpp.structs import WireStruct

Answer = WireStruct | Awaitable[WireStruct]
OnCall = Callable[[CallReceived], Answer]
Done = Callable[[CallAnswered | CallFailed], None]
log = structlog.get_logger(__name__)


class Conversation:
    """Reads, answers and calls until the link closes. Handlers that wait (for the store) never block the reader."""

    def __init__(self, session: Session, link: Link, clock: Clock, on_call: OnCall) -> None:
        self.session = session
        self._link, self._clock, self._on_call = link, clock, on_call
        self._waiting: dict[str, Done] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self.violations = 0

    async def run(self) -> LinkClosed:
        """Serve until the link closes; returns how it ended. Every open call has then failed."""
        writer = asyncio.ensure_future(self._write())
        try:
            while True:
                data = await self._link.receive()
                self._digest(self.session.receive(data, self._clock.monotonic()))
        except LinkClosed as ended:
            return ended
        finally:
            writer.cancel()
            self._digest(self.session.close())
            for task in tuple(self._tasks):
                task.cancel()

    def post(self, action: str, payload: WireStruct, done: Done, **how: object) -> None:
        """Queue a call; `done` gets the answer or the failure. `how` goes to `Session.call` (timeout, priority, replace_key)."""
        call_id = self.session.call(action, payload, self._clock.monotonic(), **how)  # type: ignore[arg-type]
        self._waiting[call_id] = done
        self._wake.set()

    async def call(self, action: str, payload: WireStruct, **how: object) -> CallAnswered | CallFailed:
        """Call and wait for the outcome."""
        future: asyncio.Future[CallAnswered | CallFailed] = asyncio.get_running_loop().create_future()

        def done(outcome: CallAnswered | CallFailed) -> None:
            if not future.done():
                future.set_result(outcome)

        self.post(action, payload, done, **how)
        return await future

    def tick(self) -> None:
        """Let the session notice what timed out; call it a few times a second."""
        self._digest(self.session.tick(self._clock.monotonic()))

    async def hang_up(self, code: int, reason: str) -> None:
        """Close the link."""
        await self._link.close(code, reason)

    def _digest(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case CallReceived():
                    self._answer(event)
                case CallAnswered() | CallFailed():
                    done = self._waiting.pop(event.id, None)
                    if done is not None:
                        done(event)
                case ProtocolViolation():
                    self.violations += 1
                    log.debug("ocpp_violation", code=event.code, text=event.description)
                case CloseWanted():
                    self._spawn(self.hang_up(event.close_code, event.reason))
                case _:
                    log.debug("ocpp_event", kind=type(event).__name__)
        self._wake.set()

    def _answer(self, call: CallReceived) -> None:
        try:
            answer = self._on_call(call)
            if inspect.isawaitable(answer):
                self._spawn(self._answer_later(call, answer))
            else:
                self.session.answer(call.id, answer, self._clock.monotonic())
        except RemoteProtocolError as refusal:
            self.session.refuse(call.id, refusal.code, refusal.description)
        except Exception as error:
            self._fail(call, error)

    async def _answer_later(self, call: CallReceived, answer: Awaitable[WireStruct]) -> None:
        try:
            self.session.answer(call.id, await answer, self._clock.monotonic())
        except RemoteProtocolError as refusal:
            self.session.refuse(call.id, refusal.code, refusal.description)
        except Exception as error:
            self._fail(call, error)
        self._wake.set()

    def _fail(self, call: CallReceived, error: Exception) -> None:
        """Our own failure: the station is told so in fixed words and repeats; the log has the trace."""
        log.exception("ocpp_handler_failed", action=call.action)
        if not isinstance(error, LocalProtocolError):  # then the session has answered already, or has ended
            self.session.refuse(call.id, "InternalError", "internal error")

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for data in self.session.bytes_to_send():
                    await self._link.send(data)
        except LinkClosed as ended:
            log.debug("ocpp_link_ended", code=ended.code)
