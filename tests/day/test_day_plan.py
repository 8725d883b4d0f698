"""`gridtide plan`: the plan of one day, and of a day that cannot give everything, in figures that can be reckoned by hand."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from gridtide.app.cli import app
from gridtide.model.plan_view import PlanView

LOAD_KW = 30.0
SITE = """
[site]
name = "Yard"
timezone = "Europe/Berlin"
[grid]
transformer_kw = 200
[peak]
limit_kw = 150
buffer_kw = 10
[[stations]]
id = "bay"
count = 3
charge_kw = 20
discharge_kw = 20
efficiency = 0.9
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
start = 2024-06-12
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
SESSIONS = "arrival,departure,energy_kwh,session_id\n"
FITS = "2024-06-12 09:00,2024-06-12 13:00,40,fits\n"
SHORT = "2024-06-12 09:00,2024-06-12 10:00,60,hasty\n"
LONG = "2024-06-12 12:00,2024-06-12 16:00,60,long\n"


class Yard:
    """A site whose load never changes, so that its forecast is exact."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        begin = datetime(2024, 6, 1, tzinfo=UTC)  # only written as local time
        rows = "".join(f"{begin + timedelta(minutes=15 * k):%Y-%m-%d %H:%M},{LOAD_KW}\n" for k in range(96 * 14))
        self.put("load.csv", "time,power_kw\n" + rows)
        self.put("tariff.toml", TARIFF)
        self.put("site.toml", SITE)
        self.put("sessions.csv", SESSIONS + FITS)

    def put(self, name: str, text: str) -> None:
        """Write a file of the site."""
        (self.folder / name).write_text(text)

    def plan(self, *options: str) -> tuple[int, str]:
        """Exit code and output of `gridtide plan`."""
        done = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["plan", str(self.folder / "site.toml"), *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    def view(self, code: int, *options: str) -> PlanView:
        """The plan as JSON tells it."""
        found, output = self.plan("--json", *options)
        assert found == code, output
        return msgspec.json.decode(output, type=PlanView)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def test_a_day_that_gives_everything(yard: Yard) -> None:
    code, output = yard.plan()
    assert code == 0
    assert "Wed 12 June" not in output  # the short form
    assert "Wed 12 Jun: holds 40 kW; every driver gets what is asked" in output
    assert len([line for line in output.splitlines() if line.strip()[2:5] == ":00"]) == 24
    assert max(len(line) for line in output.splitlines()) <= 80


def test_the_lowest_peak_is_held_and_its_value_told(yard: Yard) -> None:
    """40 kWh over four hours: 10 kW above the load, and every kW less of peak would have to be paid by a missed need."""
    view = yard.view(0)
    assert view.target_kw == pytest.approx(LOAD_KW + 10.0, abs=1e-3)
    assert view.value_per_kw == pytest.approx(10.0, rel=1e-6)
    assert len(view.steps) == 96
    assert {step.load_kw for step in view.steps} == {LOAD_KW}
    charged = sum(step.vehicles_kw * (step.end_s - step.start_s) / 3600.0 for step in view.steps)
    assert charged == pytest.approx(40.0, abs=1e-3)
    assert view.missed == ()


def test_a_stay_too_short_is_listed_with_what_is_missing_and_why(yard: Yard) -> None:
    """20 kW for an hour of the 60 kWh: 40 are missing, 36 in the battery."""
    yard.put("sessions.csv", SESSIONS + SHORT)
    (missed,) = yard.view(3).missed
    assert (missed.what, missed.who, missed.unit, missed.reason) == ("energy", "bay-1", "kWh", "stay_too_short")
    assert missed.missing == pytest.approx(0.9 * 40.0, abs=0.01)
    assert missed.words == "bay-1 misses 36.0 kWh at 10:00: full power from arrival to departure is not enough"


def test_a_site_limit_in_the_way_is_listed(yard: Yard) -> None:
    """10 kW are free for four hours: of 60 kWh 20 are missing."""
    yard.put("sessions.csv", SESSIONS + LONG)
    (missed,) = yard.view(3, "--transformer", "40").missed
    assert (missed.what, missed.who, missed.reason) == ("energy", "bay-1", "site_limit")
    assert missed.missing == pytest.approx(0.9 * 20.0, abs=0.05)
    assert "16:00: the site's limit leaves no room for more" in missed.words


def test_a_site_limit_below_the_building_itself_is_listed_in_kw(yard: Yard) -> None:
    view = yard.view(3, "--transformer", "25")
    limits = [item for item in view.missed if item.what == "import_cap"]
    assert limits
    assert all((item.who, item.unit, item.reason) == ("site", "kW", "load_alone") for item in limits)
    assert max(item.missing for item in limits) == pytest.approx(LOAD_KW - 25.0, abs=1e-3)


def test_an_infeasible_day_is_a_plan_and_a_list(yard: Yard) -> None:
    """Both at once: what can be done is done, what cannot is told in words, and scripts see it by the exit code."""
    yard.put("sessions.csv", SESSIONS + SHORT + LONG)
    code, output = yard.plan("--transformer", "40")
    text = " ".join(output.split())
    assert code == 3
    assert "2 drivers would leave short" in text
    assert "- bay-1 misses 45.0 kWh at 10:00: full power from arrival to departure is not enough." in text
    assert "- bay-1 misses 18.0 kWh at 16:00: the site's limit leaves no room for more." in text
    assert max(len(line) for line in output.splitlines()) <= 80
    view = yard.view(3, "--transformer", "40")
    assert [round(item.missing, 1) for item in view.missed] == [45.0, 18.0]
    assert max(step.load_kw + step.vehicles_kw for step in view.steps) <= 40.0 + 1e-3


def test_sessions_without_a_bay_are_told(yard: Yard) -> None:
    many = "".join(f"2024-06-12 09:00,2024-06-12 13:00,4,s{k}\n" for k in range(5))
    yard.put("sessions.csv", SESSIONS + many)
    code, output = yard.plan()
    assert code == 0
    assert "2 sessions found every bay taken and are not in the plan." in " ".join(output.split())


def test_what_the_month_has_reached_is_no_reason_to_save(yard: Yard) -> None:
    """The day before a driver had to charge at full power all the time: up to there today costs nothing more."""
    first = "2024-06-10 09:00,2024-06-10 10:00,1,first\n"  # from here on sessions are recorded
    yard.put("sessions.csv", SESSIONS + first + "2024-06-11 09:00,2024-06-11 10:00,20,before\n" + FITS)
    view = yard.view(0)
    assert view.target_kw == pytest.approx(LOAD_KW + 20.0, abs=1e-3)
    assert view.value_per_kw == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (("--day", "2024-06-01"), "choose a later day"),
        (("--day", "yesterday"), "study.start"),
        (("--history", "0"), "planner.history_days"),
        (("--transformer", "-5"), "transformer_kw"),
    ],
)
def test_what_cannot_be_planned_is_told_with_its_cure(yard: Yard, options: tuple[str, ...], cure: str) -> None:
    yard.put("sessions.csv", SESSIONS + FITS + FITS.replace("06-12", "06-01").replace("fits", "first"))
    code, output = yard.plan(*options)
    assert code == 2
    assert cure in output


def test_json_is_finite(yard: Yard) -> None:
    """Strict JSON: no NaN travels, whatever is missed."""
    yard.put("sessions.csv", SESSIONS + SHORT + LONG)
    _, output = yard.plan("--json", "--transformer", "25")

    def never(name: str) -> Any:
        raise AssertionError(f"{name} in JSON")

    assert json.loads(output, parse_constant=never)["missed"]
