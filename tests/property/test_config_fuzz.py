"""No text makes the site file's reader fail otherwise than with its own error; no CSV makes the loaders."""

import tempfile
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gridtide.app.config import parse_site
from gridtide.app.data import load_profile, load_sessions, load_tariff
from gridtide.app.problems import ConfigError
from gridtide.app.toml_lines import line_index

ROOT = Path(__file__).parents[2]
OFFICE = (ROOT / "examples" / "office.toml").read_text(encoding="utf-8")
ZONE = ZoneInfo("Europe/Berlin")
VALUES = st.one_of(
    st.sampled_from(
        ["nan", "inf", "-inf", "-1", "0", "1e308", "9" * 400, "true", '""', '"x"', "[]", "[1, 'a']", "{}", "{ a = 1 }",
         "2019-05-01", "2019-05-01T00:00:00", "17:30:00", '"\\u0000"', "'''\na'''", "0x10", "1_000"]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers().map(str),
)  # fmt: skip


def only_config_errors(text: str) -> None:
    told = refused(lambda: parse_site(text, "x.toml").settings(60.0))
    if told is not None:
        assert told.problems
        assert all(0 <= p.line <= text.count("\n") + 1 for p in told.problems)
        assert all(p.text for p in told.problems)


def refused(read: Callable[[], object]) -> ConfigError | None:
    """The reader's own error, if it raised that; any other goes on."""
    try:
        read()
    except ConfigError as error:
        return error
    return None


@given(line=st.integers(0, OFFICE.count("\n")), value=VALUES)
@settings(max_examples=150, deadline=None)
def test_any_value_of_any_field(line: int, value: str) -> None:
    lines = OFFICE.split("\n")
    if " = " in lines[line] and not lines[line].startswith("#"):
        lines[line] = lines[line].split(" = ")[0] + " = " + value
    only_config_errors("\n".join(lines))


@given(cut=st.integers(0, len(OFFICE)), size=st.integers(0, 40), put=st.text(max_size=12))
@settings(max_examples=150, deadline=None)
@example(0, 0, "\ufeff")
def test_any_damage_to_the_text(cut: int, size: int, put: str) -> None:
    only_config_errors(OFFICE[:cut] + put + OFFICE[cut + size :])


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text(text: str) -> None:
    only_config_errors(text)


KEYS = st.from_regex(r"[a-c]{1,2}", fullmatch=True)
LEAVES = st.sampled_from(["1", '"a#]"', "'x['", '"""m\n[a]\nb"""', "[1, # no ]\n 2]", "{ q = [1, 2] }", "'''\n'''''"])


@given(tables=st.lists(st.tuples(KEYS, st.booleans(), st.lists(st.tuples(KEYS, LEAVES), max_size=3)), max_size=5))
@settings(max_examples=150, deadline=None)
def test_every_key_has_the_line_it_stands_on(tables: list[tuple[str, bool, list[tuple[str, str]]]]) -> None:
    text = ""
    for name, many, pairs in tables:
        text += f"# note\n[[{name}]]\n" if many else f"\n[ {name} ]\n"
        text += "".join(f"{key} = {value} # tail\n" for key, value in pairs)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines, rows = line_index(text), text.split("\n")
    for name, table in raw.items():
        for path, item in [((name,), table)] if isinstance(table, dict) else _numbered(name, table):
            assert name in rows[lines[path] - 1]
            assert all(rows[lines[(*path, key)] - 1].startswith(f"{key} = ") for key in item)


def _numbered(name: str, tables: list[dict[str, Any]]) -> list[tuple[Any, dict[str, Any]]]:
    return [((name, k), table) for k, table in enumerate(tables)]


CELLS = st.sampled_from(
    ["2019-03-31T01:30", "2019-03-31T03:00", "2019-10-27T02:00+02:00", "2019-01-01", "", "nan", "1e999", "-5", "12.5", "1,5", '"',
     "x", "0", "9999-12-31T23:59"]
)  # fmt: skip
TABLES = st.builds(
    lambda head, rows: "\n".join(",".join(cells) for cells in [head, *rows]),
    st.sampled_from(
        [["time", "power_kw"], ["arrival", "departure", "energy_kwh"], ["time"], ["time", "time", "power_kw"]]
    ),
    st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6),
)


@given(
    st.one_of(
        TABLES.map(str.encode), st.binary(max_size=120), st.binary(max_size=60).map(lambda b: b"\x1f\x8b\x08" + b)
    )
)
@settings(max_examples=200, deadline=None)
def test_any_data_file(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(data)
        file.flush()
        for read in (lambda f: load_profile(f, ZONE), lambda f: load_sessions(f, ZONE), load_tariff):
            told = refused(partial(read, file.name))
            assert told is None or told.problems
