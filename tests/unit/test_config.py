"""The site file: all problems at once with their lines; the controller's columns and settings made of it."""

from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest

from gridtide.app.config import SiteConfig, load_site, parse_site
from gridtide.app.problems import ConfigError
from gridtide.app.settings import SiteFile, Station
from gridtide.app.toml_lines import line_index, line_of
from gridtide.wire.ocpp.dialects import Dialect

ROOT = Path(__file__).parents[2]
SMALL = """
[site]
name = "Yard"
timezone = "Europe/Berlin"
[grid]
transformer_kw = 400
[peak]
limit_kw = 300
[[stations]]
id = "a"
charge_kw = 22
"""


def problems(text: str) -> list[tuple[int, str]]:
    with pytest.raises(ConfigError) as caught:
        parse_site(text, "site.toml")
    return [(p.line, p.field) for p in caught.value.problems]


def said(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_site(text, "site.toml")
    return str(caught.value)


def small(extra: str = "", **changes: str) -> str:
    text = SMALL
    for old, new in changes.items():
        start = text.index(f"{old} = ")
        text = text[:start] + f"{old} = {new}" + text[text.index("\n", start) :]
    return text + extra


def test_every_problem_is_told_at_once_with_its_line() -> None:
    text = """[site]
nam = "x"
[grid]
transformer_kw = 800000
[peak]
limit_kw = -4
mode = "bugdet"

[vehicles]
floor_soc = 40
[[stations]]
id = "bay 1"
charge_kw = 11000
group = "north"
[[stations]]
id = "b"
charge_kw = nan
hold_s = "long"
[meter]
host = "192.0.2.1"
preset = "janitza"
[[meter.register]]
name = "a"
address = "x"
kind = "int16"
"""
    assert problems(text) == [
        (1, "site.name"), (1, "site.timezone"), (2, "site.nam"), (4, "grid.transformer_kw"), (6, "peak.limit_kw"),
        (7, "peak.mode"), (10, "vehicles.floor_soc"), (12, "stations[1].id"), (13, "stations[1].charge_kw"),
        (14, "stations[1].group"), (17, "stations[2].charge_kw"), (18, "stations[2].hold_s"), (21, "meter.preset"),
        (24, "meter.register[1].address"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (small("\n[grd]\nx = 1"), 'site.toml:13: grd: is not known; did you mean "grid"?'),
        (small("dischage_kw = 3"), 'stations[1].dischage_kw = 3: is not known; did you mean "discharge_kw"?'),
        (small(transformer_kw="400000"), "the unit is kW, not W: did you mean 400?"),
        (small("efficiency = 94"), "a share of 1, not per cent: did you mean 0.94?"),
        (small(limit_kw="inf"), "site.toml:8: peak.limit_kw = inf: give a number above 0"),
        (small(limit_kw="true"), "site.toml:8: peak.limit_kw = true: give a number above 0"),
        (small(limit_kw="500"), "peak.limit_kw = 500.0: is above grid.transformer_kw (400)"),
        (small(limit_kw="40"), "peak.buffer_kw = 50.0: give less than limit_kw (40)"),
        (small("[vehicles]\nfloor_soc = 0.5"), "site.toml:13: vehicles.floor_soc = 0.5: give less than window_low_soc (0.4)"),
        (small("[vehicles]\nwindow_low_soc = 0.9"), "give less than window_high_soc (0.8)"),
        (small('[[stations]]\nid = "a"\ncharge_kw = 11'), '"a" is there already'),
        (small('[[stations]]\nid = "b"\ncharge_kw = 11\ngroup = "x"\n[[groups]]\nname = "y"\nlimit_kw = 1'), 'groups are "y"'),
        (small('[[groups]]\nname = "y"\nlimit_kw = 1\n[[groups]]\nname = "y"\nlimit_kw = 1'), "groups[2].name"),
        (small(charge_kw="3.7"), "is below the least power of 4.14 kW"),
        (small('dialect = "v21_setpoint"\ndischarge_kw = 9'), 'needs ocpp = "2.1"'),
        (small('dialect = "v201_negative_limit"'), "give discharge_kw"),
        (small('phase = "L2"'), "only a single-phase AC station has one"),
        (small('phases = 1\nphase = "all"'), 'is on "L1"'),
        (small("[demand]\ninterval_s = 1000"), "seconds that divide an hour"),
        (small("[demand]\nsub_intervals = 7"), "divides the interval of 900 s"),
        (small("[study]\nstep_s = 7"), "divide the demand interval's 900 s"),
        (small('[study]\nstart = "2019-02-30"'), "give a day, as 2019-05-01"),
        (small('[server]\nweb = "127.0.0.1:99999"'), "port from 1 to 65535"),
        (small('[server]\nocpp = "127.0.0.1:8080"'), "another listener has this address"),
        (small('[drivers]\ndeparture = "25:00"'), 'as "17:30"'),
        (small(timezone='"Mars/Olympus"'), "is not a time zone"),
        (small("[load]\nscale = 1" + "0" * 400), "load.scale"),
        (SMALL.replace("[[stations]]", "[stations]"), "stations = a table: give [[tables]]"),
        ("x = [", "site.toml:1: is not TOML"),
        (SMALL + "\nlimit_kw 3", "site.toml:13: is not TOML"),
    ],
)  # fmt: skip
def test_problem_names_field_value_and_cure(text: str, words: str) -> None:
    assert words in said(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_site(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"[site]\nname = '\xff'")
    with pytest.raises(ConfigError, match=r"bad.toml:2: is not UTF-8"):
        load_site(bad)


def test_options_replace_keys_and_are_checked_like_them() -> None:
    config = parse_site(SMALL, "s", {("peak", "limit_kw"): 200, ("study", "days"): 3})
    assert (config.peak.limit_kw, config.study.days) == (200.0, 3)
    with pytest.raises(ConfigError, match=r"^s: peak.limit_kw = -1"):
        parse_site(SMALL, "s", {("peak", "limit_kw"): -1})


def test_columns_of_the_fleet() -> None:
    config = parse_site(
        small(
            """
[[stations]]
id = "b"
count = 4
charge_kw = 7.4
discharge_kw = 5
phases = 1
step_a = 1
group = "north"
dialect = "v201_negative_limit"
[[stations]]
id = "dc"
current = "dc"
charge_kw = 50
[[groups]]
name = "north"
limit_kw = 20
[battery]
capacity_kwh = 100
charge_kw = 30
discharge_kw = 40
"""
        ),
        "s",
    )
    table = config.table()
    assert table.ids == ("a", "b-1", "b-2", "b-3", "b-4", "dc", "battery")
    assert table.least_kw == pytest.approx([4.14, 1.38, 1.38, 1.38, 1.38, 0.5, 0.0])
    assert table.step_kw == pytest.approx([0, 0.23, 0.23, 0.23, 0.23, 0.1, 0])
    assert table.discharge_kw.tolist() == [0, 5, 5, 5, 5, 0, 40]
    assert table.group.tolist() == [-1, 0, 0, 0, 0, -1, -1]
    assert table.storage.tolist() == [False] * 6 + [True]
    assert table.phase_share[1:5].argmax(axis=1).tolist() == [0, 1, 2, 0]
    np.testing.assert_allclose(table.phase_share.sum(axis=1), 1.0)
    settings = config.settings(60.0)
    assert settings.limits.group_kw == (20.0,)
    assert settings.meter.stale_s == 120.0
    assert settings.meter.highest_kw == pytest.approx(480.0)
    assert config.settings(0.5).meter.stale_s == 1.0


def test_intervals_begin_on_the_local_clock() -> None:
    text = small("[demand]\ninterval_s = 3600\n[study]\nstep_s = 60", timezone='"Asia/Kolkata"')
    interval = parse_site(text, "s").interval()
    midnight_s = 1556649000.0  # 2019-05-01 00:00 +05:30
    assert interval.sub_start_s(midnight_s + 60.0) == midnight_s


def test_the_dialects_are_those_of_the_wire() -> None:
    field = next(f for f in msgspec.structs.fields(Station) if f.name == "dialect")
    assert set(get_args(field.type)) == set(get_args(Dialect))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.name)
def test_examples_are_right(path: Path) -> None:
    assert isinstance(load_site(path), SiteConfig)


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    text = text[text.index("## Site file") :]
    missing = [f"{section}.{name}" for section, name in _settings(SiteFile) if f"`{name}`" not in text]
    assert not missing
    assert "`limit_kw`" in text


def _settings(cls: Any, section: str = "") -> list[tuple[str, str]]:
    found = []
    for field in msgspec.structs.fields(cls):
        inner = [
            t for t in (field.type, *get_args(field.type)) if isinstance(t, type) and issubclass(t, msgspec.Struct)
        ]
        found += _settings(inner[0], field.name) if inner else [(section, field.name)]
    return found


def test_lines_of_keys_in_every_form_of_toml() -> None:
    text = '''# comment
a.b = """x
[no]
y = 1"""  # after
"quoted key" = [
  1,  # ]
  "]",
]
[t]
in = { x = 1, y = [2] }
[[t.list]]
k = 'lit#'
[[t.list]]
[t.list.sub]
z = 1
[[t.list.deep]]
w = 2
'''
    lines = line_index(text)
    assert lines["a", "b"] == 2
    assert lines["quoted key",] == 5
    assert lines["t", "in"] == 10
    assert lines["t", "list", 0, "k"] == 12
    assert lines["t", "list", 1] == 13
    assert lines["t", "list", 1, "sub", "z"] == 15
    assert lines["t", "list", 1, "deep", 0, "w"] == 17
    assert line_of(lines, ("t", "in", "y", 0)) == 10
    assert line_of(lines, ("nothing",)) == 1
