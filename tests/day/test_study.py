"""Three days of the office: what a study reports must agree with itself, with the drivers' needs and with the command line."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs
from typer.testing import CliRunner

from gridtide.app.cli import app
from gridtide.app.config import load_site
from gridtide.app.scenario import study_inputs
from gridtide.app.toml_lines import KeyPath
from gridtide.model.study import BILL_PARTS, StudyResult
from gridtide.run import fast
from gridtide.run.study import study

ROOT = Path(__file__).parents[2]
OFFICE = ROOT / "examples" / "office.toml"
NEEDED = (
    "peak_kw_building", "peak_kw_without", "peak_kw_with", "peak_kw_clairvoyant", "limit_kw", "bill_without", "bill_with",
    "discharged_kwh", "drivers_short", "energy_residual_kwh", "failed_shaves",
)  # fmt: skip
SMALL = """
[site]
name = "Yard"
timezone = "Europe/Berlin"
[grid]
transformer_kw = 100
[peak]
limit_kw = 30
buffer_kw = 10
[[stations]]
id = "bay"
count = 3
charge_kw = 11
discharge_kw = 11
current = "dc"
ocpp = "2.1"
dialect = "v21_setpoint"
[load]
file = "load.csv"
texture = 0
bursts_per_h = 0
[sessions]
file = "sessions.csv"
[tariff]
file = "tariff.toml"
[study]
start = 2024-06-03
days = 1
"""
TARIFF = """
name = "Flat"
currency = "EUR"
timezone = "Europe/Berlin"
[[season]]
name = "all"
demand_price_per_kw = 10.0
[[season.price]]
steps = 0.20
"""
SESSIONS = """arrival,departure,energy_kwh
2024-06-03T07:50,2024-06-03T17:00,20
2024-06-03T08:05,2024-06-03T16:30,15
2024-06-03T16:00,2024-06-03T16:30,40
"""


@pytest.fixture(scope="module")
def result() -> StudyResult:
    """6 to 8 May 2019, with the highest load of the month."""
    shares: list[float] = []
    config = load_site(OFFICE, {("study", "start"): "2019-05-06", ("study", "days"): 3})
    found = study(study_inputs(config), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    return found


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """A small site with its own load, sessions and tariff."""
    rows = "".join(f"2024-06-03T{h:02}:{m:02},{34 if h == 10 else 15}\n" for h in range(24) for m in (0, 15, 30, 45))
    for name, text in (
        ("site.toml", SMALL), ("tariff.toml", TARIFF), ("sessions.csv", SESSIONS), ("load.csv", "time,power_kw\n" + rows)
    ):  # fmt: skip
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / "site.toml"


def test_drivers_come_first_and_energy_is_kept(result: StudyResult) -> None:
    assert result.drivers_short == 0
    assert result.energy_residual_kwh < 1e-6
    assert result.sessions > 80
    assert 0 < len(result.departures) <= result.sessions
    assert all(d.soc >= d.target_soc - 0.005 for d in result.departures)


def test_the_peak_lies_between_clairvoyant_and_reference(result: StudyResult) -> None:
    assert result.peak_kw_clairvoyant <= result.peak_kw_with + 1e-6
    assert result.peak_kw_with <= result.limit_kw * 1.001
    assert result.peak_kw_with < result.peak_kw_building < result.peak_kw_without
    gained = (result.peak_kw_without - result.peak_kw_with) / (result.peak_kw_without - result.peak_kw_clairvoyant)
    assert result.reduction_of_clairvoyant == pytest.approx(gained)
    assert result.failed_shaves == result.intervals_over == 0


def test_series_and_peaks_are_the_same_thing(result: StudyResult) -> None:
    series = result.series
    assert len(series.start_s) == 3 * 96 == len(series.with_kw) == len(series.without_kw) == len(series.building_kw)
    assert set(np.diff(series.start_s)) == {900.0}
    assert max(series.with_kw) == result.peak_kw_with
    assert max(series.without_kw) == result.peak_kw_without
    # Energy: what the vehicles took and gave is the difference to the building.
    net_kwh = (sum(series.with_kw) - sum(series.building_kw)) / 4.0
    assert net_kwh == pytest.approx(result.charged_kwh - result.discharged_kwh, abs=1e-6)


def test_the_bill_is_its_lines(result: StudyResult) -> None:
    assert tuple(line.label for line in result.bill) == BILL_PARTS
    assert sum(line.without for line in result.bill) == pytest.approx(result.bill_without)
    assert sum(line.with_ for line in result.bill) == pytest.approx(result.bill_with)
    demand, wear = result.bill[2], result.bill[5]
    assert demand.without == pytest.approx(result.peak_kw_without * result.demand_price_per_kw)
    assert demand.with_ == pytest.approx(result.peak_kw_with * result.demand_price_per_kw)
    assert (wear.without, wear.with_) == (0.0, result.wear_cost)
    assert result.wear_cost == pytest.approx(result.discharged_kwh * 0.06)
    assert result.discharged_kwh > 0.0
    assert result.starts > 0


def test_the_fan_rises_and_every_number_is_finite(result: StudyResult) -> None:
    fan = result.soc_fan
    bands = np.array([fan.q05, fan.q25, fan.q50, fan.q75, fan.q95])
    assert bands.shape == (5, len(fan.hour))
    assert (np.diff(bands, axis=0) >= 0.0).all()
    assert bands.min() >= result.floor_soc * 0.5
    assert "nan" not in json.dumps(numbers(msgspec.to_builtins(result)), allow_nan=False)


def numbers(value: Any) -> Any:
    """Fails where a number is not finite."""
    if isinstance(value, float):
        assert math.isfinite(value)
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    for child in children:
        numbers(child)
    return value


def test_the_step_hardly_matters_on_the_worst_morning() -> None:
    """29 May, where the building alone is highest (10:00): steps of 1 s and of 60 s give the same peak within 1 %."""
    peaks = []
    for step_s in (60, 1):
        changes: dict[KeyPath, object] = {
            ("study", "start"): "2019-05-29",
            ("study", "days"): 1,
            ("study", "step_s"): step_s,
        }
        inputs = study_inputs(load_site(OFFICE, changes))
        begin_s, end_s = inputs.start_s + 8.5 * 3600.0, inputs.start_s + 10.75 * 3600.0
        run_ = fast.controlled(inputs.world, inputs.settings, begin_s, end_s, float(step_s))
        assert run_.plant.ledger.ac_out_kwh > 5.0
        peaks.append(run_.grid_kw.reshape(9, -1).mean(axis=1).max())
    assert peaks[1] == pytest.approx(peaks[0], rel=0.01)


def test_the_same_seed_is_the_same_study(yard: Path) -> None:
    inputs = study_inputs(load_site(yard))
    first, second = (structs.replace(study(inputs), elapsed_s=0.0) for _ in range(2))
    assert first == second


def test_a_site_with_its_own_files(yard: Path) -> None:
    """Three vehicles; 34 kW from ten to eleven, limit 30: they give about 4 kWh, and get what they need."""
    found = study(study_inputs(load_site(yard)))
    assert found.currency == "EUR"
    assert found.peak_kw_building == pytest.approx(34.0)
    assert found.peak_kw_with <= 30.03
    assert 3.5 < found.discharged_kwh < 6.0
    assert found.drivers_short == 0
    hurried = found.departures[[round(d.departed_s - d.arrived_s) for d in found.departures].index(1800)]
    assert hurried.need_kwh == pytest.approx(11.0 * (1800.0 - 30.0) / 3600.0)


def test_a_reader_of_told_departures_sees_that_drivers_leave_early(yard: Path) -> None:
    text = SESSIONS.replace("energy_kwh", "energy_kwh,told_departure").replace(",15", ",15,2024-06-03T23:00")
    text = text.replace(",20\n", ",20,\n").replace(",40\n", ",40,\n")
    (yard.parent / "sessions.csv").write_text(text, encoding="utf-8")
    told = study_inputs(load_site(yard, {("sessions", "departure"): "told"})).world.arrivals[1]
    known = study_inputs(load_site(yard)).world.arrivals[1]
    assert told.told_departs_s == told.departs_s + 6.5 * 3600.0
    assert known.told_departs_s == known.departs_s


def test_battery_pv_and_rolling_windows(yard: Path) -> None:
    (yard.parent / "pv.csv").write_text(
        (yard.parent / "load.csv").read_text().replace(",15", ",2").replace(",34", ",2")
    )
    extra = '[pv]\nfile = "pv.csv"\n[battery]\ncapacity_kwh = 20\ncharge_kw = 10\ndischarge_kw = 10\n[demand]\nsub_intervals = 3\n'
    yard.write_text(SMALL + extra, encoding="utf-8")
    (yard.parent / "tariff.toml").write_text(TARIFF.replace("[[season]]", '[demand]\nkind = "rolling"\n[[season]]', 1))
    found = study(study_inputs(load_site(yard)))
    assert found.vehicles == 3
    assert found.peak_kw_building == pytest.approx(32.0)
    assert len(found.series.start_s) == 288 - 2
    assert found.peak_kw_clairvoyant <= found.peak_kw_with + 1e-6
    assert found.peak_kw_with <= 30.03


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.stdout, done.stderr


def test_simulate_prints_json(yard: Path) -> None:
    code, out, _ = run("simulate", str(yard), "--json", "--limit", "31", "--mode", "threshold")
    found = json.loads(out)
    assert code == 0
    assert set(NEEDED) <= set(found)
    assert (found["limit_kw"], found["mode"]) == (31.0, "threshold")


def test_simulate_writes_a_report_and_a_page(yard: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, _ = run("simulate", str(yard), "--html", str(page))
    assert code == 0
    assert "Total" in out
    assert "limit" in out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_files_given_as_options(yard: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("time,power_kw\n2024-06-03T00:00,1\n2024-06-03T00:15,oops\n", encoding="utf-8")
    worse = tmp_path / "worse.csv"
    worse.write_text("arrival,departure,energy_kwh\n2024-06-03T08:00,2024-06-03T07:00,3\n", encoding="utf-8")
    code, out, err = run("simulate", str(yard), "--load", str(bad), "--sessions", str(worse))
    assert (code, out) == (2, "")
    assert "bad.csv:3: power_kw" in err
    assert "worse.csv:2: departure" in err


def test_exit_code_of_a_wrong_option_and_of_a_wrong_file(yard: Path) -> None:
    code, _, err = run("simulate", str(yard), "--limit", "-3", "--step", "7")
    assert code == 2
    assert "peak.limit_kw = -3" in err
    assert "study.step_s = 7" in err
    code, _, err = run("check", str(yard.parent / "none.toml"))
    assert code == 2
    assert "cannot be read" in err


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.name)
def test_check_passes_the_examples(path: Path) -> None:
    code, out, err = run("check", str(path))
    assert (code, err) == (0, "")
    assert "right" in out


def test_demand_must_agree_with_the_tariff(yard: Path) -> None:
    (yard.parent / "tariff.toml").write_text(TARIFF.replace("[[season]]", "[demand]\ninterval_min = 30\n[[season]]", 1))
    code, _, err = run("check", str(yard))
    assert code == 2
    assert "set demand.interval_s = 1800" in err
