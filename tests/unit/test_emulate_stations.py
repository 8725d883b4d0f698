"""`gridtide emulate stations`: options that cannot be meant are told with their cure; a plan is cut without loss."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gridtide.app.cli import app
from gridtide.app.commands.emulate_stations import certified, check_access, check_files, faults_of, identities
from gridtide.run.credentials import CredentialError
from gridtide.run.emulator.dialling import Access, client_context
from gridtide.run.emulator.fleet import FAULTS, Count, FleetPlan, fleet_world, shares

WS, WSS = "ws://127.0.0.1:1/ocpp", "wss://127.0.0.1:1/ocpp"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--profile", "1"], "--password-env"),
        (["--profile", "1", "--password-env", "NOT_SET_ANYWHERE"], "--password-env"),
        (["--profile", "0", "--password-env", "X"], "no password"),
        (["--profile", "2", "--password-env", "X"], "wss://"),
        (["--profile", "0", "--csms", WSS], "choose profile 2"),
        (["--profile", "3", "--csms", WSS], "--certificates"),
        (["--profile", "0", "--certificates", "."], "--profile 3"),
        (["--profile", "2", "--csms", WSS, "--ca", "missing.pem"], "missing.pem"),
        (["--profile", "0", "--fault", "gremlins=1"], "gremlins"),
        (["--profile", "0", "--fault", "silent=2"], "silent=2"),
        (["--profile", "0", "--fault", "silent"], "share"),
        (["--profile", "0", "--id-prefix", "a b"], "--id-prefix"),
        (["--profile", "0", "--id-prefix", "x" * 50], "--id-prefix"),
        (["--profile", "0", "--version", "1.6"], "--version"),
        (["--profile", "0", "--model", "magic"], "--model"),
        (["--profile", "0", "--csms", "http://x"], "--csms"),
    ],
)
def test_options_that_cannot_be_meant(options: list[str], words: str) -> None:
    told = CliRunner().invoke(app, ["emulate", "stations", "--exit-after", "0", "--csms", WS, *options])
    assert told.exit_code == 2, told.output
    assert words in told.output


def test_nobody_home_is_exit_code_1_and_told_in_json() -> None:
    options = ["--profile", "0", "--count", "2", "--csms", "ws://127.0.0.1:9/none", "--exit-after", "0.3", "--json"]
    told = CliRunner().invoke(app, ["emulate", "stations", *options])
    assert told.exit_code == 1
    assert '"stations":2,"connected":0' in told.stdout


def test_passwords_come_from_a_file_or_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "passwords"
    file.write_text("bay-1 secret-one\nbay-2 secret-two\n")
    file.chmod(0o600)
    assert identities(1, "X-", 1, file, None) == (("bay-1",), {"bay-1": "secret-one", "bay-2": "secret-two"})
    with pytest.raises(ValueError, match="holds 2 stations"):
        identities(3, "X-", 1, file, None)
    with pytest.raises(ValueError, match="one of them"):
        identities(1, "X-", 1, file, "HOME")
    monkeypatch.setenv("SHARED", "one-for-all")
    assert identities(2, "X-", 2, None, "SHARED")[1] == {"X-00001": "one-for-all", "X-00002": "one-for-all"}
    assert identities(1, "X-", 0, None, None) == (("X-00001",), {})


def test_without_a_count_the_files_say_which_stations_there_are(tmp_path: Path) -> None:
    """A site of three stations needs no --count; stations of profile 3 bear the names the site knows, not numbers."""
    file = tmp_path / "passwords"
    file.write_text("bay-1 secret-one\nbay-2 secret-two\n")
    file.chmod(0o600)
    assert identities(None, "X-", 1, file, None)[0] == ("bay-1", "bay-2")
    assert len(identities(None, "X-", 0, None, None)[0]) == 10
    with pytest.raises(ValueError, match=r"no IDENTITY\.crt"):
        certified(tmp_path)
    for name in ("hall-2.crt", "hall-1.crt", "hall-1.key"):
        (tmp_path / name).touch(mode=0o600)
    assert certified(tmp_path) == ("hall-1", "hall-2")
    options = ["--profile", "3", "--csms", WSS, "--certificates", str(tmp_path), "--exit-after", "0"]
    told = CliRunner().invoke(app, ["emulate", "stations", *options])
    assert told.exit_code == 2
    assert "hall-2.key" in told.output


def test_who_cannot_come_in_is_told_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARED", "one-for-all")
    options = ["--count", "1", "--csms", "ws://127.0.0.1:9/none", "--exit-after", "0.2", "--password-env", "SHARED"]
    told = CliRunner().invoke(app, ["emulate", "stations", *options])
    assert told.exit_code == 1
    assert "No station was accepted" in told.stderr
    assert "passwords" in told.stderr


@pytest.mark.parametrize(
    ("period", "meter_s", "step_s", "tick_s"), [(1.0, 1, 0.5, 0.5), (1.0, 60, 1.0, 5.0), (0.2, 1, 0.2, 0.5)]
)
def test_meters_report_as_often_as_they_are_told(
    monkeypatch: pytest.MonkeyPatch, period: float, meter_s: int, step_s: float, tick_s: float
) -> None:
    """A step as long as the interval would leave out every other report, and the site calls a station silent after 2 s."""
    plans: list[FleetPlan] = []

    def spread(plan: FleetPlan, *_: object) -> Count:
        plans.append(plan)
        return Count(1, 1, 1, 0, 0.0, 0)

    monkeypatch.setattr("gridtide.run.emulator.fleet_processes.run_spread", spread)
    options = ["--profile", "0", "--count", "1", "--csms", WS, "--period", str(period), "--meter-period", str(meter_s)]
    assert CliRunner().invoke(app, ["emulate", "stations", *options]).exit_code == 0
    assert (plans[0].period_s, plans[0].tick_s) == (step_s, tick_s)


def test_every_certificate_and_key_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "a.crt").touch()
    check_files(None, ("a",))
    with pytest.raises(ValueError, match=r"a\.key"):
        check_files(tmp_path, ("a",))
    (tmp_path / "a.key").touch(mode=0o644)
    check_files(tmp_path, ("a",))
    with pytest.raises(CredentialError, match="chmod 600"):
        client_context(Access(3, certificate=tmp_path / "a.crt", key=tmp_path / "a.key"))
    assert client_context(Access(1)) is None
    check_access(WSS, 3, None, tmp_path)


def test_faults_have_a_share_each() -> None:
    assert faults_of([f"{name}=0.5" for name in FAULTS]) == dict.fromkeys(FAULTS, 0.5)


def plan(count: int, **changed: object) -> FleetPlan:
    names = tuple(f"s{number}" for number in range(count))
    told = {"csms": WS, "version": "2.1", "profile": 1, "identities": names, "passwords": dict.fromkeys(names, "x")}
    return FleetPlan(**(told | changed))  # type: ignore[arg-type]


@given(st.integers(1, 60), st.integers(1, 9))
def test_a_fleet_is_cut_into_processes_without_loss(count: int, processes: int) -> None:
    whole = plan(count)
    parts = shares(whole, processes)
    assert len(parts) == min(count, processes)
    assert sorted(name for part in parts for name in part.identities) == sorted(whole.identities)
    assert all(set(part.passwords) == set(part.identities) for part in parts)
    assert sum(part.ramp_per_s for part in parts) <= whole.ramp_per_s + 1e-9


def test_counts_add_up() -> None:
    assert Count(1, 2, 3, 4, 5.5, 6).plus(Count(1, 1, 1, 1, 1.0, 1)) == Count(2, 3, 4, 5, 6.5, 7)


def test_vehicles_come_after_their_station_and_lie_on_the_plants_grid() -> None:
    whole = plan(40, ramp_per_s=2.0, stay_s=600.0)
    here, plant = fleet_world(whole, 1_000.0, random.Random(1))
    first = {item.row: item for item in reversed(here.arrivals)}
    assert len(first) == 40
    for row, item in first.items():
        assert item.arrived_s >= 1_000.0 + row / 2.0 + 1.0
    assert all((item.arrived_s - 1_000.0) % 1.0 == 0.0 and item.departs_s > item.arrived_s for item in here.arrivals)
    assert (plant.occupant == -1).all()
