"""Garbage collection without long pauses: a full collection walks every object, which takes a second with 10,000 stations."""

import asyncio
import gc
import time

from gridtide.run.clock import Clock

YOUNG = (5_000, 5, 1_000_000)
"""Thresholds: young objects are looked at often, old ones only by `collect_forever`."""
LOOK_S = 600.0
LONG_S = 0.02
"""A full collection that took longer is repeated seldom."""
SELDOM = 36


def keep_pauses_short() -> None:
    """Call once when what lives long has been made: it is never walked again, and no collection of old objects starts by itself."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*YOUNG)


async def collect_forever(clock: Clock) -> None:
    """Collect old objects every ten minutes, every six hours where that takes long (many stations)."""
    wait = 1
    while True:
        await clock.sleep(wait * LOOK_S)
        begun_s = time.perf_counter()
        gc.collect()
        wait = SELDOM if time.perf_counter() - begun_s > LONG_S else 1
        await asyncio.sleep(0)
