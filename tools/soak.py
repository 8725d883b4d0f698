"""`make soak`: simulated days of a whole site on the wire tier; memory must not grow and every queue stay bounded.

python -m tools.soak [--days 7] [--bays 10] [--json]

Real sessions, codecs, controller and store, in virtual time: vehicles come and go at every bay all day. At the end of each day the
resident memory, the number of live objects and the longest queue are read. The store's rows lie in a file, as on a site.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import random
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from gridtide.run import assembly
from gridtide.run.simloop import run_sim
from gridtide.run.store import MemoryStore
from gridtide.run.store import file as store_file
from gridtide.twin import evse
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import Arrival
from gridtide.twin.building import LoadSeries, textured
from gridtide.twin.plant import World
from tests.day.wire_site import OFFSET_S, START_S, V21, EpochClock, period, settings, stay, table

DAY_S = 86_400.0
GROWTH_LIMIT = 1.1
QUEUE_LIMIT = 10_000
"""Items of the longest queue: the largest bound that any of them has (telemetry that waits for the disk)."""
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


class Reading(Struct, frozen=True, kw_only=True):
    """Memory at the end of one period."""

    hours: float
    """Simulated since the start."""
    rss_mib: float
    objects: int
    """Tracked by the collector, after a collection."""
    longest_queue: int
    """Items of the longest deque."""
    tasks: int
    cycles: int
    sessions: int
    """Transactions that began so far."""
    took_s: float


class FileStore(MemoryStore):
    """The store of virtual time, its rows in a file: what a site keeps on disk must not count as its memory."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._connection.close()
        self._connection = store_file.connect(str(path))
        self._connection.execute("PRAGMA synchronous = OFF")
        store_file.migrate(self._connection)

    def transactions_begun(self) -> int:
        """Transactions ever begun."""
        return int(self._connection.execute("SELECT count(*) FROM transaction_heads").fetchone()[0])


def arrivals(bays: int, days: float, seed: int) -> list[Arrival]:
    """Stays of half an hour to six hours at every bay, with pauses of some minutes between them."""
    luck, told = random.Random(seed), []
    for row in range(bays):
        at_s = luck.uniform(0.0, 3_600.0)
        while at_s < days * DAY_S:
            leaves_s = at_s + luck.uniform(1_800.0, 6 * 3_600.0)
            told.append(stay(row, at_s, leaves_s, luck.uniform(0.2, 0.8), luck.uniform(0.5, 0.9)))
            at_s = leaves_s + luck.uniform(120.0, 3_600.0)
    return told


def world(bays: int, days: float, seed: int) -> World:
    """A building with a busy noon, and vehicles."""
    hours = np.arange(0.0, days * 24.0 + 24.0, 0.25)
    base_kw = 150.0 + 75.0 * np.sin((hours - 6.0) * math.pi / 12.0)
    building = textured(LoadSeries(START_S, 900.0, base_kw), seed)
    return twin.world(table(bays), [evse.MODELS["fast"]] * bays, building, arrivals(bays, days, seed))


async def soak(days: float, bays: int, seed: int, every_s: float, folder: Path) -> list[Reading]:
    """Run a site for `days`; one reading every `every_s` of simulated time."""
    here = world(bays, days, seed)
    clock, store = EpochClock(asyncio.get_running_loop(), START_S), FileStore(folder / "soak.db")
    parts = assembly.in_memory(
        here, twin.start(here, START_S), settings(here), store, clock, versions=bays * V21, period=period,
        tick_offset_s=OFFSET_S,
    )  # fmt: skip
    assert parts.plant is not None
    plant, began_s = parts.plant, time.monotonic()
    work = [plant.run(), parts.csms.tick_forever(), parts.site.run(), *(one.run() for one in plant.stations.values())]
    tasks = [asyncio.ensure_future(item) for item in work]
    readings = []
    for number in range(1, round(days * DAY_S / every_s) + 1):
        until = asyncio.ensure_future(clock.sleep_until(START_S + number * every_s))
        done, _ = await asyncio.wait([until, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {until}:
            task.result()
            raise RuntimeError("a loop of the site ended by itself")
        readings.append(
            read(number * every_s / 3600.0, parts.site.cycles, store.transactions_begun(), time.monotonic() - began_s)
        )
        print(msgspec.json.encode(readings[-1]).decode(), file=sys.stderr, flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.close()
    return readings


def read(hours: float, cycles: int, sessions: int, took_s: float) -> Reading:
    """Memory now."""
    gc.collect()
    found = gc.get_objects()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MIB
    return Reading(
        hours=round(hours, 3), rss_mib=round(resident, 2), objects=len(found),
        longest_queue=max((len(one) for one in found if isinstance(one, deque)), default=0),
        tasks=len(asyncio.all_tasks()), cycles=cycles, sessions=sessions, took_s=round(took_s, 1),
    )  # fmt: skip


def judge(readings: list[Reading]) -> list[str]:
    """What is wrong, in sentences: the last period against the first."""
    first, last, wrong = readings[0], readings[-1], []
    if last.rss_mib > GROWTH_LIMIT * first.rss_mib:
        wrong.append(f"resident memory grew from {first.rss_mib:.1f} to {last.rss_mib:.1f} MiB")
    if last.objects > GROWTH_LIMIT * first.objects:
        wrong.append(f"objects grew from {first.objects} to {last.objects}")
    if last.tasks > first.tasks + 5:
        wrong.append(f"tasks grew from {first.tasks} to {last.tasks}")
    longest = max(reading.longest_queue for reading in readings)
    if longest > QUEUE_LIMIT:
        wrong.append(f"a queue holds {longest} items")
    return wrong


def main() -> int:
    """Run; 1 if memory grew or a queue has no bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--bays", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=24.0, help="simulated hours between two readings")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        readings = run_sim(soak(args.days, args.bays, args.seed, args.every * 3600.0, Path(folder)), seed=args.seed)
    wrong = judge(readings)
    if args.json:
        print(json.dumps({"wrong": wrong, "readings": [msgspec.to_builtins(one) for one in readings]}))
    else:
        for one in readings:
            print(
                f"day {one.hours / 24.0:5.2f}: {one.rss_mib:7.1f} MiB, {one.objects} objects, longest queue "
                f"{one.longest_queue}, {one.sessions} sessions, {one.took_s:.0f} s"
            )
        print("; ".join(wrong) or "memory did not grow")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
