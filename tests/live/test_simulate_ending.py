"""Ctrl-C, and the sudden end of the program, leave none of the processes that play seeds."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

OFFICE = Path(__file__).parents[2] / "examples" / "office.toml"
COMMAND = (
    "env", "--default-signal=INT",  # what is started in the background by a shell ignores Ctrl-C
    sys.executable, "-m", "gridtide.app.cli", "simulate", str(OFFICE), "--days", "31", "--seeds", "9", "--processes", "2",
)  # fmt: skip
WAIT_S = 30.0
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found in /proc")


def children(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return {int(child) for child in listed.read_text(encoding="ascii").split()}


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def is_deaf(pid: int) -> bool:
    """Whether Ctrl-C does nothing to a process: the one that started it ends it."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines() if ":\t" in line
    )
    return bool((int(status["SigBlk"], 16) | int(status["SigIgn"], 16)) >> signal.SIGINT - 1 & 1)


def until(happened: bool, began_s: float) -> bool:
    if not happened and time.monotonic() - began_s > WAIT_S:
        pytest.fail("waited in vain")
    return happened


@pytest.mark.parametrize(
    ("number", "to_all", "code"), [(signal.SIGINT, True, 130), (signal.SIGINT, False, 130), (signal.SIGKILL, False, -9)]
)
def test_no_process_is_left(number: signal.Signals, to_all: bool, code: int) -> None:
    """`to_all`: as a terminal sends Ctrl-C, to the whole group."""
    program = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    began_s = time.monotonic()
    try:
        while not until(
            len(players := children(program.pid)) >= 3, began_s
        ):  # two players, and what tidies up after them
            time.sleep(0.05)
        assert all(is_deaf(pid) for pid in players)
        (os.killpg if to_all else os.kill)(program.pid, number)
        _, told = program.communicate(timeout=WAIT_S)
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
    assert program.returncode == code
    assert number != signal.SIGINT or b"Traceback" not in told
    began_s = time.monotonic()
    while not until(not any(is_there(pid) for pid in players), began_s):
        time.sleep(0.05)
