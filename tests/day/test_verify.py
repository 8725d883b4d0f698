"""Deterministic simulation: the same seed is the same run, a schedule survives being written down, and what the command prints
can be run again."""

import json
import math
import os
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from typer.testing import CliRunner

from gridtide.app.cli import app
from gridtide.control import guard
from gridtide.run.emulator.station import EmulatedStation
from gridtide.run.simloop import run_sim
from gridtide.run.verify import case as cases
from gridtide.run.verify.campaign import HEALED_S, QUIET_SHARE, WARM_S, _Run, campaign, run_case, smallest
from gridtide.run.verify.faults import BY_ID, CATALOGUE, Fault, Planned, read, schedule, spelt

EVSES = 2
SHORT_S = 30.0


# --- I17: determinism -------------------------------------------------------------------------------------------------
PLANNED = read("FT12@5+10:0~3,FT33a@8+4~5,FT11b@6+15:1~9")


def _trace(seed: int, loop_seed: int, planned: tuple[Planned, ...] = PLANNED) -> str:
    return run_sim(_Run(cases.draw(seed, SHORT_S, EVSES), planned, SHORT_S).go(), seed=loop_seed)


def test_the_same_seed_is_the_same_run() -> None:
    first, again = (run_case(3, SHORT_S, EVSES, PLANNED) for _ in range(2))
    assert len(first.trace) == 64
    assert first.trace == again.trace
    assert (first.violations, first.timings, first.gave_kwh) == (again.violations, again.timings, again.gave_kwh)


def test_another_site_or_fault_is_another_run() -> None:
    structlog.configure(processors=[_mute])
    traces = {_trace(3, 3), _trace(4, 3), _trace(3, 3, ()), _trace(3, 3, read(spelt(PLANNED).replace("@8+4", "@9+4")))}
    assert len(traces) == 4


def test_another_order_of_what_is_ready_at_once_is_another_run() -> None:
    """The trace holds what is sent, not only what is decided: chance in the order of messages would be seen."""
    structlog.configure(processors=[_mute])
    assert _trace(3, 3) == _trace(3, 3)
    assert len({_trace(3, loop_seed) for loop_seed in (3, 4, 5)}) == 3


def test_what_a_message_says_is_part_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same decisions at the same instants, and one word in one message is another."""
    structlog.configure(processors=[_mute])
    plain = _trace(3, 3, ())
    boot = EmulatedStation._boot

    def other(self: EmulatedStation) -> object:
        told = boot(self)
        return structs.replace(told, chargingStation=structs.replace(told.chargingStation, model="Another"))  # type: ignore[attr-defined]

    monkeypatch.setattr(EmulatedStation, "_boot", other)
    assert _trace(3, 3, ()) != plain


SAME_ELSEWHERE = f"""
from gridtide.run.verify.campaign import run_case
from gridtide.run.verify.faults import read
print(run_case(3, {SHORT_S}, {EVSES}, read({spelt(PLANNED)!r})).trace)
"""


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_process_with_another_hash_seed_has_the_same_run(hash_seed: str) -> None:
    """I17: no order of a set or a dictionary's hashes, no address and no clock of the machine is in a history."""
    there = subprocess.run(
        [sys.executable, "-c", SAME_ELSEWHERE], env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True,
        text=True, check=True, timeout=120,
    )  # fmt: skip
    assert there.stdout.strip() == run_case(3, SHORT_S, EVSES, PLANNED).trace


def _mute(_log: object, _name: str, _words: object) -> "dict[str, object]":
    raise structlog.DropEvent


def test_a_site_follows_from_its_seed() -> None:
    one, same, other = cases.draw(5, 600.0, 4), cases.draw(5, 600.0, 4), cases.draw(6, 600.0, 4)
    assert one.here.arrivals == same.here.arrivals != other.here.arrivals
    assert (one.here.building.cumulated_kws == same.here.building.cumulated_kws).all()
    connections = [case.settings.limits.transformer_kw for case in (one, same, other)]
    assert connections[0] == connections[1] != connections[2]
    assert one.versions == same.versions
    assert one.noise == same.noise != other.noise


# --- schedules --------------------------------------------------------------------------------------------------------
@st.composite
def planneds(draw: st.DrawFn) -> Planned:
    """Any fault of the catalogue, at instants of a tenth of a second."""
    fault = draw(st.sampled_from(CATALOGUE))
    tenths = st.integers(0, 99_999).map(lambda tenth: tenth / 10.0)
    row = draw(st.integers(0, 199)) if fault.by_row else -1
    return Planned(fault.id, draw(tenths), draw(tenths), row, draw(st.integers(0, 2**31 - 1)))


