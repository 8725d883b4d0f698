"""One OCPP conversation: a sans-IO session, a link and a clock. Serves the CSMS and the emulated station alike."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable

import structlog

from gridtide.run.clock import Clock
from gridtide.run.net import Link, LinkClosed
from gridtide.wire.ocpp.errors import LocalProtocolError, RemoteProtocolError
from gridtide.wire.ocpp.events import (
    CallAnswered,
    CallFailed,
    CallReceived,
    CloseWanted,
    Event,
    ProtocolViolation,
    SendReceived,
)
from gridtide.wire.ocpp.outgoing import Priority
from gridtide.wire.ocpp.session import Session
from gridtide.wire.ocpp.structs import WireStruct

BACKLOG_BYTES = 256 * 1024
"""What may wait for a peer that reads slowly, beside the link's own buffer; beyond it the link is cut."""
BACKLOG_S = 10.0
"""How long a peer may read nothing while something waits for it."""
log = structlog.get_logger(__name__)


class Later:
    """An answer that comes when something else is done, without a task of its own; `give` it once."""

    __slots__ = ("_outcome", "_then")

    def __init__(self) -> None:
        self._outcome: WireStruct | Exception | None = None
        self._then: Callable[[WireStruct | Exception], None] | None = None

    def give(self, outcome: WireStruct | Exception) -> None:
        """The answer, or why there is none: a RemoteProtocolError is the peer's fault, anything else ours."""
        self._outcome = outcome
        if self._then is not None:
            self._then(outcome)

    def then(self, act: Callable[[WireStruct | Exception], None]) -> None:
        """Call `act` with the outcome, now if it is there."""
        self._then = act
        if self._outcome is not None:
            act(self._outcome)


Answer = WireStruct | Later | Awaitable[WireStruct]
OnCall = Callable[[CallReceived], Answer]
Done = Callable[[CallAnswered | CallFailed], None]


