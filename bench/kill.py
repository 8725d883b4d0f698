"""kill -9 under load: the server dies at a random instant, starts again on the same store, and so on.

Stations begin, update and end transactions, one message at a time each. After every restart the store must hold every event that
was acknowledged, each once, the transactions under way must be known again, and the stations repeat what had no answer. What is
killed is a fork of a process that has imported everything and opened nothing: a start costs what a start does, without the imports.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import logging
import math
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog
import uvloop
from msgspec import Struct
from ocpp_load import TRANSACTION, LoadStation, connect_all, frame, percentile, stamp
from ocpp_servers import Ours, identity, say

LIMIT_LISTENING_S = 2.0
SHORTEST_S, LONGEST_S = 0.005, 0.25
"""From listening to the kill: some die while stations still connect."""
LONGEST_TRANSACTION = 12
"""Events before its end."""
CONNECT_S = 20.0


# --- the server -------------------------------------------------------------------------------------------------------
async def serve(folder: Path, stations: int, port: int) -> None:
    """Start, say so, and serve until killed."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    server = Ours(argparse.Namespace(folder=str(folder), stations=stations, port=port, tls=0, tick=0))
    resumed = {name: list(station.transactions.values()) for name, station in server.csms.stations.items()}
    await server.server.start()
    say(pid=os.getpid(), port=server.server.port, listening_s=time.monotonic(), open=resumed)
    await server.csms.tick_forever()


def parent(folder: Path, stations: int) -> int:
    """Fork one server for every line (a port) of standard input, each after the one before is dead."""
    for name in ("assembly", "store", "csms.service", "ocpp_server"):
        importlib.import_module(f"gridtide.run.{name}")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.close(0)
            uvloop.run(serve(folder, stations, int(line)))
            os._exit(1)
        os.waitpid(child, 0)
    return 0


class Servers:
    """Starts and kills servers on one folder."""

    def __init__(self, folder: Path, stations: int) -> None:
        command = [sys.executable, __file__, "--parent", str(folder), "--stations", str(stations)]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        self._parent = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        self._folder, self._pid, self.port = folder, 0, 0
        self.open: dict[str, list[str]] = {}
        """Transactions the server knew as open when it began."""
        self.passwords: dict[str, str] = {}

    async def start(self) -> float:
        """Start one; the instant it listened (monotonic)."""
        hello = await asyncio.to_thread(self._start)
        self._pid, self.port, self.open = hello["pid"], hello["port"], hello["open"]
        self.passwords = json.loads((self._folder / "passwords.json").read_text())
        return float(hello["listening_s"])

    def _start(self) -> dict[str, Any]:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(b"%d\n" % self.port)
        self._parent.stdin.flush()
        line = self._parent.stdout.readline()
        if not line:
            raise SystemExit("the server did not start")
        return dict(json.loads(line))

    def kill(self) -> float:
        """SIGKILL; when (monotonic)."""
        os.kill(self._pid, signal.SIGKILL)
        return time.monotonic()

    def close(self) -> None:
        """End the last server and its parent."""
        # A session of their own: whatever became of the last start, nothing stays behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._parent.pid, signal.SIGKILL)
        self._parent.wait()
        for pipe in (self._parent.stdin, self._parent.stdout):
            if pipe is not None:
                pipe.close()


# --- the stations -----------------------------------------------------------------------------------------------------
class Told(Struct):
    """What one station has told, over all its connections."""

    identity: str
    luck: random.Random
    number: int = 0
    """Transactions begun."""
    seq_no: int = -1
    last: int = 0
    """Sequence number of the end of this transaction."""
    acked: bool = True
    """Whether the newest event was acknowledged."""
    log: dict[tuple[str, int], bool] = {}
    """(transaction, sequence number) -> acknowledged, of everything ever sent."""
    repeated: int = 0

    @property
    def transaction(self) -> str:
        """The present one."""
        return f"tx-{self.identity}-{self.number:06d}"

    def next_event(self) -> bytes:
        """The event to send now: the one without an answer again, or the next."""
        if self.acked:
            if self.seq_no == self.last or self.number == 0:
                self.number, self.seq_no, self.last = self.number + 1, -1, self.luck.randint(1, LONGEST_TRANSACTION)
            self.seq_no, self.acked = self.seq_no + 1, False
            self.log[self.transaction, self.seq_no] = False
        else:
            self.repeated += 1
        kind = b"Started" if self.seq_no == 0 else b"Ended" if self.seq_no == self.last else b"Updated"
        now = stamp()
        name = self.transaction.encode()
        return TRANSACTION % (self.number * 100 + self.seq_no, kind, now, self.seq_no, name, now)

    def acknowledge(self) -> None:
        """The newest event has its answer."""
        self.acked = True
        self.log[self.transaction, self.seq_no] = True

    def expected_open(self) -> set[str] | None:
        """Transactions that the server must know as open; None where either is right."""
        if self.number == 0:
            return set()
        if not self.acked and self.seq_no in (0, self.last):
            return None
        return set() if self.seq_no == self.last else {self.transaction}


