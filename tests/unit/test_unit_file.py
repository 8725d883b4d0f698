"""The systemd unit fits the program: its times, its command, its paths."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from gridtide.app import running
from gridtide.app.cli import app
from gridtide.app.settings import Watchdog
from gridtide.run import live

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = (FOLDER / "gridtide.service").read_text()


def value(key: str) -> str:
    found = re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)
    assert len(found) == 1, (key, found)
    return str(found[0])


def test_its_times_leave_the_program_its_own() -> None:
    assert value("Type") == "notify"
    watchdog_s = float(value("WatchdogSec"))
    assert watchdog_s > Watchdog().exit_after_s
    # Fed three times per timeout, and no more after so long without a cycle.
    assert watchdog_s / 3.0 + live.HEALTHY_S < watchdog_s
    assert float(value("TimeoutStopSec")) > running.END_S > live.STOP_S


def test_it_starts_what_there_is() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for key in ("ExecStartPre", "ExecStart"):
        program, name, *words = shlex.split(value(key))
        assert program.endswith("/bin/gridtide")
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
    assert value("ExecStart").endswith(f"--home /var/lib/{value('StateDirectory')}")
    assert "2" in value("RestartPreventExitStatus").split()


def test_its_user_is_made_and_has_no_rights_beside() -> None:
    user = value("User")
    assert re.search(rf"^u {user} ", (FOLDER / "gridtide.sysusers").read_text(), re.MULTILINE)
    for key, wanted in (("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("CapabilityBoundingSet", "")):
        assert value(key) == wanted


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_reads_it(tmp_path: Path) -> None:
    copy = tmp_path / "gridtide.service"
    copy.write_text(UNIT.replace("/opt/gridtide/bin/gridtide", "/bin/true"))
    told = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=30)
    assert "gridtide.service" not in told.stderr
    assert told.returncode == 0, told.stderr
