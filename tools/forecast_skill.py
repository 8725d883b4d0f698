"""Forecast skill on real data: against persistence and the same time last week, per lead of 1 to 24 h, on held-out months.

`python -m tools.forecast_skill [--data FOLDER] [--json]`. Without a folder the load and the sessions that come with the package;
with one also the measured industrial loads, the SimBench profiles and the session files that lie there (names as below). All
settings were chosen on January to June (loads) and May to July (sessions at Caltech); what is scored here was never looked at.
"""

import argparse
import csv
import gzip
import json
import sys
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Struct

from gridtide.app.data import load_profile, load_sessions
from gridtide.plan.forecast import LoadSettings
from gridtide.plan.forecast_calendar import Calendar, Floats
from gridtide.plan.forecast_departures import VisitSettings
from gridtide.plan.forecast_score import Comparison, Series, compare
from gridtide.plan.forecast_visit_score import score_visits
from gridtide.plan.forecast_visits import Visit, arriving_need_series, connected_series

STEP_S = 900
DAY_S = 86_400.0
BERLIN, PACIFIC = ZoneInfo("Europe/Berlin"), ZoneInfo("America/Los_Angeles")
INDUSTRY = "nonres_metal_warehouse_15min_2010.txt.gz"
SIMBENCH = "simbench2016_commercial_load_15min.csv.gz"
SESSIONS = {
    "caltech": ("acn_caltech_2019-05-01_2019-08-31.csv.gz", "acn_caltech_2019-09-01_2019-12-31.csv.gz"),
    "jpl": ("acn_jpl_2019-05-01_2019-08-31.csv.gz",),
}
LOOKED_AT = (
    "metal works 2 (package)",
    "metal works 1",
    *(f"SimBench {n}" for n in ("G0-A", "G1-A", "G3-A", "G4-A", "BL-H")),
)
"""Their first halves served for the settings; of the others nothing was looked at."""


class Case(Struct, frozen=True, eq=False):
    """One series and the span it is scored on."""

    name: str
    settings: LoadSettings
    series: Series
    from_s: float
    until_s: float
    known_after_s: float = 0.0


