"""`gridtide run` in a process of its own, with meter and stations emulated by the test: what really flows is seen from outside."""

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gridtide.run.assembly import SITE_METER, socket_stations
from gridtide.run.clock import WallClock
from gridtide.run.emulator.site import EmulatedSite
from gridtide.run.modbus import ModbusMeterServer
from gridtide.run.websocket import WebSocketLink
from gridtide.twin import evse
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import Arrival
from gridtide.twin.building import LoadSeries, textured
from gridtide.wire.ocpp.actions import Version
from tests.day.wire_site import table

SITE = """
[site]
name = "Outside"
timezone = "Europe/Berlin"
[grid]
transformer_kw = 400
static_building_kw = 300
[peak]
limit_kw = 220
buffer_kw = 20
mode = "threshold"
[drivers]
accept_unknown = true
[[stations]]
id = "bay"
count = 3
current = "dc"
charge_kw = 11
discharge_kw = 11
ocpp = "2.1"
dialect = "v21_setpoint"
[meter]
host = "127.0.0.1"
port = {meter}
register = [
  {{ name = "power_kw", address = 0, kind = "int32", unit = "W" }},
  {{ name = "import_kwh", address = 2, kind = "float64", unit = "kWh" }},
]
[tariff]
file = "builtin:tariff"
[server]
web = "127.0.0.1:{web}"
ocpp = "127.0.0.1:{ocpp}"
"""
FREEZABLE = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep({freeze_s}))
from gridtide.app.cli import main
main()
"""
"""The program itself; a signal makes its main thread, where the loop is, sleep."""
BAYS, PERIOD_S, BUILDING_KW = 3, 0.05, 225.0
VERSIONS: tuple[Version, ...] = ("2.1", "2.1", "2.1")


def free_port() -> int:
    """A port that nobody listens on, below those the system gives to outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


class Outside:
    """One site seen from outside. `powers` is ground truth: (real monotonic instant, kW of all power stages)."""

    def __init__(self, home: Path, *, freeze_s: float = 0.0, more: str = "") -> None:
        self.home, self.freeze_s = home, freeze_s
        self.meter, self.ocpp, self.web = free_port(), free_port(), free_port()
        (home / "site.toml").write_text(SITE.format(meter=self.meter, ocpp=self.ocpp, web=self.web) + more)
        self.process: asyncio.subprocess.Process | None = None
        self.powers: list[tuple[float, float]] = []
        self._tasks: list[asyncio.Future[None]] = []
        self._closers: list[Callable[[], object]] = []

    async def start(self, **environment: str) -> None:
        """The program first, as it issues the passwords; then the emulated site around it."""
        log = (self.home / "run.log").open("ab")
        self._closers.append(log.close)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FREEZABLE.format(freeze_s=self.freeze_s), "run", str(self.home / "site.toml"),
            "--home", str(self.home), "--exit-after", "120", stdout=log, stderr=log, env={**os.environ, **environment},
        )  # fmt: skip
        file = self.home / "station-passwords.txt"
        await self.until(lambda: file.exists() and len(file.read_text().splitlines()) == BAYS, 30.0, "passwords")
        await self._emulate(dict(line.split() for line in file.read_text().splitlines()))

    async def _emulate(self, passwords: dict[str, str]) -> None:
        clock, now_s = WallClock(), time.time()
        building = textured(LoadSeries(now_s - 900.0, 900.0, np.full(8, BUILDING_KW)), 1)
        stays = [
            Arrival(f"car-{row}", row, now_s - 60.0, now_s + 9e3, now_s + 9e3, 60.0, 0.75, 0.5, 0.0, True)
            for row in range(BAYS)
        ]
        here = twin.world(table(BAYS), [evse.MODELS["fast"]] * BAYS, building, stays)
        url = f"ws://127.0.0.1:{self.ocpp}/ocpp"
        stations = socket_stations(here.table, VERSIONS, passwords, url, clock, range(BAYS))
        self.emulated = EmulatedSite(here, twin.start(here, now_s), stations, clock, period_s=PERIOD_S, report_s=1.0)
        self.emulated.beat()
        self.server = ModbusMeterServer(SITE_METER, self.emulated.meter, host="127.0.0.1", port=self.meter)
        await self.server.start()
        self._tasks = [asyncio.ensure_future(work) for work in (
            self.emulated.run(), self._record(), *(station.run() for station in stations.values())
        )]  # fmt: skip

    async def _record(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S / 2.0)
            self.powers.append((time.monotonic(), self.power_kw))

    @property
    def power_kw(self) -> float:
        return float(self.emulated.plant.evse.power_kw.sum())

    async def until(self, what: Callable[[], bool], within_s: float, name: str) -> None:
        ends_s = time.monotonic() + within_s
        while not what():
            if time.monotonic() > ends_s:
                raise AssertionError(f"{name} not within {within_s} s\n{self.log()[-3000:]}")
            await asyncio.sleep(0.02)

    async def until_giving(self) -> None:
        """Wait until the vehicles really give what the building asks for."""
        await self.until(lambda: self.power_kw < -15.0, 40.0, "discharge")

    def log(self) -> str:
        return (self.home / "run.log").read_text(errors="replace")

    def signal(self, number: signal.Signals) -> float:
        """Send a signal; returns the instant."""
        assert self.process is not None
        self.process.send_signal(number)
        return time.monotonic()

    def after(self, instant_s: float) -> list[tuple[float, float]]:
        """Ground truth since an instant: (seconds since then, kW)."""
        return [(at_s - instant_s, kw) for at_s, kw in self.powers if at_s >= instant_s]

    def ends_after(self, instant_s: float) -> float:
        """Seconds from an instant to the last moment at which anybody gave power."""
        return max((at_s for at_s, kw in self.after(instant_s) if kw < -0.01), default=0.0)

    def blackhole(self, row: int) -> None:
        """The station's side of its connection falls dumb without a word: nothing is read, nothing answered, nothing closed."""
        station = self.emulated.stations[row]
        link = station._link
        assert isinstance(link, WebSocketLink)
        link.transport.pause_reading()  # type: ignore[attr-defined]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.process is not None:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
        if hasattr(self, "server"):
            await self.server.close()
        for close in self._closers:
            close()
