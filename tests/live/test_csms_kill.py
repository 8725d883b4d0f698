"""kill -9 under load on a real server and store: nothing acknowledged is lost or doubled, what was under way is known again."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "bench/kill.py"


def test_thirty_kills_under_load_lose_and_double_nothing() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--points", "30", "--stations", "8", "--seed", "3", "--json"],
        capture_output=True, text=True, timeout=120.0, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    kinds = ("lost", "doubled", "gaps", "not_resumed", "call_errors", "told_damaged")
    assert {kind: found[kind] for kind in kinds} == dict.fromkeys(kinds, 0)
    assert found["points"] == 30
    assert found["acknowledged"] > 300, "there was load"
    assert found["listening_max_s"] <= 2.0
    assert found["repeated"] > 0, "some were killed before their answer"
