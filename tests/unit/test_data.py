"""Load, PV, session and tariff files: what they mean, and every bad row with its line."""

import gzip
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from gridtide.app.data import load_profile, load_sessions, load_tariff, series
from gridtide.app.files import read_text
from gridtide.app.problems import ConfigError

ZONE = ZoneInfo("Europe/Berlin")
PACIFIC = ZoneInfo("America/Los_Angeles")


def write(folder: Path, text: str, name: str = "data.csv") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def hours(first: datetime, count: int, text: str = "%Y-%m-%dT%H:%M") -> str:
    rows = [f"{(first + timedelta(hours=k)).strftime(text)},{k}" for k in range(count)]
    return "time,power_kw\n" + "\n".join(rows)


def at(zone: ZoneInfo, *parts: int) -> float:
    return datetime(*parts, tzinfo=zone).timestamp()  # type: ignore[arg-type,misc]


def test_clock_times_follow_the_clock_through_summer_time(tmp_path: Path) -> None:
    """A file with all 24 hours of every day: at 12:00 local it is always the noon row."""
    profile = load_profile(write(tmp_path, hours(datetime(2019, 3, 30), 72)), ZONE)  # noqa: DTZ001
    found = series(profile, at(ZONE, 2019, 3, 30), at(ZONE, 2019, 4, 2), ZONE, "none")
    assert len(found.power_kw) == 71
    assert found.power_kw[12] == 12
    assert found.power_kw[24 + 11] == 24 + 12
    assert found.power_kw[24:27].tolist() == [24, 25, 27]


def test_clock_times_as_a_meter_records_them_through_a_change(tmp_path: Path) -> None:
    """The repeated hour of October stands twice and is two hours."""
    stamps = ["2019-10-27T00:00", "2019-10-27T01:00", "2019-10-27T02:00", "2019-10-27T02:00", "2019-10-27T03:00"]
    text = "time,power_kw\n" + "\n".join(f"{stamp},{k}" for k, stamp in enumerate(stamps))
    profile = load_profile(write(tmp_path, text), ZONE)
    start_s = at(ZONE, 2019, 10, 27)
    assert series(profile, start_s, start_s + 5 * 3600, ZONE, "none").power_kw.tolist() == [0, 1, 2, 3, 4]


def test_offsets_are_instants_and_other_writings_work(tmp_path: Path) -> None:
    text = "# from the meter\nTime;note;Power_kW\n2019-05-01T00:00+02:00;a;1000\n\n2019-05-01T00:30+02:00;b;2000\n"
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    profile = load_profile(str(path), PACIFIC, scale=0.001)
    assert (profile.first_s, profile.interval_s, profile.wall) == (at(ZONE, 2019, 5, 1), 1800.0, False)
    assert profile.power_kw.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("start", [date(2019, 5, 1), date(2019, 12, 20), date(2020, 2, 29), date(2019, 1, 1)])
def test_another_year_keeps_season_weekday_and_clock(start: date) -> None:
    profile = load_profile("builtin:load", PACIFIC)
    start_s = datetime(start.year, start.month, start.day, tzinfo=PACIFIC).timestamp()
    found = series(profile, start_s, start_s + 28 * 86_400, PACIFIC, "weekday")
    noon = found.power_kw[: 28 * 96].reshape(-1, 96)[:, 40:60].mean(axis=1)
    weekend = np.array([(start + timedelta(days=k)).weekday() >= 5 for k in range(28)])
    assert np.median(noon[weekend]) < 0.5 * np.median(noon[~weekend])


def test_shift_is_whole_weeks(tmp_path: Path) -> None:
    """Wednesday 1 May 2019 is Wednesday 28 April or 5 May 2010; a data set of hours says which."""
    profile = load_profile(write(tmp_path, hours(datetime(2010, 1, 1), 8760)), PACIFIC)  # noqa: DTZ001
    start_s = at(PACIFIC, 2019, 5, 1)
    first = series(profile, start_s, start_s + 86_400, PACIFIC, "weekday").power_kw[0]
    taken = date(2010, 1, 1) + timedelta(hours=float(first))
    assert taken.weekday() == date(2019, 5, 1).weekday()
    assert abs((taken - date(2010, 5, 1)).days) <= 3


def test_data_that_does_not_reach_is_told_with_its_span() -> None:
    profile = load_profile("builtin:load", PACIFIC)
    start_s = at(PACIFIC, 2019, 5, 1)
    with pytest.raises(ConfigError, match=r"2010-01-01 00:00 to 2011-01-01 00:00.*2019-05-01.*align"):
        series(profile, start_s, start_s + 86_400, PACIFIC, "none")
    with pytest.raises(ConfigError, match="fewer days"):
        series(profile, start_s, start_s + 800 * 86_400, PACIFIC, "weekday")


def lines_of(error: ConfigError) -> list[tuple[int, str]]:
    return [(p.line, p.field) for p in error.problems]


