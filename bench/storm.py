"""A reconnect storm: the server is killed while stations charge, and starts again on the same store.

Every station comes back within a few random seconds, boots, repeats the event it had no answer to and goes on. Measured: how long
until all are back, how late a control cycle in the server was meanwhile, and whether the store holds every acknowledged event once.
"""

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from ocpp_load import (
    GENERATOR_CORE,
    LoadStation,
    ServerProcess,
    boot_all,
    connect_all,
    keep_to,
    raise_file_limit,
    source_of,
    stamp,
)
from ocpp_servers import identity

LIMIT_BACK_S, LIMIT_TICK_MS = 30.0, 50.0
SPREAD_S = 5.0
"""Stations wait up to this long before they try again, each its own random time (OCPP's back-off has such a range)."""
RETRY_S = 1.0
AT_ONCE = 256
"""Connections under way at a time: what the listener's queue holds."""


class Storm:
    """One kill and what follows."""

    def __init__(self, stations: int, folder: Path) -> None:
        self.stations, self.folder = stations, folder
        self.acknowledged: dict[str, int] = {}
        """Highest acknowledged sequence number."""
        self.pending: dict[str, float] = {}
        """Who is to boot again, and after how many seconds."""

        self.failures = self.told_to_wait = 0
        self.luck = random.Random(stations)

    async def run(self) -> dict[str, float]:
        """Connect, charge, kill, restart, and look."""
        names = [identity(row) for row in range(self.stations)]
        server = ServerProcess("ours", self.folder, stations=self.stations)
        links = await connect_all(server.port, server.passwords, names, on_answer=self._acknowledged)
        await boot_all(links)
        for kind in (b"Started", b"Updated"):
            await self._all_send(links, kind)
        for link in links[: len(links) // 2]:
            link.transaction_event(b"Updated", stamp())
        port = server.port
        server.kill()
        killed_s = time.monotonic()
        restarted = await asyncio.to_thread(
            lambda: ServerProcess("ours", self.folder, stations=self.stations, port=port, tick=1)
        )
        listening_s = time.monotonic()
        try:
            gate = asyncio.Semaphore(AT_ONCE)
            returned = await asyncio.gather(
                *(self._return(restarted, place, link, gate) for place, link in enumerate(links))
            )
            back_s = time.monotonic()
            await asyncio.sleep(1.0)
            ticks, state, usage = restarted.ask("ticks"), restarted.ask("state"), restarted.usage()
        finally:
            restarted.kill()
        lost, doubled = self._compare()
        return {
            "back_s": back_s - listening_s,
            "restart_s": listening_s - killed_s,
            "tick_p99_ms": ticks["p99_ms"],
            "tick_max_ms": ticks["max_ms"],
            "ticks": ticks["count"],
            "online": state["online"],
            "call_errors": sum(link.errors for link in returned),
            "failed_attempts": self.failures,
            "told_to_wait": self.told_to_wait,
            "lost": lost,
            "doubled": doubled,
            "server_cpu_s": usage.cpu_s,
        }

    def _acknowledged(self, station: LoadStation, answer: bytes) -> None:
        if answer.startswith(b'[3,"t'):
            self.acknowledged[station.identity] = station.seq_no - 1
        elif b'"Pending"' in answer:
            self.pending[station.identity] = float(json.loads(answer)[2]["interval"])
            self.told_to_wait += 1

    async def _all_send(self, links: list[LoadStation], kind: bytes) -> None:
        for start in range(0, len(links), 100):
            part = links[start : start + 100]
            for link in part:
                link.transaction_event(kind, stamp())
            while any(link.waiting and not link.lost for link in part):
                await asyncio.sleep(0.002)

    async def _return(
        self, server: ServerProcess, place: int, old: LoadStation, gate: asyncio.Semaphore
    ) -> LoadStation:
        """Try until accepted; then repeat what was not acknowledged, and go on."""
        await asyncio.sleep(self.luck.uniform(0.0, SPREAD_S))
        while True:
            try:
                async with gate:
                    link = await self._connect(server, place, old.identity)
                    break
            except OSError:
                self.failures += 1
                await asyncio.sleep(self.luck.uniform(0.5, 1.5) * RETRY_S)
        link.seq_no = self.acknowledged.get(old.identity, -1) + 1
        link.transaction = old.transaction
        while True:
            link.boot()
            await _answered(link)
            if (wait_s := self.pending.pop(link.identity, None)) is None:
                break
            await asyncio.sleep(wait_s)
        for _ in range(2):
            link.transaction_event(b"Updated" if link.seq_no else b"Started", stamp())
            await _answered(link)
        return link

    async def _connect(self, server: ServerProcess, place: int, name: str) -> LoadStation:
        _, link = await asyncio.get_running_loop().create_connection(
            lambda: LoadStation(name, server.passwords[name], self._acknowledged), "127.0.0.1", server.port,
            local_addr=(source_of(place), 0),
        )  # fmt: skip
        await link.ready
        return link

    def _compare(self) -> tuple[int, int]:
        """Acknowledged events that are missing, and rows or counts that are too many."""
        store = sqlite3.connect(self.folder / "store.db")
        kept: dict[str, set[int]] = {}
        for name, number in store.execute("SELECT station_id, seq_no FROM transactions"):
            kept.setdefault(name, set()).add(number)
        rows = store.execute("SELECT count(*) FROM transactions").fetchone()[0]
        counted = store.execute("SELECT sum(events), count(*) FROM transaction_heads").fetchone()
        store.close()
        lost = sum(len(set(range(newest + 1)) - kept.get(name, set())) for name, newest in self.acknowledged.items())
        doubled = abs(rows - sum(map(len, kept.values()))) + abs(counted[0] - rows) + abs(counted[1] - len(kept))
        return lost, doubled


async def _answered(link: LoadStation) -> None:
    while link.waiting:
        if link.lost:
            raise SystemExit(f"{link.identity} was cut after it had come back")
        await asyncio.sleep(0.02)


def main() -> int:
    """Run and print one JSON object as the last line with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stations", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a smoke run with 50 stations")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    stations, repeats = (50, 1) if args.quick else (args.stations, args.repeats)
    keep_to(GENERATOR_CORE)
    raise_file_limit(stations)
    runs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(uvloop.run(Storm(stations, Path(folder)).run()))
        print(json.dumps(runs[-1]), file=sys.stderr)
    result: dict[str, float | bool] = {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
    result["stations"] = stations
    for key in ("lost", "doubled", "call_errors"):
        result[key] = max(run[key] for run in runs)
    sound = result["lost"] == result["doubled"] == result["call_errors"] == 0 and result["online"] == stations
    result["in_limits"] = bool(sound and result["back_s"] <= LIMIT_BACK_S and result["tick_p99_ms"] < LIMIT_TICK_MS)
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:18} {value}")
    return 0 if result["in_limits"] or (args.quick and sound) else 1


if __name__ == "__main__":
    sys.exit(main())
