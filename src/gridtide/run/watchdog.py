"""An independent thread that sees the event loop stand still, and acts without it.

What it can do alone: close the sockets of the stations that give power (the operating system sends the end of the connection: no
byte of ours, no TLS and no lock of the loop is needed), say where the loop stands, and end the process. A station that loses its
connection goes to its default profile: at once where the profile of its discharge says so (OCPP 2.1), else when its lease ends. The
thread needs the interpreter's lock: code that keeps it, and a process stopped as a whole, leave the lease and the supervisor.
"""

import os
import socket
import sys
import threading
import time
import traceback
from asyncio import BaseTransport
from collections.abc import Callable

import structlog
from msgspec import Struct

STALL_S = 1.0
"""Without a beat for this long the loop stands still."""
LOOK_S = 0.1
LATE_S = 0.25
"""A look that comes this much too late saw the whole machine stand still: the loop has one more look's time to beat."""
STACK_FRAMES = 6
LAST_WORDS_S = 0.2
STALLED_EXIT, STOP_EXIT = 70, 75
"""Exit codes: the loop stood still for too long; the end did not come in time."""
log = structlog.get_logger(__name__)


class Lifeline(Struct, frozen=True):
    """The socket under a link: its descriptor, and the peer by which it is known again."""

    fileno: int
    peer: object

    @classmethod
    def of(cls, transport: BaseTransport) -> "Lifeline | None":
        """The one of an open transport, or None."""
        own = transport.get_extra_info("socket")
        if transport.is_closing() or own is None or own.fileno() < 0:
            return None
        try:
            with socket.socket(fileno=os.dup(own.fileno())) as copy:
                return cls(own.fileno(), copy.getpeername())
        except OSError:
            return None  # the peer has gone already

    def cut(self) -> bool:
        """End the connection in both directions, from any thread; False if it is not there any more."""
        try:
            with socket.socket(fileno=os.dup(self.fileno)) as copy:
                if copy.getpeername() != self.peer:
                    return False
                copy.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
        return True


class Watchdog:
    """Watches one loop. `beat`, `took` and `lines` are the loop's; everything else happens on a thread of its own."""

    def __init__(
        self,
        *,
        stall_s: float = STALL_S,
        exit_after_s: float | None = None,
        leave: Callable[[int], None] = os._exit,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`exit_after_s`: real seconds of a stall after which the process ends; None never."""
        self._stall_s, self._exit_after_s, self._leave, self._now = stall_s, exit_after_s, leave, now
        self.lines: tuple[Lifeline, ...] = ()
        """Of the stations that give power; replaced as a whole."""
        self._beat_s = now()
        self._late: float | None = None
        """The loop's own word on a stall that no decision has answered yet, s."""
        self._stack = ""
        self._home = threading.get_ident()
        self._ends = threading.Event()
        self._is_over = False
        self._stop_by_s: float | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the calling thread's loop from now on."""
        self._home, self._beat_s = threading.get_ident(), self._now()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch the loop no more; the end that `end_by` asked for is still seen to."""
        self._is_over = True
        if self._thread is not None and self._stop_by_s is None:
            self._ends.set()
            self._thread.join(timeout=1.0)

    def end_by(self, duration_s: float) -> None:
        """The process ends within `duration_s` from now, by itself or by us; only the first call counts."""
        if self._stop_by_s is None:
            self._stop_by_s = self._now() + duration_s

    # --- the loop's side --------------------------------------------------------------------------------------------
    def beat(self) -> None:
        """The loop runs; a stall that has just ended is kept until `took`."""
        now_s = self._now()
        gap_s, self._beat_s = now_s - self._beat_s, now_s
        if gap_s >= self._stall_s:
            self._late = max(gap_s, self._late or 0.0)

    def took(self) -> str | None:
        """Words on a stall that ended since the last call, once; None if there was none. Counts as a beat."""
        self.beat()
        late_s, stack = self._late, self._stack
        if late_s is None:
            return None
        self._late, self._stack = None, ""
        return f"The loop stood still for {late_s:.1f} s." + (f" It was in {stack}" if stack else "")

    # --- the thread's side ------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        has_acted, wakes_s = False, self._now() + LOOK_S
        while not self._ends.wait(LOOK_S):
            now_s = self._now()
            is_late, wakes_s = now_s - wakes_s > LATE_S, now_s + LOOK_S
            if self._stop_by_s is not None and now_s >= self._stop_by_s:
                self._leave_now(STOP_EXIT, "the end did not come in time")
                return
            gap_s = 0.0 if self._is_over else now_s - self._beat_s
            if gap_s < self._stall_s:
                has_acted = False
            elif not has_acted and not is_late:
                has_acted = True
                self._act(gap_s)
            if self._exit_after_s is not None and gap_s >= self._exit_after_s and not is_late:
                self._leave_now(STALLED_EXIT, f"the loop stood still for {gap_s:.1f} s")
                return

    def _act(self, gap_s: float) -> None:
        cut = [line.cut() for line in self.lines]
        self._stack = _stack_of(self._home)
        log.error("loop_stalled", for_s=round(gap_s, 1), links_cut=sum(cut), where=self._stack)

    def _leave_now(self, code: int, why: str) -> None:
        log.critical("process_ends", why=why, where=_stack_of(self._home))
        # The log is written by a thread of its own, which may hang on a full disk: it gets this time, not more.
        time.sleep(LAST_WORDS_S)
        self._leave(code)


def _stack_of(thread: int) -> str:
    """Where a thread is now, innermost last, in one line; empty if it has ended."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    return " > ".join(
        f"{os.path.basename(item.filename)}:{item.lineno} {item.name}"
        for item in traceback.extract_stack(frame)[-STACK_FRAMES:]
    )
