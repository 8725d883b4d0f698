"""Many cheap stations for the OCPP benches: raw WebSocket frames over asyncio protocols, and the servers they talk to.

A station masks with a key of zeros: legal on the wire, free for the generator, and the server unmasks all the same. Stations are
spread over loopback source addresses, the generator keeps to its own core, and servers are processes of their own.
"""

import asyncio
import base64
import json
import os
import resource
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from msgspec import Struct

FILES_WANTED = 20_000
SPARE_FILES = 200
SOURCES = 250
"""Loopback source addresses that stations are spread over."""
SERVER_CORE, GENERATOR_CORE = 0, 1
TRIES = 5
BOOTS_PER_S = 1_800.0
ACCEPTED = b'{"status":"Accepted"}'
INTERVAL_SET = (
    b'{"setVariableResult":[{"attributeStatus":"Accepted","component":{"name":"SampledDataCtrlr"},'
    b'"variable":{"name":"TxUpdatedInterval"}}]}'
)
BOOT = b'[2,"b%d","BootNotification",{"reason":"PowerUp","chargingStation":{"model":"Load","vendorName":"bench"}}]'
HEARTBEAT = b'[2,"h%d","Heartbeat",{}]'
_SAMPLE = b'{"value":%s,"context":"Sample.Periodic","measurand":"%s","unitOfMeasure":{"unit":"%s"}}'
_SAMPLES = b",".join(
    _SAMPLE % part
    for part in (
        (b"7400.0", b"Power.Active.Import", b"W"), (b"0.0", b"Power.Active.Export", b"W"),
        (b"12345.6", b"Energy.Active.Import.Register", b"Wh"), (b"0.0", b"Energy.Active.Export.Register", b"Wh"),
        (b"55.5", b"SoC", b"Percent"),
    )
)  # fmt: skip
TRANSACTION = (
    b'[2,"t%%d","TransactionEvent",{"eventType":"%%s","timestamp":"%%s","triggerReason":"MeterValuePeriodic","seqNo":%%d,'
    b'"transactionInfo":{"transactionId":"%%s","chargingState":"Charging"},"evse":{"id":1,"connectorId":1},'
    b'"meterValue":[{"timestamp":"%%s","sampledValue":[%s]}]}]'
) % _SAMPLES


def raise_file_limit(needed: int) -> int:
    """Raise the limit of open files as far as allowed; SystemExit when `needed` do not fit. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard if hard != resource.RLIM_INFINITY else FILES_WANTED
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < needed + SPARE_FILES:
        raise SystemExit(f"{needed} connections need {needed + SPARE_FILES} files, the limit is {limit}: raise it")
    return limit


def keep_to(core: int) -> None:
    """Run this process on one core where the system can do that and has more than one."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def source_of(place: int) -> str:
    """Loopback address that the station at `place` connects from."""
    return f"127.0.{1 + place // SOURCES % 200}.{1 + place % SOURCES}"


