"""What systemd hears, over a socket of its kind; and that nobody needs one."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridtide.run.systemd import Notifier, Supervision

PID = 4711


@pytest.fixture
def ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0gridtide-test-{os.getpid()}")
        listener.settimeout(2.0)
        yield listener


def supervision(**environment: str) -> Supervision:
    return Supervision.of(environment, PID)


def test_ready_alive_and_stopping_are_told(ear: socket.socket) -> None:
    notifier = Notifier(supervision(NOTIFY_SOCKET=f"@gridtide-test-{os.getpid()}", WATCHDOG_USEC="30000000"))
    notifier.ready()
    notifier.alive("ok;  2 stations\nMAINPID=1")
    notifier.stopping()
    # A status is one line: nothing in it can be an assignment of its own.
    assert [ear.recv(4096) for _ in range(3)] == [
        b"READY=1", b"WATCHDOG=1\nSTATUS=ok; 2 stations MAINPID=1", b"STOPPING=1",
    ]  # fmt: skip


def test_without_a_watchdog_none_is_fed(ear: socket.socket) -> None:
    notifier = Notifier(supervision(NOTIFY_SOCKET=f"@gridtide-test-{os.getpid()}"))
    notifier.alive("ok")
    assert ear.recv(4096) == b"STATUS=ok"
    assert notifier.supervision.feed_s is None


@pytest.mark.parametrize(
    ("environment", "feed_s"),
    [
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000"}, 10.0),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}, 10.0),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "0"}, None),
        ({"NOTIFY_SOCKET": "n", "WATCHDOG_USEC": "30000000"}, None),
        ({"WATCHDOG_USEC": "30000000"}, None),
        ({}, None),
    ],
)
def test_what_the_environment_asks(environment: dict[str, str], feed_s: float | None) -> None:
    assert supervision(**environment).feed_s == feed_s


def test_a_supervisor_that_is_gone_or_full_delays_and_ends_nothing(tmp_path: Path, ear: socket.socket) -> None:
    Notifier(supervision()).ready()
    gone = Notifier(supervision(NOTIFY_SOCKET=str(tmp_path / "gone")))
    for _ in range(3):
        gone.alive("ok")
    full = Notifier(supervision(NOTIFY_SOCKET=f"@gridtide-test-{os.getpid()}"))
    for _ in range(5_000):
        full.alive("ok")
    assert ear.recv(4096) == b"STATUS=ok"
