"""How fast does a new target reach the fleet? From `Csms.apply` to the setpoint at 1,000 stations' sockets, 10 of them hung.

A hung station neither reads nor answers; it must delay no other. Both processes read the same monotonic clock.
"""

import argparse
import asyncio
import json
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
    percentile,
    raise_file_limit,
    stamp,
)
from ocpp_servers import identity

LIMIT_MS, AIM_MS = 300.0, 50.0
SETTLE_S = 3.0
"""Between two targets: until the calls that hung stations leave unanswered have failed."""


async def command(server: ServerProcess, stations: int, hung: int, repeats: int) -> list[dict[str, float]]:
    """Charge everywhere, hang some, then send one new target after the other."""
    arrived: dict[str, float] = {}

    def on_call(station: LoadStation, data: bytes) -> None:
        if b'"SetChargingProfile"' in data[:80] or b'"UpdateDynamicSchedule"' in data[:80]:
            arrived.setdefault(station.identity, time.monotonic())

    links = await connect_all(server.port, server.passwords, map(identity, range(stations)))
    await boot_all(links)
    for link in links:
        link.transaction_event(b"Started", stamp())
    while any(link.waiting for link in links):
        await asyncio.sleep(0.01)
    await asyncio.sleep(1.0)
    for link in links:
        link.on_call = on_call
    for link in links[:: max(stations // max(hung, 1), 1)][:hung]:
        link.hung = True
        assert link.transport is not None
        link.transport.pause_reading()
    alive, runs = [link for link in links if not link.hung], []
    for number in range(repeats):
        arrived.clear()
        server.tell(f"apply {3.0 + number}")
        answer = await asyncio.to_thread(server.read)
        ends_s = time.monotonic() + 2.0
        while len(arrived) < len(alive) and time.monotonic() < ends_s:
            await asyncio.sleep(0.001)
        delays_ms = [1e3 * (at_s - answer["begun_s"]) for at_s in arrived.values()]
        runs.append({
            "last_ms": max(delays_ms, default=float("nan")),
            "p50_ms": percentile(delays_ms, 0.5),
            "apply_ms": answer["spent_ms"],
            "missing": len(alive) - len(arrived),
        })  # fmt: skip
        await asyncio.sleep(SETTLE_S)
    return runs


def main() -> int:
    """Run and print one JSON object as the last line with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stations", type=int, default=1_000)
    parser.add_argument("--hung", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a smoke run with 20 stations, 2 of them hung")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    stations, hung, repeats = (20, 2, 1) if args.quick else (args.stations, args.hung, args.repeats)
    keep_to(GENERATOR_CORE)
    raise_file_limit(stations)
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess("ours", Path(folder), stations=stations)
        try:
            runs = uvloop.run(command(server, stations, hung, repeats))
        finally:
            server.kill()
    result: dict[str, float | bool] = {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
    result |= {"worst_ms": round(max(run["last_ms"] for run in runs), 2), "stations": stations, "hung": hung}
    result["missing"] = max(run["missing"] for run in runs)
    result["in_limits"] = result["missing"] == 0 and result["last_ms"] < LIMIT_MS
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:12} {value}")
    return 0 if result["missing"] == 0 and (args.quick or result["in_limits"]) else 1


if __name__ == "__main__":
    sys.exit(main())
