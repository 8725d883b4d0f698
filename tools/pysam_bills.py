"""`make pysam`: bills of random tariffs against NREL PySAM, which lives in an environment of its own (.venv/pysam).

python -m tools.pysam_bills [--count 500] [--first 1] [--store FILE]

Every monthly bill and the year must agree within 0.01. `--store` writes a small set that the tests check without PySAM.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from tools.pysam_cases import Case, bill_of_case, generation_of, load_of, random_case

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv" / "pysam" / "bin" / "python"
TOLERANCE = 0.01


def asked(worker: subprocess.Popen[str], case: Case) -> list[float]:
    """PySAM's 12 monthly bills of a case."""
    sent = asdict(case) | {"load": load_of(case).tolist(), "generation": generation_of(case).tolist()}
    _pipe(worker.stdin).write(json.dumps(sent) + "\n")
    _pipe(worker.stdin).flush()
    line = _pipe(worker.stdout).readline()
    if not line:
        raise RuntimeError(f"PySAM gave no answer on case {case.seed}")
    return [float(item) for item in json.loads(line)]


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the worker was started without a pipe")
    return pipe


def difference(case: Case, theirs: list[float]) -> float:
    """Largest difference of a month or of the year; infinite where a figure is not one."""
    ours = [month.total for month in bill_of_case(case).months]
    year = bill_of_case(case).total
    ours[-1] += year - math.fsum(ours)  # PySAM puts the annual minimum on December
    found = [abs(a - b) for a, b in zip(ours, theirs, strict=True)] + [abs(year - math.fsum(theirs))]
    return max(found) if all(math.isfinite(d) for d in found) else math.inf


def main(arguments: list[str] | None = None) -> int:
    """Compare what the command line asks for; 1 when any bill differs."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=500)
    options.add_argument("--first", type=int, default=1, help="seed of the first case")
    options.add_argument("--store", type=Path, help="write cases and PySAM's bills to this file")
    chosen = options.parse_args(arguments)
    if not PYTHON.exists():
        print(f"{PYTHON.relative_to(ROOT)} is missing: run `make pysam`, which sets it up")
        return 2
    command = [str(PYTHON), str(Path(__file__).with_name("pysam_worker.py"))]
    began, worst, failed, kept = time.perf_counter(), 0.0, 0, []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        version = json.loads(_pipe(worker.stdout).readline())["version"]
        for seed in range(chosen.first, chosen.first + chosen.count):
            case = random_case(seed)
            theirs = asked(worker, case)
            apart = difference(case, theirs)
            worst = max(worst, apart)
            if apart > TOLERANCE:
                failed += 1
                print(
                    f"case {seed}: {apart:.4f} apart, PySAM {math.fsum(theirs):.2f}, ours {bill_of_case(case).total:.2f}"
                )
            kept.append(asdict(case) | {"bills": [round(item, 6) for item in theirs]})
        _pipe(worker.stdin).close()
    if chosen.store:
        _store(chosen.store, version, kept)
    print(
        f"PySAM {version}: {chosen.count} tariffs, {failed} apart by more than {TOLERANCE}, worst {worst:.1e}, "
        f"{time.perf_counter() - began:.0f} s"
    )
    return 1 if failed else 0


def _store(file: Path, version: str, kept: list[dict[str, Any]]) -> None:
    rows = ",\n".join(json.dumps(case) for case in kept)
    file.write_text(f'{{"made_by": "tools/pysam_bills.py", "pysam": "{version}", "cases": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    sys.exit(main())
