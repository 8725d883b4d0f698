"""What becomes of vehicles that give power when the program ends, hangs, or a station's connection does."""

import asyncio
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.live.outside_site import Outside

pytestmark = pytest.mark.xdist_group("processes")
Story = Callable[[Outside], Awaitable[None]]


def play(site: Outside, story: Story, **environment: str) -> None:
    async def run() -> None:
        try:
            await site.start(**environment)
            await story(site)
        finally:
            await site.stop()

    asyncio.run(asyncio.wait_for(run(), 100.0))


async def _exit_code(site: Outside, within_s: float) -> int:
    assert site.process is not None
    return await asyncio.wait_for(site.process.wait(), within_s)


def test_sigterm_ramps_down_and_ends_in_time(tmp_path: Path) -> None:
    async def story(site: Outside) -> None:
        await site.until_giving()
        before_kw = site.power_kw
        told_s = site.signal(signal.SIGTERM)
        assert await _exit_code(site, 5.0) == 0
        assert time.monotonic() - told_s <= 5.0
        await asyncio.sleep(0.3)
        flow = site.after(told_s)
        # Down in steps, not at once; never more than before; at zero before the lease would have ended it.
        between = {round(kw, 1) for _, kw in flow if before_kw * 0.9 < kw < -0.5}
        assert len(between) >= 2, flow
        assert min(kw for _, kw in flow) >= before_kw - 0.5
        assert site.ends_after(told_s) < 2.5
        assert flow[-1][1] == 0.0
        assert "Traceback" not in site.log()

    play(Outside(tmp_path), story)


def test_a_second_sigterm_ends_at_once_and_the_connection_ends_the_discharge(tmp_path: Path) -> None:
    async def story(site: Outside) -> None:
        await site.until_giving()
        site.signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        told_s = site.signal(signal.SIGTERM)
        assert await _exit_code(site, 2.0) == 128 + signal.SIGTERM
        assert time.monotonic() - told_s < 0.5
        await asyncio.sleep(1.0)
        assert site.ends_after(told_s) < 1.0

    play(Outside(tmp_path), story)


def test_a_stalled_loop_ends_the_discharge_without_it(tmp_path: Path) -> None:
    async def story(site: Outside) -> None:
        await site.until_giving()
        told_s = site.signal(signal.SIGUSR1)
        await asyncio.sleep(3.0)
        # The thread alone did it: the loop sleeps on, and a lease would have taken up to 5 s.
        assert site.ends_after(told_s) <= 1.5
        assert max(at_s for at_s, kw in site.after(told_s) if kw < -10.0) > 0.5
        await site.until(lambda: "The loop stood still" in _events(site), 10.0, "the event")
        assert "time.sleep" in site.log() or "<lambda>" in site.log()
        # Whoever gave has to report anew, and then gives again.
        await site.until_giving()

    play(Outside(tmp_path, freeze_s=4.0), story)


def test_a_loop_that_stays_away_ends_the_process(tmp_path: Path) -> None:
    async def story(site: Outside) -> None:
        await site.until_giving()
        told_s = site.signal(signal.SIGUSR1)
        assert await _exit_code(site, 6.0) == 70
        assert 2.8 <= time.monotonic() - told_s < 4.5
        assert "process_ends" in site.log()

    play(Outside(tmp_path, freeze_s=30.0, more="[watchdog]\nexit_after_s = 3\n"), story)


def test_a_blackholed_station_that_gives_is_seen_lost_in_time(tmp_path: Path) -> None:
    async def story(site: Outside) -> None:
        await site.until_giving()
        row = int(site.emulated.plant.evse.power_kw.argmin())
        station = site.emulated.stations[row]
        told_s = time.monotonic()
        site.blackhole(row)
        await site.until(lambda: station.identity in _lost(site), 5.0, "the loss")
        assert time.monotonic() - told_s <= 2.2

    play(Outside(tmp_path), story)


def _events(site: Outside) -> str:
    with sqlite3.connect(f"file:{site.home / 'gridtide.db'}?mode=ro", uri=True, timeout=2.0) as store:
        return str(store.execute("SELECT * FROM events").fetchall())


def _lost(site: Outside) -> str:
    with sqlite3.connect(f"file:{site.home / 'gridtide.db'}?mode=ro", uri=True, timeout=2.0) as store:
        return str(store.execute("SELECT * FROM events WHERE code = 'station_timeout'").fetchall())


def test_systemd_is_told_of_start_health_and_end(tmp_path: Path) -> None:
    async def story(site: Outside) -> None:
        await site.until(lambda: b"READY=1" in heard(), 30.0, "READY")
        began_s = time.monotonic()
        await asyncio.sleep(2.0)
        feeds = sum(b"WATCHDOG=1" in message for message in heard())
        assert feeds >= 0.7 * (time.monotonic() - began_s) / 0.3
        site.signal(signal.SIGTERM)
        assert await _exit_code(site, 5.0) == 0
        assert b"STOPPING=1" in heard()

    told: list[bytes] = []

    def heard() -> list[bytes]:
        while True:
            try:
                told.append(listener.recv(4096))
            except BlockingIOError:
                return told

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = os.path.relpath(tmp_path / "n")
        listener.bind(path if len(path) < 100 else str(tmp_path / "n"))
        listener.setblocking(False)
        play(Outside(tmp_path), story, NOTIFY_SOCKET=str(tmp_path / "n"), WATCHDOG_USEC="900000")