class Conversation:
    """Reads, answers and calls until the link closes. Handlers that wait (for the store) never block the reader.

    What there is to say is written at once; only what a slow peer leaves no room for waits, for a task of its own.
    """

    def __init__(
        self,
        session: Session,
        link: Link,
        clock: Clock,
        on_call: OnCall,
        on_send: Callable[[SendReceived], None] = lambda _message: None,
    ) -> None:
        """`on_call` answers the peer's calls; `on_send` takes what nobody answers (type 6)."""
        self.session = session
        self._link, self._clock, self._on_call, self._on_send = link, clock, on_call, on_send
        self._waiting: dict[str, Done] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._moved_s = 0.0
        """When the backlog last became shorter, or began."""
        self._ended = False
        self.violations = 0

    async def run(self) -> LinkClosed:
        """Serve until the link closes; returns how it ended. Every open call has then failed."""
        try:
            return await self._link.listen(self._hear)
        finally:
            self._ended = True
            self._digest(self.session.close())
            for task in tuple(self._tasks):
                task.cancel()

    def post(self, action: str, payload: WireStruct, done: Done, **how: object) -> None:
        """Queue a call; `done` gets the answer or the failure. `how` goes to `Session.call` (timeout, priority, replace_key)."""
        call_id = self.session.call(action, payload, self._clock.monotonic(), **how)  # type: ignore[arg-type]
        self._waiting[call_id] = done
        self._write()

    def withdraw(self, is_meant: Callable[[Hashable], bool], priority: Priority) -> None:
        """Give up unsent calls whose `replace_key` is meant, but for those more urgent than `priority`."""
        self._digest(self.session.withdraw(is_meant, priority))

    async def call(self, action: str, payload: WireStruct, **how: object) -> CallAnswered | CallFailed:
        """Call and wait for the outcome."""
        future: asyncio.Future[CallAnswered | CallFailed] = asyncio.get_running_loop().create_future()

        def done(outcome: CallAnswered | CallFailed) -> None:
            if not future.done():
                future.set_result(outcome)

        self.post(action, payload, done, **how)
        return await future

    @property
    def is_idle(self) -> bool:
        """No call of ours is under way and nothing waits to be sent: `tick` would do nothing."""
        return not self._backlog and self.session.is_idle

    @property
    def link(self) -> Link:
        """What it is held over."""
        return self._link

    def tick(self) -> None:
        """Let the session notice what timed out, and cut a peer that reads nothing; call it a few times a second."""
        now_s = self._clock.monotonic()
        if self._backlog and now_s - self._moved_s > BACKLOG_S:
            self._cut()
        self._digest(self.session.tick(now_s))

    def wrap_link(self, wrap: Callable[[Link], Link]) -> Link:
        """Put something in front of the link, as a probe that sees what leaves; returns the link as it was."""
        before, self._link = self._link, wrap(self._link)
        return before

    async def hang_up(self, code: int, reason: str) -> None:
        """Close the link."""
        await self._link.close(code, reason)

    def _hear(self, data: bytes) -> None:
        self._digest(self.session.receive(data, self._clock.monotonic()))

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
                case SendReceived():
                    self._take(event)
                case CloseWanted():
                    self._spawn(self.hang_up(event.close_code, event.reason))
                case _:
                    log.debug("ocpp_event", kind=type(event).__name__)
        self._write()

    def _answer(self, call: CallReceived) -> None:
        try:
            answer = self._on_call(call)
        except Exception as error:
            self._settle(call, error)
            return
        if isinstance(answer, WireStruct):
            self._settle(call, answer)
        elif isinstance(answer, Later):
            answer.then(lambda outcome: self._say(call, outcome))
        else:
            self._spawn(self._answer_when_done(call, answer))

    def _take(self, message: SendReceived) -> None:
        """Take a message that nobody answers: nobody is told of a failure of ours either, but for the log."""
        try:
            self._on_send(message)
        except Exception as error:
            log.error("ocpp_send_failed", action=message.action, exc_info=error)

    async def _answer_when_done(self, call: CallReceived, answer: Awaitable[WireStruct]) -> None:
        outcome: WireStruct | Exception
        try:
            outcome = await answer
        except Exception as error:
            outcome = error
        self._say(call, outcome)

    def _say(self, call: CallReceived, outcome: WireStruct | Exception) -> None:
        """Answer now, unless the connection ended meanwhile: then the station asks again on its next one."""
        if not self._ended:
            self._settle(call, outcome)
            self._write()

    def _settle(self, call: CallReceived, outcome: WireStruct | Exception) -> None:
        """Answer or refuse a call; our own failure is told in fixed words, the station repeats, and the log has the trace."""
        try:
            if isinstance(outcome, WireStruct):
                self.session.answer(call.id, outcome, self._clock.monotonic())
                return
        except LocalProtocolError as error:
            # The session has answered with an error already.
            log.error("ocpp_answer_invalid", action=call.action, exc_info=error)
            return
        if isinstance(outcome, RemoteProtocolError):
            self.session.refuse(call.id, outcome.code, outcome.description)
            return
        log.error("ocpp_handler_failed", action=call.action, exc_info=outcome)
        self.session.refuse(call.id, "InternalError", "internal error")

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _write(self) -> None:
        """Write what the session has to say; what finds no room waits in order."""
        if not self.session.has_to_send or self._ended:
            return
        frames = self.session.bytes_to_send()
        if not self._backlog:
            written = 0
            while written < len(frames) and self._link.put(frames[written]):
                written += 1
            if written == len(frames):
                return
            frames = frames[written:]
            self._moved_s = self._clock.monotonic()
            self._spawn(self._drain())
        self._backlog.extend(frames)
        self._backlog_bytes += sum(map(len, frames))
        if self._backlog_bytes > BACKLOG_BYTES:
            self._cut()

    async def _drain(self) -> None:
        try:
            while self._backlog:
                await self._link.send(self._backlog[0])
                self._backlog_bytes -= len(self._backlog.popleft())
                self._moved_s = self._clock.monotonic()
        except LinkClosed as ended:
            log.debug("ocpp_link_ended", code=ended.code)

    def _cut(self) -> None:
        """A peer that does not read costs no memory and delays nobody: its link ends."""
        log.warning("ocpp_peer_does_not_read", waiting_bytes=self._backlog_bytes)
        self._link.drop()