def stamp() -> bytes:
    """Now, as OCPP writes instants."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").encode()


def frame(payload: bytes) -> bytes:
    """One masked text frame (key of zeros) of up to 64 KiB."""
    size = len(payload)
    if size < 126:
        return struct.pack(">BBI", 0x81, 0x80 | size, 0) + payload
    return struct.pack(">BBHI", 0x81, 0x80 | 126, size, 0) + payload


class LoadStation(asyncio.Protocol):
    """One station: opens, boots, answers what it is asked, and hands answers of its own calls to `on_answer`."""

    def __init__(self, identity: str, password: str, on_answer: "Callable[[LoadStation, bytes], None]") -> None:
        self.identity, self.on_answer = identity, on_answer
        self._password = password
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when upgraded; fails when refused or cut."""
        self.number = 0
        """Messages sent."""
        self.seq_no = 0
        self.transaction = f"tx-{identity}-00000001".encode()
        self.due_s = 0.0
        """Scheduled instant of the message in flight (monotonic)."""
        self.waiting = False
        self.queued: list[float] = []
        self.errors = 0
        self.lost = False
        self.hung = False
        """Answers nothing."""
        self.on_call: Callable[[LoadStation, bytes], None] | None = None
        self._buffer = b""
        self._upgraded = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = cast(asyncio.Transport, transport)
        token = base64.b64encode(f"{self.identity}:{self._password}".encode()).decode()
        self.transport.write(
            (
                f"GET /ocpp/{self.identity} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Protocol: ocpp2.1\r\nAuthorization: Basic {token}\r\n\r\n"
            ).encode()
        )

    def connection_lost(self, error: Exception | None) -> None:
        """The link ended."""
        self.lost = True
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"{self.identity}: cut ({error})"))

    def data_received(self, data: bytes) -> None:
        """Split into frames; one whole frame is the usual case."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if not self._upgraded:
            data = self._upgrade(data)
        while len(data) >= 2:
            size, start = data[1] & 0x7F, 2
            if size == 126:
                if len(data) < 4:
                    break
                size, start = int.from_bytes(data[2:4], "big"), 4
            if len(data) < start + size:
                break
            self._message(data[0] & 0x0F, data[start : start + size])
            data = data[start + size :]
        self._buffer = data

    def _upgrade(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            return b""
        if self.ready.done():
            return b""
        if data.startswith(b"HTTP/1.1 101"):
            self._upgraded = True
            self.ready.set_result(None)
            return data[end + 4 :]
        self.ready.set_exception(ConnectionRefusedError(data[:40].decode("latin-1")))
        return b""

    def _message(self, opcode: int, data: bytes) -> None:
        assert self.transport is not None
        if opcode == 0x9 and not self.hung:
            self.transport.write(struct.pack(">BBI", 0x8A, 0x80 | len(data), 0) + data)
        elif opcode == 0x1 and data[1:2] in (b"3", b"4"):
            self.errors += data[1:2] == b"4"
            self.waiting = False
            self.on_answer(self, data)
        elif opcode == 0x1:
            self._called(data)

    def _called(self, data: bytes) -> None:
        if self.on_call is not None:
            self.on_call(self, data)
        if self.hung or self.transport is None:
            return
        call_id = data[4 : data.index(b'"', 4)]
        answer = INTERVAL_SET if b'"SetVariables"' in data[:80] else ACCEPTED
        self.transport.write(frame(b'[3,"%s",%s]' % (call_id, answer)))

    # --- what it says -----------------------------------------------------------------------------------------------
    def boot(self) -> None:
        """Send a BootNotification."""
        self._send(BOOT)

    def heartbeat(self) -> None:
        """Send a Heartbeat."""
        self._send(HEARTBEAT)

    def transaction_event(self, kind: bytes, now: bytes) -> None:
        """Send the next event of its transaction, stamped `now`."""
        self.number += 1
        self.waiting = True
        data = TRANSACTION % (self.number, kind, now, self.seq_no, self.transaction, now)
        self.seq_no += 1
        self.transport.write(frame(data))  # type: ignore[union-attr]

    def mix(self, now: bytes) -> None:
        """The next message of the mix 3 TransactionEvent : 1 Heartbeat."""
        if self.number & 3 == 3:
            self.heartbeat()
        else:
            self.transaction_event(b"Updated" if self.seq_no else b"Started", now)

    def _send(self, text: bytes) -> None:
        self.number += 1
        self.waiting = True
        self.transport.write(frame(text % self.number))  # type: ignore[union-attr]


def ignore(_station: LoadStation, _answer: bytes) -> None:
    """An answer nobody looks at."""


async def connect_all(
    port: int,
    passwords: dict[str, str],
    identities: Iterable[str],
    *,
    tls: ssl.SSLContext | None = None,
    at_once: int = 100,
    on_answer: Callable[[LoadStation, bytes], None] = ignore,
) -> list[LoadStation]:
    """Connect stations from many loopback addresses, `at_once` at a time; raises OSError when one fails `TRIES` times."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(at_once)

    async def once(place: int, identity: str) -> LoadStation:
        async with gate:
            _, station = await loop.create_connection(
                lambda: LoadStation(identity, passwords.get(identity, ""), on_answer), "127.0.0.1", port,
                local_addr=(source_of(place), 0), ssl=tls, server_hostname="localhost" if tls else None,
            )  # fmt: skip
            await station.ready
        return station

    async def one(place: int, identity: str) -> LoadStation:
        for _ in range(TRIES - 1):
            try:
                return await once(place, identity)
            except OSError:
                await asyncio.sleep(0.5)
        return await once(place, identity)

    return list(await asyncio.gather(*(one(place, name) for place, name in enumerate(identities))))


async def boot_all(stations: list[LoadStation], at_once: int = 200) -> None:
    """Boot the stations and wait for every answer; not more a second than a CSMS accepts (`csms.boot_pace`)."""
    for start in range(0, len(stations), at_once):
        part = stations[start : start + at_once]
        if start:
            await asyncio.sleep(at_once / BOOTS_PER_S)
        for station in part:
            station.boot()
        while any(station.waiting and not station.lost for station in part):
            await asyncio.sleep(0.005)


class Usage(Struct, frozen=True):
    """What a process has used."""

    cpu_s: float
    rss_kb: float


class ServerProcess:
    """One server of `ocpp_servers.py` in a process of its own."""

    def __init__(self, kind: str, folder: Path, *, stations: int = 0, **options: object) -> None:
        script = Path(__file__).with_name("ocpp_servers.py")
        command = [sys.executable, str(script), kind, "--folder", str(folder), "--stations", str(stations)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        hello = self.read()
        self.port: int = hello["port"]
        passwords = folder / "passwords.json"
        self.passwords: dict[str, str] = json.loads(passwords.read_text()) if passwords.exists() else {}

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def read(self) -> dict[str, Any]:
        """Its next line; SystemExit when it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the server ended with {self._process.wait()}")
        return dict(json.loads(line))

    def ask(self, command: str) -> dict[str, Any]:
        """Send one command and read the answer."""
        self.tell(command)
        return self.read()

    def tell(self, command: str) -> None:
        """Send one command."""
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()

    def usage(self) -> Usage:
        """CPU seconds of all its threads, and resident memory now."""
        # Linux gives every process a CPU clock; its id is made of the process id.
        cpu_s = time.clock_gettime((~self.pid << 3) | 2)
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return Usage(cpu_s, pages * resource.getpagesize() / 1024)

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of `values` do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
