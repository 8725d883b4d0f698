"""The commands against the real server over sockets: what they change, what they say, how they end."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gridtide.app.cli import app
from tests.live.fake_server import TOKEN, Served, served

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def site() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.fixture
def run(site: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against the site with the default token file."""
    monkeypatch.setenv("GRIDTIDE_HOME", str(tmp_path))
    monkeypatch.setenv("GRIDTIDE_URL", site.url)
    monkeypatch.setenv("COLUMNS", "160")
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN + "\n")
    site.port.acts.clear()
    site.port.stopped = False
    site.port.limit_kw, site.port.buffer_kw = 450.0, 8.0
    return lambda *words: CliRunner().invoke(app, list(words))


def test_set_peak(site: Served, run: Run) -> None:
    done = run("set-peak", "--limit", "0.5MW", "--buffer", "50kW")
    assert done.exit_code == 0, done.stderr
    assert "Limit 500 kW, buffer 50 kW" in done.stdout
    assert site.port.acts == [("set_limit", 500.0, 50.0, "api")]


@pytest.mark.parametrize(
    ("words", "kept"), [(("--limit", "480kW"), (480.0, 8.0)), (("--buffer", "20 kW"), (450.0, 20.0))]
)
def test_set_peak_keeps_what_is_not_named(
    site: Served, run: Run, words: tuple[str, str], kept: tuple[float, float]
) -> None:
    assert run("set-peak", *words).exit_code == 0
    assert (site.port.limit_kw, site.port.buffer_kw) == kept


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--limit"),
        (("--limit", "500"), "unit"),
        (("--limit", "500mW"), "no unit of power"),
        (("--limit", "5kW", "--buffer", "1kW"), "limit_kw is 5"),
        (("--limit", "100kW", "--buffer", "100kW"), "buffer_kw is 100"),
    ],
)
def test_set_peak_refusals(site: Served, run: Run, words: tuple[str, ...], said: str) -> None:
    done = run("set-peak", *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert site.port.acts == []


def test_status(site: Served, run: Run) -> None:
    done = run("status")
    assert done.exit_code == 0, done.stderr
    assert "Harbour Office" in done.stdout
    assert "cs03/1" in done.stdout
    assert json.loads(run("status", "--json").stdout)["limit_kw"] == 450


def test_emergency_stop_and_status_tell_each_other(site: Served, run: Run) -> None:
    assert run("estop").exit_code == 0
    assert site.port.acts == [("estop", "api")]
    stopped = run("status")
    assert stopped.exit_code == 3
    assert "Emergency stop" in stopped.stdout
    assert run("status", "--json").exit_code == 3
    assert run("estop", "clear").exit_code == 0
    assert run("status").exit_code == 0
    assert run("estop", "perhaps").exit_code == 2
    assert len(site.port.acts) == 2


def test_estop_clear_while_the_button_is_in(site: Served, run: Run) -> None:
    site.port.stop_input = True
    try:
        done = run("estop", "clear")
    finally:
        site.port.stop_input = False
    assert done.exit_code == 2
    assert "release the button" in done.stderr


def test_explain(run: Run) -> None:
    done = run("explain", "cs03/1")
    assert done.exit_code == 0
    assert "Van 2" in done.stdout
    assert "Leaves at 14:50" in done.stdout
    assert json.loads(run("explain", "cs03/1", "--json").stdout)["bay"] == "Bay 3"
    unknown = run("explain", "cs99/1")
    assert unknown.exit_code == 2
    assert "cs99/1" in unknown.stderr


def test_telemetry(run: Run) -> None:
    assert len(run("telemetry").stdout.splitlines()) == 1
    done = run("telemetry", "--follow", "--json", "--count", "3")
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({row["t_s"] for row in rows}) == 3
    assert len(rows[0]["vehicles"]) == 12


def test_wrong_token_changes_nothing(site: Served, run: Run, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("w" * 43)
    done = run("estop")
    assert done.exit_code == 1
    assert "token" in done.stderr
    assert site.port.acts == []


def test_token_file_that_others_can_read_is_not_used(site: Served, run: Run, tmp_path: Path) -> None:
    (tmp_path / "token").chmod(0o644)
    done = run("estop")
    assert done.exit_code == 2
    assert "chmod 600" in done.stderr
    assert site.port.acts == []


def test_without_a_token_reads_work_here_and_writes_do_not(site: Served, run: Run, tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    assert run("status").exit_code == 0
    done = run("estop")
    assert done.exit_code == 2
    assert "does not exist" in done.stderr
    assert run("status", "--token-file", str(tmp_path / "none")).exit_code == 2


def test_site_that_is_not_there(run: Run) -> None:
    done = run("status", "--url", "http://127.0.0.1:1")
    assert done.exit_code == 1
    assert "does not answer" in done.stderr
