"""What does the decision log cost? Its share of a control cycle on the loop and beside it, its size, and how fast it is replayed.

Every EVSE charges behind a meter with noise and reports once a second, its charge to a tenth of a percent; ages, times and powers
move as on a real site.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from typing import Any

import numpy as np
from msgspec import structs

from gridtide.control import site
from gridtide.control.peak import PeakSettings
from gridtide.control.site import Settings, State
from gridtide.model.decision import Decision, MeterSample, Snapshot
from gridtide.model.fleet import EvseTable, FleetSample, SiteLimits
from gridtide.run.clock import WallClock
from gridtide.run.decision_codec import decode_block, encode_block
from gridtide.run.decision_log import BLOCK_CYCLES, DecisionLog
from gridtide.run.replay import decide_again, differs
from gridtide.run.store import MemoryStore

NOW_S, MONO_S = 1_772_445_600.0, 1e5
Step = tuple[State, Snapshot, Decision, State]


def settings(size: int) -> Settings:
    """A site of 11 kW bidirectional EVSEs that holds a peak."""

    def full(value: float) -> Any:
        return np.full(size, value)

    table = EvseTable(
        ids=tuple(f"bay-{row}" for row in range(size)), charge_kw=full(11.0), discharge_kw=full(11.0), least_kw=full(0.5),
        step_kw=full(0.1), ramp_kw_per_s=full(11.0), hold_s=full(60.0), efficiency=full(0.94), fallback_kw=full(4.0),
        phase_share=np.full((size, 3), 1.0 / 3.0), group=np.full(size, -1), storage=np.zeros(size, dtype=np.bool_),
    )  # fmt: skip
    limits = SiteLimits(transformer_kw=20.0 * size, static_building_kw=10.0 * size)
    return Settings(table=table, limits=limits, peak=PeakSettings(limit_kw=8.0 * size, buffer_kw=1.0 * size))


def fleet(size: int, rng: np.random.Generator) -> FleetSample:
    """Vehicles that need charge, each with its own departure."""

    def full(value: float) -> Any:
        return np.full(size, value)

    return FleetSample(
        connected=np.ones(size, dtype=np.bool_), fault=np.zeros(size, dtype=np.bool_),
        may_discharge=np.ones(size, dtype=np.bool_), age_s=full(0.3), power_kw=full(7.0), soc=rng.uniform(0.3, 0.9, size),
        capacity_kwh=full(60.0), need_soc=full(0.8), need_kwh=full(np.nan), minimum_soc=full(np.nan), left_s=full(7_200.0),
        charge_limit_kw=full(11.0), discharge_limit_kw=full(11.0), temperature_c=rng.normal(40.0, 3.0, size).round(1),
        register_kwh=full(np.nan),
    )  # fmt: skip


def minute(size: int) -> tuple[Settings, list[Step], list[float]]:
    """A block of cycles as the loop sees them, and the CPU milliseconds of each control step."""
    rng, rules, spent, steps = np.random.default_rng(7), settings(size), list[float](), list[Step]()
    state, seen, heard = site.fresh(rules), fleet(size, rng), rng.uniform(0.0, 0.9, size)
    leaves_s = MONO_S + rng.uniform(1_800.0, 30_000.0, size)
    for k in range(BLOCK_CYCLES):
        mono_s = MONO_S + 0.5 * k + 1e-4 * rng.random()
        if k % 2 == 0:
            power = np.round(rng.normal(7.0, 0.05, size), 3)
            seen = structs.replace(seen, power_kw=power, soc=seen.soc + power / 60.0 / 3_600.0)
        now = structs.replace(
            seen,
            soc=seen.soc.round(3),
            age_s=mono_s - (MONO_S + k // 2 - heard),
            left_s=leaves_s - mono_s,
            connected=seen.connected.copy(),
        )
        snapshot = Snapshot(
            mono_s=mono_s,
            now_s=NOW_S + mono_s,
            meter=MeterSample(mono_s, round(7.5 * size + rng.normal(), 3)),
            fleet=now,
        )
        began_s = time.process_time()
        after, decision = site.step(state, snapshot, rules)
        spent.append((time.process_time() - began_s) * 1e3)
        steps.append((state, snapshot, decision, after))
        state = after
    return rules, steps, spent


async def noting_ms(rules: Settings, steps: list[Step]) -> float:
    """Median CPU milliseconds of noting a cycle on the loop, as long as no block is full."""
    kept, spent = DecisionLog(MemoryStore(), WallClock(), block_cycles=10**9), []
    for before, snapshot, decision, after in steps:
        began_s = time.process_time()
        kept.cycle(before, rules, snapshot, decision, after)
        spent.append((time.process_time() - began_s) * 1e3)
    return statistics.median(spent)


async def stored(rules: Settings, steps: list[Step]) -> tuple[MemoryStore, float]:
    """A store with the block, and the CPU milliseconds that all of it took, packing and writing included."""
    store = MemoryStore()
    kept = DecisionLog(store, WallClock())
    began_s = time.process_time()
    for before, snapshot, decision, after in steps:
        kept.cycle(before, rules, snapshot, decision, after)
    await kept.close()
    return store, (time.process_time() - began_s) * 1e3


def main() -> int:
    """Time it and print one JSON object as the last line with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evses", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rules, steps, control = minute(args.evses)
    step_ms = statistics.median(control)
    loop_ms = asyncio.run(noting_ms(rules, steps))
    store, whole_ms = asyncio.run(stored(rules, steps))
    (row,) = store.decision_blocks(0.0, 4e9)
    data = store.decision_block(row.id) or b""
    began_s = time.process_time()
    block = decode_block(data)
    equal = sum(not differs(item) for item in decide_again(block, row.id))
    replay_ms = (time.process_time() - began_s) * 1e3
    told = {
        "evses": args.evses, "cycles": len(steps), "control_step_ms": round(step_ms, 3), "loop_us": round(loop_ms * 1e3, 1),
        "loop_share": round(loop_ms / step_ms, 4), "all_ms_per_cycle": round(whole_ms / len(steps), 3),
        "all_share": round(whole_ms / len(steps) / step_ms, 3), "share_of_500_ms": round(whole_ms / len(steps) / 500.0, 5),
        "kb_a_minute": round(len(data) / 1e3, 1), "mb_a_day": round(len(data) * 1_440 / 1e6, 1), "equal": equal,
        "replay_cycles_per_s": round(len(steps) / replay_ms * 1e3), "encoded_again_same": encode_block(block) == data,
    }  # fmt: skip
    print(
        f"control step {step_ms:.3f} ms; the log takes {loop_ms * 1e3:.0f} us of the loop ({loop_ms / step_ms:.1%}) and"
    )
    share = whole_ms / len(steps) / step_ms
    print(f"{whole_ms / len(steps):.3f} ms of CPU a cycle in all ({share:.1%}); {told['mb_a_day']} MB a day.")
    print(f"{equal} of {len(steps)} cycles replayed to the same bits, {told['replay_cycles_per_s']} cycles a second.")
    if args.json:
        print(json.dumps(told))
    return 0 if equal == len(steps) else 1


if __name__ == "__main__":
    sys.exit(main())
