"""The OCPP benches run: few stations, no limits, but nothing lost, doubled, refused or left unanswered."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def quick(script: str, *more: str) -> dict[str, Any]:
    """The JSON line of a smoke run."""
    command = [sys.executable, str(ROOT / "bench" / script), "--quick", "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("part", ["cost", "rate", "idle", "tls"])
def test_cost_of_a_message(part: str) -> None:
    found = quick("csms.py", "--only", part)[part]
    if part == "cost":
        assert all(
            found[kind]["errors"] == 0 and found[kind]["us_per_message"] > 0.0 for kind in ("echo", "ours", "ocpp")
        )
    elif part == "rate":
        assert (found["unanswered"], found["call_errors"], found["links_lost"]) == (0, 0, 0)
    else:
        assert found["online"] == (20 if part == "idle" else 10)


def test_storm_loses_and_doubles_nothing() -> None:
    found = quick("storm.py")
    assert (found["lost"], found["doubled"], found["online"], found["call_errors"]) == (0, 0, 50, 0)


def test_a_fleet_command_reaches_all_who_read() -> None:
    found = quick("fleet_command.py")
    assert (found["missing"], found["stations"], found["hung"]) == (0, 20, 2)


def test_a_flood_of_bad_logins_is_answered_and_good_stations_get_in() -> None:
    found = quick("logins.py")
    assert (sum(found["answers"].values()), set(found["answers"])) == (2_000, {"401", "429"})
    assert found["good_connects"] > 0
