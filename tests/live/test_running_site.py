"""`gridtide run` as an installer uses it: emulated meter and stations in processes of their own, kill -9, a pulled meter."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SITE = """
[site]
name = "Kill test"
timezone = "Europe/Berlin"
[grid]
transformer_kw = 900
[peak]
limit_kw = 450
[drivers]
accept_unknown = true
[[stations]]
id = "bay"
count = 2
current = "dc"
charge_kw = 11
discharge_kw = 11
ocpp = "2.1"
dialect = "v21_setpoint"
[meter]
host = "127.0.0.1"
port = {meter}
register = [
  {{ name = "power_kw", address = 0, kind = "int32", unit = "W" }},
  {{ name = "import_kwh", address = 2, kind = "float64", unit = "kWh" }},
]
[tariff]
file = "builtin:tariff"
[server]
web = "127.0.0.1:{web}"
ocpp = "127.0.0.1:{ocpp}"
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """The processes of one site, each ended by its own pid."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.meter, self.ocpp, self.web = _free_port(), _free_port(), _free_port()
        self.file = folder / "site.toml"
        self.file.write_text(SITE.format(meter=self.meter, ocpp=self.ocpp, web=self.web))
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        log = (self.home / f"{len(self.processes)}.log").open("wb")
        environment = {**os.environ, "GRIDTIDE_HOME": str(self.home)}
        command = [sys.executable, "-m", "gridtide.app.cli", *words, "--exit-after", "90"]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.processes.append(process)
        return process

    def serve(self) -> subprocess.Popen[bytes]:
        return self.start("run", str(self.file), "--home", str(self.home))

    def get(self, path: str) -> Any:
        token = (self.home / "token").read_text().strip() if (self.home / "token").exists() else ""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.web}/api/v1/{path}")
        asked.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(asked, timeout=2) as answer:
            return json.load(answer)

    def view(self) -> Any:
        try:
            return self.get("view")
        except OSError:
            return {}

    def wait(self, what: Callable[[Any], bool], within_s: float = 30.0) -> Any:
        ends = time.monotonic() + within_s
        while time.monotonic() < ends:
            view = self.view()
            if view and what(view):
                return view
            time.sleep(0.1)
        logs = "\n".join(path.read_text(errors="replace")[-800:] for path in sorted(self.home.glob("*.log")))
        raise AssertionError(f"not within {within_s} s; last view {str(view)[:600]}\n{logs}")

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        token = str(self.home / "token")
        command = [sys.executable, "-m", "gridtide.app.cli", *words, "--url", f"http://127.0.0.1:{self.web}"]
        return subprocess.run([*command, "--token-file", token], capture_output=True, text=True, timeout=20)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(timeout=10)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    site = Running(tmp_path)
    try:
        yield site
    finally:
        site.stop()


def _link(view: Any, name: str) -> str:
    return str(next(link["state"] for link in view["links"] if link["name"] == name))


@pytest.mark.xdist_group("processes")
def test_limit_survives_kill_9_and_a_pulled_meter_is_told(running: Running) -> None:
    meter = running.start("emulate", "meter", "--port", str(running.meter))
    first = running.serve()
    running.wait(lambda view: _link(view, "Meter") == "ok")
    running.start(
        "emulate", "station", "--csms", f"ws://127.0.0.1:{running.ocpp}/ocpp",
        "--passwords", str(running.home / "station-passwords.txt"), "--model", "fast",
    )  # fmt: skip
    running.wait(lambda view: _link(view, "Stations") == "ok" and all(v["soc"] for v in view["vehicles"]))

    done = running.command("set-peak", "--limit", "500kW", "--buffer", "40kW")
    assert done.returncode == 0, done.stderr
    changed = running.wait(lambda view: view["limit_kw"] == 500.0, within_s=2.0)
    assert changed["buffer_kw"] == 40.0

    first.kill()
    first.wait(timeout=10)
    running.serve()
    restarted = running.wait(lambda view: _link(view, "Meter") == "ok")
    assert (restarted["limit_kw"], restarted["buffer_kw"]) == (500.0, 40.0)
    assert any("peak" in json.dumps(entry) for entry in running.get("audit"))
    running.wait(lambda view: _link(view, "Stations") == "ok" and all(v["soc"] for v in view["vehicles"]))

    meter.kill()
    meter.wait(timeout=10)
    lost = running.wait(lambda view: view["state"] == "safe", within_s=5.0)
    assert "meter" in lost["sentence"].lower()
    running.wait(lambda view: any(event["code"] == "meter_stale" for event in view["events"]), within_s=5.0)
    assert running.command("status").returncode == 3


@pytest.mark.xdist_group("processes")
def test_a_station_without_its_password_is_refused(running: Running) -> None:
    running.start("emulate", "meter", "--port", str(running.meter))
    running.serve()
    running.wait(lambda view: _link(view, "Meter") == "ok")
    wrong = running.home / "wrong.txt"
    wrong.write_text("bay-1 this-is-not-the-password\n")
    wrong.chmod(0o600)
    running.start("emulate", "station", "--csms", f"ws://127.0.0.1:{running.ocpp}/ocpp", "--passwords", str(wrong))
    view = running.wait(lambda view: any(event["code"] == "security" for event in view["events"]))
    assert _link(view, "Stations") == "lost"
    assert "bay-1" in next(event["text"] for event in view["events"] if event["code"] == "security")