def test_every_bad_row_of_a_load_is_told(tmp_path: Path) -> None:
    rows = [
        "2019-01-01T00:00,1",
        "2019-01-01T00:15,nan",
        "2019-01-01T00:30,x",
        "yesterday,3",
        "2019-01-01T01:00,1,5",
        "2019-01-01T01:15,8e6",
    ]
    with pytest.raises(ConfigError) as caught:
        load_profile(write(tmp_path, "time,power_kw\n" + "\n".join(rows)), ZONE)
    assert {(3, "power_kw"), (4, "power_kw"), (5, "time"), (6, ""), (7, "power_kw")} <= set(lines_of(caught.value))
    assert "data.csv:6: 3 values where the header names 2 columns" in str(caught.value)


def test_gaps_doubles_and_mixed_offsets_are_told(tmp_path: Path) -> None:
    text = "time,power_kw\n" + "".join(f"2019-01-01T{h:02}:00,1\n" for h in (0, 1, 2, 3, 5, 6, 6, 7))
    with pytest.raises(ConfigError) as caught:
        load_profile(write(tmp_path, text), ZONE)
    assert lines_of(caught.value) == [(6, "time"), (8, "time")]
    with pytest.raises(ConfigError, match=r"data.csv:3: time: some times have an offset"):
        load_profile(write(tmp_path, "time,power_kw\n2019-01-01T00:00,1\n2019-01-01T01:00Z,1\n"), ZONE)
    with pytest.raises(ConfigError, match=r"the header has no such column; is it \"power_w\"\?"):
        load_profile(write(tmp_path, "time,power_w\n2019-01-01T00:00,1\n"), ZONE)
    with pytest.raises(ConfigError, match="7 s apart"):
        load_profile(write(tmp_path, "time,power_kw\n2019-01-01T00:00:00,1\n2019-01-01T00:00:07,1\n"), ZONE)


def test_generation_is_positive(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":3: power_kw = \"-4\": give a number from 0 to 50000"):
        load_profile(write(tmp_path, "time,power_kw\n2019-01-01T00:00,1\n2019-01-01T01:00,-4\n"), ZONE, lowest_kw=0.0)


def test_sessions_local_or_with_offset(tmp_path: Path) -> None:
    text = (
        "arrival,departure,energy_kwh,told_departure\n2019-05-01T08:00,2019-05-01T17:00,20,\n"
        "2019-05-01T06:00Z,2019-05-01T15:00Z,20.5,2019-05-01T18:00+02:00\n"
    )
    naive, zoned = load_sessions(write(tmp_path, text), ZONE)
    assert naive.arrived_s == zoned.arrived_s == at(ZONE, 2019, 5, 1, 8)
    assert naive.told_departs_s is None
    assert zoned.told_departs_s == at(ZONE, 2019, 5, 1, 18)
    assert (naive.session_id, zoned.session_id) == ("line-2", "line-3")


def test_every_bad_session_is_told_and_many_are_counted(tmp_path: Path) -> None:
    good = "2019-05-01T08:00,2019-05-01T17:00"
    rows = [
        f"a,{good},20",
        f"a,{good},20",
        "b,2019-05-01T08:00,2019-05-01T07:00,3",
        f"c,{good},-1",
        f"d,{good},20000",
        f"e,,{good[:16]},3",
    ]
    text = "session_id,arrival,departure,energy_kwh\n" + "\n".join(rows)
    with pytest.raises(ConfigError) as caught:
        load_sessions(write(tmp_path, text), ZONE)
    assert lines_of(caught.value) == [
        (3, "session_id"), (4, "departure"), (5, "energy_kwh"), (6, "energy_kwh"), (7, "arrival"),
    ]  # fmt: skip
    many = "arrival,departure,energy_kwh\n" + f"{good},x\n" * 50
    with pytest.raises(ConfigError) as caught:
        load_sessions(write(tmp_path, many), ZONE)
    assert len(caught.value.messages()) == 21
    assert caught.value.messages()[-1].endswith("and 30 more")


def test_data_of_the_package() -> None:
    assert len(load_profile("builtin:load", PACIFIC).power_kw) == 35_040
    assert len(load_sessions("builtin:sessions", PACIFIC)) == 3_527
    assert load_tariff("builtin:tariff").currency == "USD"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x1f\x8b\x08rubbish", "broken gzip"),
        (gzip.compress(b"a" * 100, mtime=0)[:-4], "cut off"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_broken_files(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        read_text(str(path))


def test_files_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_text("/nowhere/f.csv")
    with pytest.raises(ConfigError, match="builtin:load"):
        read_text("builtin:lod")


def test_tariff_problems_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="currency"):
        load_tariff(write(tmp_path, 'name = "x"\ncurrency = "euro"\n', "t.toml"))
    with pytest.raises(ConfigError, match=r"t.json:2: is neither TOML nor JSON"):
        load_tariff(write(tmp_path, '{"schedule":\n oops}', "t.json"))
