"""A while of a site in virtual time: no memory is kept, no queue grows (I19). `make soak` does seven days."""

from pathlib import Path

import msgspec

from gridtide.run.simloop import run_sim
from tools import soak


def test_forty_minutes_keep_no_memory(tmp_path: Path) -> None:
    readings = run_sim(soak.soak(2_400.0 / soak.DAY_S, 2, 7, 600.0, tmp_path), seed=1)
    assert len(readings) == 4
    assert readings[-1].cycles >= 4_790
    assert readings[-1].sessions >= 2, "vehicles come"
    # The first ten minutes fill what has a bound: history, latencies.
    assert soak.judge(readings[1:]) == []


def test_growth_is_found() -> None:
    first = soak.Reading(
        hours=24.0, rss_mib=100.0, objects=1_000, longest_queue=10, tasks=30, cycles=1, sessions=1, took_s=1.0
    )
    assert soak.judge([first, msgspec.structs.replace(first, rss_mib=109.0, objects=1_090)]) == []
    for changes in ({"rss_mib": 111.0}, {"objects": 1_101}, {"longest_queue": 10_001}, {"tasks": 36}):
        assert len(soak.judge([first, msgspec.structs.replace(first, **changes)])) == 1
