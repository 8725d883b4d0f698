"""The watchdog's thread: what it does without the loop, when it does it, and when it keeps still."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gridtide.run import watchdog
from gridtide.run.watchdog import Lifeline, Watchdog


class Transport(asyncio.BaseTransport):
    """As much of a transport as a lifeline asks for."""

    def __init__(self, own: socket.socket | None) -> None:
        super().__init__({"socket": own})

    def is_closing(self) -> bool:
        return False


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: ours and the station's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        station = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours, station:
        station.settimeout(5.0)
        yield ours, station


def line_of(own: socket.socket) -> Lifeline:
    line = Lifeline.of(Transport(own))
    assert line is not None
    return line


def wait_for(what: Any, within_s: float = 5.0) -> None:
    ends_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def test_a_stall_ends_the_lines_of_those_who_give_and_no_other() -> None:
    with connected() as (ours, station), connected() as (other, resting):
        dog = Watchdog(stall_s=0.3)
        dog.lines = (line_of(ours),)
        dog.start()
        try:
            begun_s = time.monotonic()
            # This thread is the loop; it beats no more, and waits for what its station hears.
            assert station.recv(1) == b""
            assert 0.25 < time.monotonic() - begun_s < 1.0
            resting.settimeout(0.2)
            with pytest.raises(TimeoutError):
                resting.recv(1)
            assert other.fileno() > 0
            words = dog.took()
            assert words is not None
            assert "test_watchdog.py" in words
            assert dog.took() is None
        finally:
            dog.stop()


def test_a_loop_that_beats_keeps_its_lines() -> None:
    with connected() as (ours, station):
        dog = Watchdog(stall_s=0.4)
        dog.lines = (line_of(ours),)
        dog.start()
        try:
            for _ in range(12):
                time.sleep(0.1)
                dog.beat()
            station.settimeout(0.05)
            with pytest.raises(TimeoutError):
                station.recv(1)
            assert dog.took() is None
        finally:
            dog.stop()


def test_a_descriptor_that_is_another_connection_by_now_is_left_alone() -> None:
    with connected() as (ours, _), connected() as (another, station):
        stale = Lifeline(another.fileno(), ours.getpeername())
        assert not stale.cut()
        station.settimeout(0.1)
        with pytest.raises(TimeoutError):
            station.recv(1)
        assert line_of(another).cut()
        assert station.recv(1) == b""
    assert not stale.cut()


def test_what_is_no_connection_has_no_line() -> None:
    with socket.socket() as alone:
        assert Lifeline.of(Transport(alone)) is None
    assert Lifeline.of(Transport(alone)) is None
    assert Lifeline.of(Transport(None)) is None


class Hand:
    """Time and exit in a test's hand; the thread's own looks still come in real time."""

    def __init__(self, **how: Any) -> None:
        self.now_s, self.left, self.jump_s = 100.0, list[int](), 0.0
        self.dog = Watchdog(leave=self.left.append, now=self.now, **how)
        self.dog.start()

    def now(self) -> float:
        """The thread's first look after a jump sees it; before the second one the loop has beaten."""
        if self.jump_s and threading.current_thread().name == "watchdog":
            self.now_s, self.jump_s = self.now_s + self.jump_s, 0.0
            threading.Timer(watchdog.LOOK_S / 3.0, self.dog.beat).start()
        return self.now_s

    def passes(self, seconds: float, step_s: float = 0.1, beats: bool = False) -> None:
        """Time that the thread sees pass evenly."""
        for _ in range(round(seconds / step_s)):
            self.now_s += step_s
            if beats:
                self.dog.beat()
            time.sleep(watchdog.LOOK_S)


def test_a_stall_that_lasts_ends_the_process() -> None:
    hand = Hand(exit_after_s=1.5)
    hand.passes(1.3)
    assert hand.left == []
    hand.passes(0.8)
    assert hand.left == [watchdog.STALLED_EXIT]
    hand.dog.stop()


def test_a_machine_that_slept_gives_its_loop_a_chance(capsys: pytest.CaptureFixture[str]) -> None:
    """The thread stood still as well: the loop beats before anything is cut or ended."""
    with connected() as (ours, station):
        hand = Hand(exit_after_s=10.0)
        hand.dog.lines = (line_of(ours),)
        hand.passes(0.3, beats=True)
        hand.jump_s = 3600.0
        wait_for(lambda: not hand.jump_s)
        hand.passes(0.3)
        assert hand.left == []
        station.settimeout(0.05)
        with pytest.raises(TimeoutError):
            station.recv(1)
        # The loop itself tells of it: the next decision begins with zero.
        words = hand.dog.took()
        assert words is not None
        assert "3600" in words
        hand.dog.stop()
    assert "loop_stalled" not in capsys.readouterr().out


def test_an_end_that_does_not_come_is_brought_about() -> None:
    hand = Hand()
    hand.dog.end_by(0.5)
    hand.dog.end_by(60.0)
    # The loop is over; the thread still sees to the end.
    hand.dog.stop()
    hand.passes(1.0)
    assert hand.left == [watchdog.STOP_EXIT]


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    dog = Watchdog()
    dog.start()
    assert threading.active_count() == before + 1
    dog.stop()
    assert threading.active_count() == before


def test_the_place_of_an_ended_thread_is_empty() -> None:
    assert watchdog._stack_of(0) == ""
