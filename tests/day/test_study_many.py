"""One day of a yard with many seeds: over processes or a cluster it is what one process finds, and files say the same."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gridtide.app.cli import app
from gridtide.model.many import SPREAD_OF
from tests.day.test_study import SESSIONS, SMALL, TARIFF


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """Three vehicles, and a load whose texture the seed makes."""
    rows = "".join(f"2024-06-03T{h:02}:{m:02},{34 if h == 10 else 15}\n" for h in range(24) for m in (0, 15, 30, 45))
    site = SMALL.replace("texture = 0", "texture = 0.1").replace("bursts_per_h = 0", "bursts_per_h = 4")
    for name, text in (
        ("site.toml", site), ("tariff.toml", TARIFF), ("sessions.csv", SESSIONS), ("load.csv", "time,power_kw\n" + rows)
    ):  # fmt: skip
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / "site.toml"


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.stderr
    return done.stdout


def found(*words: str) -> Any:
    """What `--json` printed, but for the time it took."""
    result = json.loads(run(*words, "--json"))
    result.pop("elapsed_s")
    return result


def test_two_processes_find_what_one_finds(yard: Path) -> None:
    here = found("simulate", str(yard), "--seeds", "3", "--processes", "1")
    spread = found("simulate", str(yard), "--seeds", "3", "--processes", "2")
    assert spread == here
    assert [seed["seed"] for seed in here["seeds"]] == [1, 2, 3]
    assert len({seed["peak_kw_with"] for seed in here["seeds"]}) == 3, "seeds differ"
    alone = found("simulate", str(yard), "--seed", "2")
    second = here["seeds"][1]
    assert second["saving"] == alone["bill_without"] - alone["bill_with"]
    same = set(second) & set(alone)
    assert len(same) > 10
    assert {name: second[name] for name in same} == {name: alone[name] for name in same}


def test_the_spread_is_that_of_the_seeds_and_is_exported(yard: Path, tmp_path: Path) -> None:
    text = run("simulate", str(yard), "--seeds", "2", "--processes", "1", "--export", str(tmp_path / "out"))
    assert "Written: " in text
    files = {}
    for name in ("seeds", "spreads"):
        with (tmp_path / "out" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            files[name] = list(csv.DictReader(file))
    assert [row["figure"] for row in files["spreads"]] == list(SPREAD_OF)
    peaks = sorted(float(row["peak_kw_with"]) for row in files["seeds"])
    first = files["spreads"][0]
    assert (float(first["min"]), float(first["max"])) == (peaks[0], peaks[1])
    assert float(first["mean"]) == pytest.approx(sum(peaks) / 2.0)


def test_a_study_is_exported_as_it_is_told(yard: Path, tmp_path: Path) -> None:
    run("simulate", str(yard), "--export", str(tmp_path / "day.csv"))
    told = found("simulate", str(yard))
    cells = dict(told["wear_range"])
    assert cells["NMC_Gr_75Ah_A"] == pytest.approx(told["discharged_kwh"] * 150.0 * 5.3e-5 / 0.2)
    before, after = (sum(item[name] for item in told["cycles"]) for name in ("without", "with_"))
    assert after > before + 0.02 > 0.02, "what is given is cycled on top of what drivers need"
    with (tmp_path / "day-intervals.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["with_kw"]) for row in rows] == told["series"]["with_kw"]
    assert (rows[0]["start"], rows[-1]["start"]) == ("2024-06-03T00:00:00+02:00", "2024-06-03T23:45:00+02:00")
    with (tmp_path / "day-figures.csv").open(encoding="utf-8", newline="") as file:
        (figures,) = csv.DictReader(file)
    assert float(figures["peak_kw_clairvoyant"]) == told["peak_kw_clairvoyant"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seeds", "2", "--seed", "1"), "leave out --seed and --html"),
        (("--processes", "2"), "give --seeds, too"),
        (("--export-format", "csv"), "give --export, too"),
        (("--export", "x.csv", "--export-format", "parquet"), "give one of the two"),
        (("--seeds", "2", "--limit", "-3"), "peak.limit_kw = -3"),
    ],
)
def test_what_does_not_go_together_is_told_at_once(yard: Path, words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["simulate", str(yard), *words])
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_cluster_finds_the_same(yard: Path) -> None:
    distributed = pytest.importorskip("distributed")
    local = {"processes": False, "dashboard_address": None, "protocol": "tcp", "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, **local) as cluster:
        there = found("simulate", str(yard), "--seeds", "2", "--dask", cluster.scheduler_address)
    assert there == found("simulate", str(yard), "--seeds", "2", "--processes", "1")