@given(st.lists(planneds(), max_size=8))
@settings(max_examples=150, deadline=None)
def test_a_schedule_is_read_as_it_was_spelt(planned: list[Planned]) -> None:
    assert read(spelt(planned)) == tuple(planned)


@pytest.mark.parametrize("at_s", [123_456.7, 1_000_000.0, 31_535_999.9])
def test_a_schedule_of_a_whole_year_is_read_as_it_was_spelt(at_s: float) -> None:
    planned = (Planned("FT01a", at_s, 5.5, -1, 3),)
    assert read(spelt(planned)) == planned


@given(st.integers(0, 2**40), st.integers(1, 30), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_a_drawn_schedule_keeps_its_promises(seed: int, evses: int, most: int) -> None:
    planned = schedule(seed, evses, WARM_S, 1000.0, most)
    assert planned == schedule(seed, evses, WARM_S, 1000.0, most)
    assert read(spelt(planned)) == planned
    for item in planned:
        fault = BY_ID[item.id]
        assert WARM_S <= item.at_s <= 1000.0
        assert item.at_s + item.lasts_s <= 1000.0 + 0.11
        assert (0 <= item.row < evses) if fault.by_row else item.row == -1
        now = [other for other in planned if other.at_s <= item.at_s < other.at_s + other.lasts_s]
        assert len(now) <= most
        slots = [(BY_ID[other.id].slot, other.row) for other in now]
        assert len(set(slots)) == len(slots)


def test_many_schedules_hold_every_fault() -> None:
    seen = {item.id for seed in range(300) for item in schedule(seed, 5, 0.0, 1200.0)}
    assert seen == {fault.id for fault in CATALOGUE}
    assert len(BY_ID) == len(CATALOGUE)


def test_faults_are_begun_and_end_within_their_bounds() -> None:
    for fault in CATALOGUE:
        low, high = fault.lasts_s
        assert 0.0 < low <= high
        assert fault.t_f_s >= 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FT99@1+1", "'FT99' is no fault of the catalogue: one of FT01a"),
        ("FT01a", "'FT01a' is no fault: write ID@seconds+duration"),
        ("FT01a@1", "is no fault: write"),
        ("FT01a@-1+1", "is no fault: write"),
        ("FT01a@1+-1", "is no fault: write"),
        ("FT01a@nan+1", "is no fault: write"),
        ("FT01a@1+inf", "is no fault: write"),
        ("FT01a@1+1:0", "FT01a has no row"),
        ("FT08a@1+1", "FT08a needs a row, as :0"),
        ("FT08a@1+1:x", "is no fault: write"),
        ("FT08a@1+1:0~", "is no fault: write"),
        ("FT01a@1+1;FT01b@1+1", "is no fault: write"),
    ],
)
def test_nonsense_is_refused_with_its_cure(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("+", r"\+")) as refused:
        read(f"FT01b@5+5,{text}")
    assert len(str(refused.value)) < 500


@given(st.one_of(st.text(max_size=60), st.text("FT0123456789abc@+:~,. ", max_size=40)))
@settings(max_examples=400, deadline=None)
def test_whatever_is_read_is_a_schedule_or_a_clear_refusal(text: str) -> None:
    found = _read_or_refusal(text)
    if isinstance(found, str):
        assert any(words in found for words in (" is no fault", "needs a row", "has no row"))
        return
    assert all(item.id in BY_ID and math.isfinite(item.at_s) and math.isfinite(item.lasts_s) for item in found)


def _read_or_refusal(text: str) -> tuple[Planned, ...] | str:
    try:
        return read(text)
    except ValueError as refused:
        return str(refused)


# --- the least that fails ---------------------------------------------------------------------------------------------
def _no_ramp(patch: pytest.MonkeyPatch) -> None:
    """Vehicles move at once."""
    patch.setattr(guard, "_hold_and_ramp", lambda *_: None)


@cache
def _giving_seed() -> int:
    """A small site in which vehicles give soon."""
    return next(seed for seed in range(1, 30) if run_case(seed, SHORT_S, EVSES, ()).gave_kwh > 0.0)


