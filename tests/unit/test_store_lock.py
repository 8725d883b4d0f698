"""One site on one store: a second one is refused with a name, a file and a cure; a killed one leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gridtide.app.cli import app
from gridtide.run.store import SqliteStore
from gridtide.run.store.file import StoreHeldError, held_by_site
from tests.unit.test_run_command import site

NOW_S = 1_767_268_800.0
HOLDER = """
import sys, time
from pathlib import Path
from gridtide.run.store.file import held_by_site
with held_by_site(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_the_second_learns_file_holder_and_cure_and_a_kill_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    first = holder(path)
    try:
        with pytest.raises(StoreHeldError) as told, held_by_site(path):
            pass
        assert all(word in str(told.value) for word in (str(path), f"process {first.pid} ", "[store] path"))
        # Everybody else reads and writes beside it.
        store = SqliteStore.open(path, NOW_S)
        assert store.settings() == {}
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=10)
        assert first.stdout is not None
        first.stdout.close()
    with held_by_site(path):
        assert (tmp_path / "site.db.lock").read_text() == f"{os.getpid()}\n"
    assert (tmp_path / "site.db.lock").stat().st_mode & 0o777 == 0o600


def test_another_name_of_the_same_file_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "site.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "site.db")
    with held_by_site(tmp_path / "site.db"), pytest.raises(StoreHeldError), held_by_site(tmp_path / "link.db"):
        pass
    with held_by_site(tmp_path / "link.db"), held_by_site(tmp_path / "other.db"):
        pass


def test_a_second_run_on_other_ports_is_refused_before_it_touches_the_store(tmp_path: Path) -> None:
    file = site(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        file.write_text(file.read_text().replace(":18083", f":{probe.getsockname()[1]}"))
    words = ["run", str(tmp_path / "site.toml"), "--home", str(tmp_path / "home"), "--exit-after", "0"]
    with held_by_site(tmp_path / "gridtide.db"):
        told = CliRunner().invoke(app, words)
    assert told.exit_code == 2, told.output
    assert str(tmp_path / "gridtide.db") in told.stderr
    assert f"process {os.getpid()} " in told.stderr
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "gridtide.db").exists()