def easter(year: int) -> date:
    """Easter Sunday (Meeus, Astronomical Algorithms, 1991, chapter 8)."""
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (b - (b + 8) // 25 + 1) // 3
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    n = (32 + 2 * e + 2 * i - h - k) % 7
    month, day = divmod(h + n - 7 * ((a + 11 * h + 22 * n) // 451) + 114, 31)
    return date(year, month, day + 1)


def rhineland(year: int) -> frozenset[date]:
    """Public holidays of North Rhine-Westphalia: what the load's owners could have listed beforehand."""
    moving = (easter(year) + timedelta(days=days) for days in (-2, 1, 39, 50, 60))
    fixed = ((1, 1), (5, 1), (10, 3), (11, 1), (12, 25), (12, 26))
    return frozenset([*moving, *(date(year, *day) for day in fixed)])


HOLIDAYS_2019 = frozenset(
    date(2019, *day) for day in ((1, 1), (5, 27), (7, 4), (9, 2), (11, 28), (11, 29), (12, 25))
)  # fmt: skip
"""Of the United States, with the day after Thanksgiving."""


def load_cases(folder: Path | None) -> Iterator[Case]:
    """Loads, scored on July to December."""
    own = load_profile("builtin:load", ZoneInfo("UTC"))
    yield _half_year("metal works 2 (package)", "UTC", 2010, own.first_s, own.power_kw)
    if folder is None:
        return
    lines = gzip.decompress((folder / INDUSTRY).read_bytes()).decode().splitlines()[2:]
    powers = np.array([[float(value) for value in line.split("\t")[2:5]] for line in lines])
    for name, column in (("metal works 1", 0), ("warehouse", 2)):
        yield _half_year(name, "UTC", 2010, own.first_s, powers[:, column] * 1.6)
    rows = list(csv.reader(gzip.decompress((folder / SIMBENCH).read_bytes()).decode().splitlines()))
    first_s = datetime(2016, 1, 1, tzinfo=BERLIN).timestamp()
    for column, name in enumerate(rows[0]):
        if name.startswith(("G", "BL")):
            power = np.array([float(row[column]) for row in rows[1:]]) * 100.0
            yield _half_year(f"SimBench {name.removesuffix('_pload')}", "Europe/Berlin", 2016, first_s, power)


def _half_year(name: str, timezone: str, year: int, first_s: float, power_kw: Floats) -> Case:
    zone = ZoneInfo(timezone)
    settings = LoadSettings(Calendar(timezone, rhineland(year)))
    series = Series(first_s + STEP_S * np.arange(len(power_kw), dtype=np.float64), power_kw)
    until_s = datetime(year + 1, 1, 1, tzinfo=zone).timestamp()
    return Case(name, settings, series, datetime(year, 7, 1, tzinfo=zone).timestamp(), until_s)


class Park(Struct, frozen=True):
    """Sessions of one site and the months they are scored on."""

    name: str
    visits: list[Visit]
    told: list[tuple[float, float, float]]
    """(arrival, departure, told departure) of drivers who told one."""
    months: tuple[int, int]
    """First month scored, first month not."""

    def at(self, month: int) -> float:
        """Start of a month of 2019 (13 is January after)."""
        return datetime(2019 + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=PACIFIC).timestamp()


def parks(folder: Path | None) -> Iterator[Park]:
    """Sites with sessions."""
    own = load_sessions("builtin:sessions", PACIFIC)
    visits = [Visit(r.arrived_s, r.departs_s, r.delivered_kwh) for r in own]
    told = [(r.arrived_s, r.departs_s, r.told_departs_s) for r in own if r.told_departs_s is not None]
    yield Park("Caltech August (package)", visits, told, (8, 9))
    if folder is not None:
        yield _park("Caltech September to December", folder, SESSIONS["caltech"], (9, 13))
        yield _park("JPL July and August", folder, SESSIONS["jpl"], (7, 9))


def _park(name: str, folder: Path, files: tuple[str, ...], months: tuple[int, int]) -> Park:
    visits: list[Visit] = []
    told: list[tuple[float, float, float]] = []
    for file in files:
        text = gzip.decompress((folder / "ev_sessions" / file).read_bytes()).decode()
        for row in csv.DictReader(text.splitlines()):
            begin, end, word = (_stamp_s(row[key]) for key in ("arrival", "departure", "estimated_departure"))
            visits.append(Visit(begin, end, float(row["delivered_energy (kWh)"])))
            if row["claimed"] == "True":  # otherwise the estimate is the departure itself, written afterwards
                told.append((begin, end, word))
    return Park(name, visits, told, months)


def _stamp_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def park_cases(park: Park) -> Iterator[Case]:
    """Number connected, and energy arriving (known a day later, when the vehicles have left)."""
    settings = LoadSettings(Calendar("America/Los_Angeles", HOLIDAYS_2019))
    starts = np.arange(park.at(5), park.at(park.months[1]), float(STEP_S))
    spans = (park.at(park.months[0]), park.at(park.months[1]))
    connected = connected_series(park.visits, starts, STEP_S)
    yield Case(f"{park.name}: connected", settings, Series(starts, connected), *spans)
    need = arriving_need_series(park.visits, starts, STEP_S)
    yield Case(f"{park.name}: need", settings, Series(starts, need), *spans, known_after_s=DAY_S)


def scored(case: Case, every_s: float) -> dict[str, object]:
    """One case's figures."""
    begin = time.process_time()
    found = compare(
        case.settings, case.series, case.from_s, case.until_s, every_s=every_s, known_after_s=case.known_after_s
    )
    return {"name": case.name, "settings_seen_its_past": case.name in LOOKED_AT, **_figures(found, begin)}


def _figures(found: Comparison, begin_s: float) -> dict[str, object]:
    def rounded(values: Floats) -> list[float | None]:
        return [round(float(value), 4) if np.isfinite(value) else None for value in values]

    return {
        "forecasts": found.targets,
        "mean": round(found.mean_kw, 4),
        "lead_h": found.lead_h.tolist(),
        "mae": rounded(found.forecast.mae_kw),
        "mae_last_week": rounded(found.last_week.mae_kw),
        "mae_persistence": rounded(found.persistence.mae_kw),
        "skill_last_week": rounded(found.skill(found.last_week)),
        "skill_persistence": rounded(found.skill(found.persistence)),
        "skill_last_week_no_holidays": rounded(found.ordinary_skill),
        "pinball": rounded(found.forecast.pinball_kw),
        "pinball_skill_last_week": rounded(found.skill(found.last_week, pinball=True)),
        "pinball_skill_persistence": rounded(found.skill(found.persistence, pinball=True)),
        "within_90_pct": rounded(found.forecast.within),
        "stood_in_share": round(found.given_up_share, 4),
        "cpu_s": round(time.process_time() - begin_s, 1),
    }


def single_visits(park: Park) -> dict[str, object]:
    """Departure and need of single vehicles, and the drivers' own word beside it."""
    settings = VisitSettings(Calendar("America/Los_Angeles", HOLIDAYS_2019))
    from_s, until_s = park.at(park.months[0]), park.at(park.months[1])
    score = score_visits(settings, park.visits, from_s, until_s)
    misses = [abs(told - end) / 3_600.0 for begin, end, told in park.told if from_s <= begin < until_s]
    figures = {name: round(getattr(score, name), 4) for name in score.__struct_fields__}
    return {
        "name": park.name, **figures, "told": len(misses), "told_stay_mae_h": round(float(np.mean(misses)), 4)
    }  # fmt: skip


_HEAD = ("1 h", "2 h", "4 h", "8 h", "12 h", "24 h", "mean", "no hol.", "pinball", "persist.", "within", "MAE/mean")
_MEANS = (
    "skill_last_week",
    "skill_last_week_no_holidays",
    "pinball_skill_last_week",
    "skill_persistence",
    "within_90_pct",
)


def table(rows: list[dict[str, object]]) -> Iterator[str]:
    """Skill against last week by lead, in the mean, and without days that a holiday touches; pinball skill; skill against
    persistence; share within the 90 % band."""
    yield " " * 38 + "".join(f"{text:>9}" for text in _HEAD)
    for row in rows:
        skill = _floats(row["skill_last_week"])
        error = float(np.mean(_floats(row["mae"]))) / max(float(str(row["mean"])), 1e-9)
        means = [float(np.nanmean(_floats(row[key]))) for key in _MEANS]
        cells = [*(skill[h - 1] for h in (1, 2, 4, 8, 12, 24)), *means, error]
        yield f"{row['name']!s:38}" + "".join(f"{cell:9.3f}" for cell in cells)


def _floats(values: object) -> Floats:
    return np.array(values, dtype=np.float64)


def main() -> int:
    """Print the tables; exit code 1 where a forecast is no better than last week in the mean of the leads."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, help="folder with the further data sets")
    parser.add_argument("--every-h", type=float, default=5.0, help="hours between forecasts; 5 meets every hour")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    args = parser.parse_args()
    sites = list(parks(args.data))
    loads = [scored(case, args.every_h * 3_600.0) for case in load_cases(args.data)]
    presence = [scored(case, args.every_h * 3_600.0) for park in sites for case in park_cases(park)]
    visits = [single_visits(park) for park in sites]
    print("Skill against the same time last week (1 - MAE / MAE), by lead; held-out months")
    for line in [*table(loads), "", *table(presence)]:
        print(line)
    for visit in visits:
        print()
        for name, value in visit.items():
            print(f"{name:24} {value}")
    if args.json:
        print(json.dumps({"loads": loads, "presence": presence, "visits": visits}))
    return int(any(np.nanmean(_floats(row["skill_last_week"])) <= 0.0 for row in [*loads, *presence]))


if __name__ == "__main__":
    sys.exit(main())
