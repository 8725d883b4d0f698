"""What does one OCPP message cost the CSMS? CPU of the server process per message, beside a raw echo and PyPI `ocpp`.

Closed loop: 100 stations, three TransactionEvents (887 bytes, 5 sampled values; each acknowledged after its commit to disk) to one
Heartbeat. Then a fixed rate (latency from the scheduled instant), and the memory of idle stations, plain and over TLS.
"""

import argparse
import asyncio
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop
from ocpp_load import (
    GENERATOR_CORE,
    LoadStation,
    ServerProcess,
    boot_all,
    connect_all,
    keep_to,
    percentile,
    raise_file_limit,
    stamp,
)
from ocpp_servers import identity

PARTS = ("cost", "rate", "idle", "tls")
LIMIT_ECHO, LIMIT_OCPP = 3.0, 10.0
LIMIT_P99_MS = 50.0
LIMIT_PLAIN_KB, LIMIT_TLS_KB = 40.0, 100.0


class ClosedLoop:
    """Every station sends its next message when the last is answered."""

    def __init__(self) -> None:
        self.answers = 0
        self.now = stamp()
        self.going = False

    def on_answer(self, station: LoadStation, _answer: bytes) -> None:
        """Count and go on."""
        self.answers += 1
        if self.going:
            station.mix(self.now)

    async def run(self, server: ServerProcess, stations: int, seconds: float) -> dict[str, float]:
        """CPU microseconds per message of `server`, and messages a second."""
        links = await connect_all(
            server.port, server.passwords, map(identity, range(stations)), on_answer=self.on_answer
        )
        await boot_all(links)
        await asyncio.sleep(0.3)
        self.going = True
        for link in links:
            link.mix(self.now)
        await self._pass(0.3 * seconds)
        before, counted, begun = server.usage(), self.answers, time.monotonic()
        await self._pass(seconds)
        after, ended = server.usage(), time.monotonic()
        counted = self.answers - counted
        self.going = False
        await asyncio.sleep(0.1)
        errors = sum(link.errors + link.lost for link in links)
        for link in links:
            if link.transport is not None:
                link.transport.abort()
        return {
            "us_per_message": 1e6 * (after.cpu_s - before.cpu_s) / counted,
            "messages_per_s": counted / (ended - begun),
            "errors": errors,
        }

    async def _pass(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.now = stamp()
            await asyncio.sleep(0.05)


async def fixed_rate(server: ServerProcess, stations: int, per_s: float, seconds: float) -> dict[str, float]:
    """Latency in ms from the scheduled instant at `per_s` messages a second and station."""
    latencies: list[float] = []

    def on_answer(station: LoadStation, _answer: bytes) -> None:
        if station.due_s:
            latencies.append(1e3 * (time.monotonic() - station.due_s))
        station.due_s = 0.0
        if station.queued:
            station.due_s = station.queued.pop(0)
            station.mix(stamp())

    links = await connect_all(server.port, server.passwords, map(identity, range(stations)), on_answer=on_answer)
    await boot_all(links)
    await asyncio.sleep(2.0)
    every_s = 1.0 / per_s
    begin = time.monotonic() + 0.1
    total = int(stations * seconds * per_s)
    before = server.usage()
    for number in range(total):
        due_s = begin + number * every_s / stations
        while (left := due_s - time.monotonic()) > 0.0:
            await asyncio.sleep(left)
        link = links[number % stations]
        if link.waiting:
            link.queued.append(due_s)
        else:
            link.due_s = due_s
            link.mix(stamp())
    await asyncio.sleep(1.0)
    after = server.usage()
    errors, lost = sum(link.errors for link in links), sum(link.lost for link in links)
    for link in links:
        if link.transport is not None:
            link.transport.abort()
    return {
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
        "max_ms": max(latencies, default=float("nan")),
        "unanswered": total - len(latencies),
        "call_errors": errors,
        "links_lost": lost,
        "core_share": (after.cpu_s - before.cpu_s) / (time.monotonic() - begin),
    }


async def idle_memory(server: ServerProcess, stations: int, folder: Path, tls: bool) -> dict[str, float]:
    """Resident kilobytes a booted, idle station."""
    context = None
    if tls:
        context = ssl.create_default_context(cafile=str(folder / "server.pem"))
    await asyncio.sleep(0.5)
    before = server.usage()
    begun = time.monotonic()
    links = await connect_all(server.port, server.passwords, map(identity, range(stations)), tls=context, at_once=50)
    connected = server.usage()
    await boot_all(links)
    opened_s = time.monotonic() - begun
    await asyncio.sleep(3.0)
    after = server.usage()
    state = server.ask("state")
    for link in links:
        if link.transport is not None:
            link.transport.abort()
    return {
        "kb_per_station": (after.rss_kb - before.rss_kb) / stations,
        "kb_connected": (connected.rss_kb - before.rss_kb) / stations,
        "online": state["online"],
        "opened_per_s": stations / opened_s,
    }


Work = Callable[[ServerProcess, Path], Coroutine[Any, Any, dict[str, float]]]


def serve_and(kind: str, stations: int, work: Work, **options: object) -> dict[str, float]:
    """Start a server, run the work against it in this process, end the server."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = ServerProcess(kind, folder, stations=stations, **options)
        try:
            return uvloop.run(work(server, folder))
        finally:
            server.kill()


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    """Median of every figure."""
    return {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}


def cost(stations: int, seconds: float, repeats: int) -> dict[str, Any]:
    """Closed loop on all three servers, turn by turn; ratios are taken within a turn, then their median."""
    turns = []
    for _ in range(repeats):
        turns.append({
            kind: serve_and(kind, stations, lambda server, _folder: ClosedLoop().run(server, stations, seconds))
            for kind in ("echo", "ours", "ocpp")
        })  # fmt: skip
        print({kind: round(run["us_per_message"], 1) for kind, run in turns[-1].items()}, file=sys.stderr)
    us = [{kind: run["us_per_message"] for kind, run in turn.items()} for turn in turns]
    result: dict[str, Any] = {kind: median([turn[kind] for turn in turns]) for kind in turns[0]}
    result["ratio_to_echo"] = round(statistics.median(turn["ours"] / turn["echo"] for turn in us), 2)
    result["ocpp_to_ours"] = round(statistics.median(turn["ocpp"] / turn["ours"] for turn in us), 1)
    return result


def main() -> int:
    """Measure and print one JSON object as the last line with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a smoke run with few stations")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    few, some, many = (5, 10, 20) if args.quick else (100, 1_000, 10_000)
    seconds, repeats = (0.2, 1) if args.quick else (args.seconds, args.repeats)
    keep_to(GENERATOR_CORE)
    raise_file_limit(many)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "cost": lambda: cost(few, seconds, repeats),
        "rate": lambda: median(
            [
                serve_and("ours", some, lambda server, _folder: fixed_rate(server, some, 0.5, 3.0 * seconds))
                for _ in range(repeats)
            ]
        ),
        "idle": lambda: serve_and("ours", many, lambda server, folder: idle_memory(server, many, folder, False)),
        "tls": lambda: serve_and("ours", some, lambda server, folder: idle_memory(server, some, folder, True), tls=1),
    }
    result: dict[str, Any] = {name: parts[name]() for name in args.only}
    result["in_limits"] = in_limits(result)
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:10} {value}")
    return 0 if result["in_limits"] or args.quick else 1


def in_limits(result: dict[str, Any]) -> bool:
    """Whether every part that was measured keeps its limit."""
    checks = []
    if (part := result.get("cost")) is not None:
        checks += [part["ratio_to_echo"] <= LIMIT_ECHO, part["ocpp_to_ours"] >= LIMIT_OCPP, part["ours"]["errors"] == 0]
    if (part := result.get("rate")) is not None:
        faults = part["unanswered"] + part["call_errors"] + part["links_lost"]
        checks += [part["p99_ms"] < LIMIT_P99_MS, faults == 0]
    if (part := result.get("idle")) is not None:
        checks.append(part["kb_per_station"] <= LIMIT_PLAIN_KB)
    if (part := result.get("tls")) is not None:
        checks.append(part["kb_per_station"] <= LIMIT_TLS_KB)
    return all(checks)


if __name__ == "__main__":
    sys.exit(main())