def test_faults_that_do_not_matter_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = _giving_seed()
    _no_ramp(monkeypatch)
    whole = run_case(seed, SHORT_S, EVSES, read("FT13b@12+4,FT11@14+4:0,FT15@15+3"))
    assert {item.invariant for item in whole.violations} == {"I5"}
    assert smallest(whole, EVSES).faults == ()


def test_another_process_finds_the_same() -> None:
    here, there = (list(campaign([2], 100.0, 1, processes)) for processes in (1, 2))
    ((faulty, quiet),) = there
    assert [(a.trace, b.trace) for a, b in here] == [(faulty.trace, quiet.trace)]
    assert (quiet.faults, quiet.duration_s) == ((), max(QUIET_SHARE * 100.0, 300.0))


# --- the command ------------------------------------------------------------------------------------------------------
def _run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["verify", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.output


def test_a_sound_site_gives_figures_and_no_violation() -> None:
    code, text, output = _run("--seeds", "1", "--hours", "0.1", "--evses", "2", "--processes", "1", "--json")
    assert code == 0, output
    found = json.loads(text)
    assert (found["seeds"], found["violations"], found["failing"], found["evses"]) == (1, 0, [], 2)
    planned = schedule(1, 2, WARM_S, 360.0 - HEALED_S - 15.0)
    assert found["faults"] == len(planned)
    assert sum(found["faults_by_id"].values()) == len(planned)
    assert found["site_hours"] == pytest.approx((360.0 + 300.0) / 3600.0, abs=0.01)
    assert found["quiet_hours"] == pytest.approx(300.0 / 3600.0, abs=0.01)
    assert found["site_s_per_cpu_s"] > 1.0


@pytest.mark.parametrize("evses", [10, EVSES])
def test_a_violation_ends_with_1_and_a_command_that_shows_it_again(evses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--seed", str(_giving_seed()), "--duration", "100", "--evses", str(evses), "--faults", "FT11@14+4:0"]
    _no_ramp(monkeypatch)
    code, text, output = _run(*words, "--json")
    assert code == 1, output
    (failing,) = json.loads(text)["failing"]
    assert failing["violations"][0]["invariant"] == "I5"
    program, verb, *again = shlex.split(failing["command"])
    assert (program, verb) == ("gridtide", "verify")
    code, text, output = _run(*again, "--json")
    assert code == 1, output
    assert json.loads(text)["failing"][0]["violations"] == failing["violations"]
    monkeypatch.undo()
    assert _run(*again)[0] == 0


def test_a_failing_run_is_told_in_words_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seed = _giving_seed()
    _no_ramp(monkeypatch)
    folder = tmp_path / "failing"
    words = ["--seed", str(seed), "--duration", "100", "--evses", str(EVSES), "--faults", "", "--save", str(folder)]
    code, text, _ = _run(*words)
    assert code == 1
    assert f"seed {seed} at " in text
    assert "I5: bay-" in text
    assert f"Again: gridtide verify --seed {seed} --duration 100" in text
    (kept,) = folder.iterdir()
    assert kept.name == f"I5-{seed}.json"
    assert json.loads(kept.read_bytes())["command"] in text


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--seed", "1", "--faults", "FT99@1+1"), "--faults: 'FT99' is no fault of the catalogue"),
        (("--seed", "1", "--faults", "FT08a@1+1:7", "--evses", "2"), "there are 2 rows, 0 to 1; give --evses"),
        (("--seeds", "0"), "--seeds"),
        (("--hours", "0.01"), "--hours"),
        (("--seed", "1", "--duration", "1"), "--duration"),
    ],
)
def test_nonsense_is_refused_before_anything_runs(words: tuple[str, ...], complaint: str) -> None:
    code, _, output = _run(*words)
    assert code != 0
    assert complaint in " ".join(output.replace("│", " ").split())


def test_the_catalogue_is_listed() -> None:
    code, text, _ = _run("--catalogue")
    assert code == 0
    lines = text.splitlines()
    assert len(lines) == len(CATALOGUE)
    for fault, line in zip(CATALOGUE, lines, strict=True):
        assert line.startswith(fault.id)
        assert fault.name in line
        assert fault.safe in line


def test_the_catalogue_is_listed_as_json() -> None:
    rows = json.loads(_run("--catalogue", "--json")[1])
    assert [row["id"] for row in rows] == [fault.id for fault in CATALOGUE]
    limits: dict[str, Fault] = BY_ID
    assert all(row["t_f_s"] == limits[row["id"]].t_f_s or math.isinf(limits[row["id"]].t_f_s) for row in rows)
