"""`make fuzz`: hostile inputs into every parser; nothing uncaught, nothing slow, no memory kept.

python -m tools.fuzz [--count 1000000] [--parser NAME ...] [--seed 1]
"""

from __future__ import annotations

import argparse
import base64
import random
import resource
import sys
import time
from dataclasses import dataclass, field

from tools.fuzz_inputs import mutated, tokenised
from tools.fuzz_parsers import PARSERS, Feed

LIMIT_S = 0.050
"""Longest CPU time one input may take."""
OWN_FILES: frozenset[str] = frozenset({"modbus-table", "site-config", "tariff", "urdb"})
OWN_FILE_LIMIT_S = 0.250
"""The same for the operator's own files: tomllib is quadratic in the length of a dotted key."""
RSS_LIMIT_MIB = 768
AGAIN = 5
"""A slow input is fed again so often: the machine's caches may have been cold, the parser must not be slow."""
KEPT = 20
"""Findings told in full."""


@dataclass
class Result:
    """What came out for one parser."""

    parser: str
    inputs: int = 0
    slowest_s: float = 0.0
    seconds: float = 0.0
    rss_mib: float = 0.0
    findings: list[str] = field(default_factory=list)


def run(parser: str, count: int, seed: int = 1, limit_s: float | None = None, held_mib: float = 0.0) -> Result:
    """Feed `count` inputs, the seeds first; the same seed gives the same inputs.

    `held_mib`: memory that the process had taken before for something else (`highest_mib`), which does not count.
    """
    if limit_s is None:
        limit_s = OWN_FILE_LIMIT_S if parser in OWN_FILES else LIMIT_S
    seeds, feed = PARSERS[parser]()
    source = random.Random(f"{parser} {seed}")
    tokens = [tokenised(item) for item in seeds]
    result, began = Result(parser), time.perf_counter()
    for number in range(count):
        data = seeds[number] if number < len(seeds) else mutated(source, seeds, tokens)
        taken_s = _fed(feed, data, result)
        if taken_s > limit_s:
            taken_s = min(taken_s, *(_fed(feed, data, result) for _ in range(AGAIN)))
            if taken_s > limit_s:
                _tell(result, f"took {taken_s * 1e3:.0f} ms", data)
        result.slowest_s = max(result.slowest_s, taken_s)
        result.inputs += 1
        if len(result.findings) >= KEPT:
            break
    result.seconds = time.perf_counter() - began
    result.rss_mib = highest_mib() - held_mib
    if result.rss_mib > RSS_LIMIT_MIB:
        result.findings.append(f"{result.rss_mib:.0f} MiB resident: more than {RSS_LIMIT_MIB}")
    return result


def highest_mib() -> float:
    """The process's highest memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def _fed(feed: Feed, data: bytes, result: Result) -> float:
    """Seconds of CPU one input took; what the parser must not raise becomes a finding."""
    began = time.thread_time()
    try:
        feed(data)
    except Exception as error:
        _tell(result, f"{type(error).__name__}: {str(error)[:120]}", data)
    return time.thread_time() - began


def _tell(result: Result, text: str, data: bytes) -> None:
    shown = base64.b64encode(data[:4096]).decode()
    result.findings.append(f"{text} on {len(data)} bytes, base64 {shown}")


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 1 when anything was found."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=1_000_000, help="inputs per parser")
    options.add_argument("--parser", choices=sorted(PARSERS), action="append", help="default: all")
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args(arguments)
    failed = 0
    for name in asked.parser or sorted(PARSERS):
        result = run(name, asked.count, asked.seed)
        failed += bool(result.findings)
        print(
            f"{name:16} {result.inputs:>9,} inputs  {len(result.findings)} found  slowest {result.slowest_s * 1e3:6.2f} ms  "
            f"{result.inputs / result.seconds:>8,.0f}/s  {result.rss_mib:4.0f} MiB",
            flush=True,
        )
        for finding in result.findings:
            print(f"  {finding}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