class Run:
    """All kills."""

    def __init__(self, points: int, stations: int, folder: Path, seed: int) -> None:
        self.points, self.luck = points, random.Random(seed)
        self.told = {identity(row): Told(identity(row), random.Random(seed + row)) for row in range(stations)}
        self.servers, self.store = Servers(folder, stations), folder / "store.db"
        self.damaged = self.errors = self.lost = self.doubled = self.unknown = self.gaps = 0
        self.listening_s: list[float] = []
        self.acknowledged: list[int] = []

    async def run(self, within_s: float) -> None:
        """Kill `points` times, fewer if `within_s` is over; look after every restart."""
        ends_s = time.monotonic() + within_s
        try:
            await self.servers.start()
            for _ in range(self.points):
                if time.monotonic() > ends_s:
                    break
                await self._live()
                killed_s = self.servers.kill()
                self.listening_s.append(await self.servers.start() - killed_s)
                self._look()
        finally:
            self.servers.close()

    async def _live(self) -> None:
        """Load until the instant of the kill."""
        before = sum(sum(told.log.values()) for told in self.told.values())
        links: list[LoadStation] = []
        loading = asyncio.ensure_future(self._load(links))
        await asyncio.sleep(self.luck.uniform(SHORTEST_S, LONGEST_S))
        # The kill follows at once: what comes between is what the stations still read from their sockets.
        self.acknowledged.append(sum(sum(told.log.values()) for told in self.told.values()) - before)
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await loading
        for link in links:
            link.on_answer = _deaf
            if link.transport is not None:
                link.transport.pause_reading()
        asyncio.get_running_loop().call_later(1.0, _abort, links)

    async def _load(self, links: list[LoadStation]) -> None:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.gather(*(self._connect(told, links) for told in self.told.values()))

    async def _connect(self, told: Told, links: list[LoadStation]) -> None:
        def answered(link: LoadStation, data: bytes) -> None:
            if data.startswith(b"[4,"):
                self.errors += 1
            elif data.startswith(b'[3,"t'):
                told.acknowledge()
            if link.transport is not None and not link.transport.is_closing():
                link.transport.write(frame(told.next_event()))

        (link,) = await connect_all(self.servers.port, self.servers.passwords, [told.identity], on_answer=answered)
        links.append(link)
        link.boot()

    def _look(self) -> None:
        """What the restarted server and its store know, against what the stations were told."""
        with contextlib.closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as store:
            rows = store.execute("SELECT station_id, transaction_id, seq_no FROM transactions").fetchall()
            (self.damaged,) = store.execute("SELECT count(*) FROM events WHERE source = 'store'").fetchone()
            (counted,) = store.execute("SELECT coalesce(sum(events), 0) FROM transaction_heads").fetchone()
        kept = {(transaction, seq_no) for _, transaction, seq_no in rows}
        sent = {key: acked for told in self.told.values() for key, acked in told.log.items()}
        self.lost += sum(acked and key not in kept for key, acked in sent.items())
        self.doubled += len(rows) - len(kept) + abs(counted - len(rows)) + len(kept - sent.keys())
        for told in self.told.values():
            expected = told.expected_open()
            if expected is not None and set(self.servers.open.get(told.identity, ())) != expected:
                self.unknown += 1
        newest = {told.transaction: told.seq_no for told in self.told.values()}
        self.gaps += sum(
            seq_no > 0 and (transaction, seq_no - 1) not in kept and transaction in newest
            for transaction, seq_no in kept
        )

    def figures(self) -> dict[str, Any]:
        """What was found."""
        return {
            "points": len(self.listening_s),
            "points_wanted": self.points,
            "stations": len(self.told),
            "acknowledged": sum(self.acknowledged),
            "acknowledged_per_point_median": statistics.median(self.acknowledged),
            "repeated": sum(told.repeated for told in self.told.values()),
            "transactions": sum(told.number for told in self.told.values()),
            "lost": self.lost,
            "doubled": self.doubled,
            "gaps": self.gaps,
            "not_resumed": self.unknown,
            "call_errors": self.errors,
            "told_damaged": self.damaged,
            "listening_median_s": round(statistics.median(self.listening_s), 3),
            "listening_p99_s": round(percentile(self.listening_s, 0.99), 3),
            "listening_max_s": round(max(self.listening_s), 3),
        }


def _deaf(_link: LoadStation, _answer: bytes) -> None:
    """The kill has come."""


def _abort(links: list[LoadStation]) -> None:
    for link in links:
        if link.transport is not None:
            link.transport.abort()


def main() -> int:
    """Run; 1 if anything acknowledged was lost, doubled or forgotten, a restart took too long, or kills are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--stations", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", type=float, default=math.inf, help="seconds after which no further kill is begun")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--parent", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.parent is not None:
        return parent(args.parent, args.stations)
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(args.points, args.stations, Path(folder), args.seed)
        asyncio.run(run.run(args.within))
    found = run.figures() | {"took_s": round(time.monotonic() - begun_s, 1)}
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:32} {value}")
    bad = found["lost"] + found["doubled"] + found["gaps"] + found["not_resumed"] + found["call_errors"]
    bad += found["told_damaged"]  # a kill tears nothing that was committed
    is_short = found["points"] < found["points_wanted"]
    return 1 if bad or is_short or found["listening_max_s"] > LIMIT_LISTENING_S else 0


if __name__ == "__main__":
    sys.exit(main())
