"""A loop with virtual time: hours of sleeping pass in milliseconds, and one seed is one history.

Nothing ready: time jumps to the next timer. With a seed the order of whatever is ready at the same instant is shuffled,
so that another seed is another legal schedule. Threads, executors and sockets would bring the machine's own order
into the history and are refused. What remains for the caller: no order taken from `set`s of strings or of plain
objects (hash randomisation); tasks may stand in sets, their hash is the order of their creation.

Shuffling and jumping need three private attributes of CPython's loop (`_ready`, `_scheduled`, `_clock_resolution`);
`SimLoop` checks them when it is made, and tests/unit/test_simloop.py on every version we run on.
"""

import asyncio
import hashlib
import heapq
import itertools
import math
import random
import selectors
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import Any, NoReturn, TypeVar, TypeVarTuple, overload

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SimulationError(RuntimeError):
    """The simulated program did something that has no place in virtual time, or can never go on."""


class Trace:
    """Fingerprint of one history: same seed and same code give the same digest."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._count = 0

    @property
    def count(self) -> int:
        """How many events were recorded."""
        return self._count

    def record(self, t_s: float, actor: str, event: str, payload: bytes = b"") -> None:
        """Add one event at virtual time `t_s`; `ValueError` if the time is not finite.

        Every part is packed with its length, the time as its eight bytes: no two histories read alike.
        """
        if not math.isfinite(t_s):
            raise ValueError(f"t_s is {t_s}: an event needs a finite virtual time")
        self._digest.update(struct.pack(">d", t_s + 0.0))
        for part in (actor.encode(), event.encode(), payload):
            self._digest.update(struct.pack(">Q", len(part)))
            self._digest.update(part)
        self._count += 1

    def hexdigest(self) -> str:
        """SHA-256 over all events so far, in hexadecimal."""
        return self._digest.hexdigest()


class _Timer(asyncio.TimerHandle):
    """A timer that knows its place among timers of the same instant."""

    __slots__ = ("_order",)
    _scheduled: bool

    def __init__(
        self,
        when_s: float,
        place: tuple[float, int],
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        super().__init__(when_s, callback, args, loop, context)
        self._order = (when_s, *place)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, _Timer):
            return NotImplemented
        return self._order < other._order


class _Task(asyncio.Task[T]):
    """A task hashed by its order of creation, so that sets of tasks (asyncio keeps some) have one order."""

    def __init__(self, order: int, coro: Coroutine[Any, Any, T], **options: Any) -> None:
        self.order = order
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.order


class _VirtualSelector(selectors.SelectSelector):
    """Never waits and never looks at a socket: being asked to wait is the cue to move time on."""

    def __init__(self) -> None:
        super().__init__()
        self.on_wait: Callable[[float | None], None] | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Accept the loop's own wake-up pipe only."""
        if self.on_wait is not None:
            raise SimulationError("a real socket or pipe in virtual time: use an in-memory link")
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Move virtual time on; there is never I/O."""
        if self.on_wait is not None:
            self.on_wait(timeout)
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """Event loop on virtual time, from 0.0 s; deterministic, with a seed in a shuffled order."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _clock_resolution: float

    def __init__(self, seed: int | None = None) -> None:
        """`seed`: shuffles what is ready at the same instant; None keeps first come, first served.

        Raises `SimulationError` on a Python whose loop is built differently.
        """
        self._now_s = 0.0
        self._shuffler = None if seed is None else random.Random(seed)
        self._orders = itertools.count()
        self._task_orders = itertools.count()
        self._thread_id = threading.get_ident()
        selector = _VirtualSelector()
        super().__init__(selector)
        problem = private_api_problem(self)
        if problem:
            self.close()
            raise SimulationError(f"virtual time does not fit Python {sys.version.split()[0]}: {problem}")
        selector.on_wait = self._move_on
        self._set_now(0.0)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back at virtual time `when`; equal instants in the order of asking, or shuffled by the seed."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        if not math.isfinite(when):
            raise ValueError(f"when is {when}: a timer needs a finite instant")
        luck = 0.0 if self._shuffler is None else self._shuffler.random()
        timer = _Timer(when, (luck, next(self._orders)), callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Start a task; its name and hash follow from the order of creation in this loop."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        order = next(self._task_orders)
        if options.get("name") is None:
            options["name"] = f"sim-{order}"
        return _Task(order, coro, loop=self, **options)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> NoReturn:
        """Refused: a thread would bring the machine's own order into the history."""
        raise SimulationError(f"executor {executor!r} asked for {func!r}{args!r} in virtual time: do it on the loop")

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """`call_soon` for the loop's own thread; refused for any other."""
        if threading.get_ident() != self._thread_id:
            raise SimulationError("a call from another thread in virtual time: do the work on the loop")
        return self.call_soon(callback, *args, context=context)

    def _move_on(self, timeout_s: float | None) -> None:
        """Between two rounds: jump to the next timer if nothing is ready, then shuffle what is."""
        if timeout_s is None:
            raise SimulationError(f"nothing is left to happen at {self._now_s} s, yet somebody is still waiting")
        if timeout_s > 0.0:
            self._set_now(self._scheduled[0].when())
        if self._shuffler is not None and len(self._ready) > 1:
            order = list(self._ready)
            self._shuffler.shuffle(order)
            self._ready.clear()
            self._ready.extend(order)

    def _set_now(self, now_s: float) -> None:
        self._now_s = now_s
        # The loop takes timers before now + resolution: one unit in the last place means exactly "now or earlier",
        # and stays above zero however far the day has gone.
        self._clock_resolution = math.ulp(now_s)


def private_api_problem(loop: asyncio.AbstractEventLoop) -> str | None:
    """What of the private attributes used here is missing or different in `loop`, or None if all is as expected."""
    expected: Mapping[str, type] = {"_ready": deque, "_scheduled": list, "_clock_resolution": float}
    for name, kind in expected.items():
        if not isinstance(getattr(loop, name, None), kind):
            return f"the loop has no {kind.__name__} {name}"
    if not hasattr(asyncio.TimerHandle, "_scheduled"):
        return "TimerHandle has no _scheduled"
    return None


@overload
def run_sim(coro: Coroutine[Any, Any, T], seed: int | None = None, until_s: None = None) -> T: ...
@overload
def run_sim(coro: Coroutine[Any, Any, T], seed: int | None = None, *, until_s: float) -> T | None: ...
def run_sim(coro: Coroutine[Any, Any, T], seed: int | None = None, until_s: float | None = None) -> T | None:
    """Run `coro` on a fresh `SimLoop` and return its result; everything it left behind is cancelled.

    `until_s`: virtual instant at which the run ends anyway, with None as the result; what is due at that very instant
    still gets its turn. Raises what `coro` raises, and `SimulationError` when everybody waits for nothing.
    """
    loop = SimLoop(seed)
    task = loop.create_task(coro)
    task.add_done_callback(lambda _: loop.stop())
    try:
        if until_s is not None:
            loop.call_at(until_s, loop.stop)
        loop.run_forever()
        result: T | None = task.result() if task.done() else None
        return result
    finally:
        try:
            _cancel_rest(loop)
        finally:
            loop.close()


def _cancel_rest(loop: SimLoop) -> None:
    """Cancel the tasks left, oldest first, and let them clean up."""
    rest = sorted((task for task in asyncio.all_tasks(loop) if isinstance(task, _Task)), key=lambda task: task.order)
    for task in rest:
        task.cancel()
    if rest:
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
