"""A flood of bad logins (AT03): how long good stations need to connect meanwhile, and before it.

The guesser is a process of its own beside the generator; whenever a guess is answered the next one comes. Good stations connect and
hang up one after another, each waiting for the whole way: TCP, login, upgrade.
"""

import argparse
import asyncio
import base64
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import uvloop
from ocpp_load import GENERATOR_CORE, LoadStation, ServerProcess, connect_all, keep_to, percentile, raise_file_limit
from ocpp_servers import identity

LIMIT_MS = 1_000.0
"""Of the slowest good station."""
STATIONS = 200
"""Good stations that take turns, so that none runs into its own budget of connects."""
PAUSE_S = 0.02


# --- who guesses ------------------------------------------------------------------------------------------------------
async def guess(port: int, name: str, number: int, answers: Counter[str]) -> None:
    """One guess for a station that exists."""
    token = base64.b64encode(f"{name}:guess-number-{number:08d}".encode()).decode()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET /ocpp/{name} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: ocpp2.1\r\nAuthorization: Basic {token}\r\n\r\n".encode()
        )
        answers[(await reader.readline()).decode().split(" ")[1]] += 1
        writer.close()
    except (OSError, IndexError):
        answers["cut off"] += 1


async def flood(port: int, count: int, at_once: int, names: list[str]) -> Counter[str]:
    """So many guesses, `at_once` under way at any time; how many were answered, by status."""
    answers: Counter[str] = Counter()
    numbers = iter(range(count))

    async def guesser() -> None:
        for number in numbers:
            await guess(port, names[number % len(names)], number, answers)

    await asyncio.gather(*(guesser() for _ in range(at_once)))
    return answers


def guesses(port: int, count: int, at_once: int, names: list[str]) -> subprocess.Popen[str]:
    """The same as a process, which prints the answers as JSON."""
    command = [sys.executable, __file__, "--guess", str(port), str(count), str(at_once), *names]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# --- who is let in ----------------------------------------------------------------------------------------------------
async def connect_ms(server: ServerProcess, turn: int) -> float:
    """From the first packet to the upgrade, of one good station."""
    began_s = time.monotonic()
    (station,) = await connect_all(server.port, server.passwords, [identity(turn % STATIONS)])
    took_ms = 1e3 * (time.monotonic() - began_s)
    close(station)
    await asyncio.sleep(PAUSE_S)
    return took_ms


def close(station: LoadStation) -> None:
    """Hang up."""
    assert station.transport is not None
    station.transport.close()


async def run(count: int, at_once: int, folder: Path) -> dict[str, object]:
    """Quiet, then under the flood, on one server."""
    server = ServerProcess("ours", folder, stations=STATIONS)
    try:
        quiet = [await connect_ms(server, turn) for turn in range(STATIONS)]
        began_s = time.monotonic()
        attacker = guesses(server.port, count, at_once, [identity(0), identity(1)])
        flooded: list[float] = []
        while attacker.poll() is None:
            flooded.append(await connect_ms(server, len(flooded)))
        took_s = time.monotonic() - began_s
        assert attacker.stdout is not None
        answers: dict[str, int] = json.loads(attacker.stdout.read())
        attacker.stdout.close()
    finally:
        server.kill()
    return {
        "guesses": count,
        "at_once": at_once,
        "guesses_per_s": round(count / took_s),
        "answers": answers,
        "good_connects": len(flooded),
        **figures("quiet", quiet),
        **figures("flood", flooded),
        "p50_flood_over_quiet": round(statistics.median(flooded) / statistics.median(quiet), 1),
        "limit_ms": LIMIT_MS,
        "in_limits": max(flooded) <= LIMIT_MS and sum(answers.values()) == count,
    }


def figures(name: str, took_ms: list[float]) -> dict[str, float]:
    """Median, p99 and the slowest, ms."""
    return {
        f"{name}_p50_ms": round(statistics.median(took_ms), 1),
        f"{name}_p99_ms": round(percentile(took_ms, 0.99), 1),
        f"{name}_max_ms": round(max(took_ms), 1),
    }


def main() -> int:
    """Run and print one JSON object as the last line with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guesses", type=int, default=100_000)
    parser.add_argument("--at-once", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="a smoke run with 2,000 guesses")
    parser.add_argument("--guess", nargs="+", metavar="WORD", help="only guess: PORT COUNT AT_ONCE NAME...")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.guess:
        port, count, at_once = map(int, args.guess[:3])
        print(json.dumps(asyncio.run(flood(port, count, at_once, args.guess[3:]))))
        return 0
    keep_to(GENERATOR_CORE)
    raise_file_limit(args.at_once + STATIONS)
    with tempfile.TemporaryDirectory() as folder:
        result = uvloop.run(run(2_000 if args.quick else args.guesses, args.at_once, Path(folder)))
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:22} {value}")
    return 0 if result["in_limits"] or args.quick else 1


if __name__ == "__main__":
    sys.exit(main())
