"""Export: the tables say what the study says, files read back exactly, and are never half there."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gridtide.app import export as module
from gridtide.app.export import (
    NO_PARQUET,
    Cell,
    Table,
    Tables,
    Target,
    comparison_tables,
    export,
    length,
    many_tables,
    stacked,
    study_tables,
    target_of,
    write_whole,
)
from gridtide.model.comparison import Comparison, StrategyResult
from gridtide.model.many import ManyResult, seed_figures, spreads
from tests.unit.study_fixture import sample_study

STUDY = sample_study()
TABLES = study_tables(STUDY)


def read(path: Path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}


def test_the_tables_are_the_study() -> None:
    assert list(TABLES) == ["intervals", "departures", "bill", "figures"]
    intervals = TABLES["intervals"]
    assert intervals["with_kw"] == STUDY.series.with_kw
    assert intervals["start"][:2] == ["2026-06-01T00:00:00+02:00", "2026-06-01T00:15:00+02:00"]
    assert intervals["start_s"][0] == STUDY.start_s
    assert TABLES["departures"]["got_kwh"] == [d.got_kwh for d in STUDY.departures]
    bill = TABLES["bill"]
    assert bill["part"] == [line.label for line in STUDY.bill]
    assert bill["difference"][2] == 5_319.30 - 6_413.20
    figures = TABLES["figures"]
    assert all(len(cells) == 1 for cells in figures.values())
    assert figures["saving"] == [STUDY.bill_without - STUDY.bill_with]
    assert (figures["site"], figures["drivers_short"], figures["peak_kw_with"]) == (["Harbour Office"], [0], [447.0])


def test_how_long_a_study_took_is_not_in_its_files() -> None:
    assert study_tables(structs.replace(STUDY, elapsed_s=7.0)) == TABLES


def test_local_times_follow_the_clock_change() -> None:
    change_s = 1_774_746_000.0  # 29 March 2026, 01:00 UTC
    series = structs.replace(STUDY.series, start_s=[change_s - 900.0, change_s])
    found = study_tables(structs.replace(STUDY, series=series))["intervals"]["start"]
    assert found == ["2026-03-29T01:45:00+01:00", "2026-03-29T03:00:00+02:00"]


def test_csv_reads_back_exactly(tmp_path: Path) -> None:
    written = export(TABLES, target_of(tmp_path / "out"))
    assert [path.name for path in written] == ["intervals.csv", "departures.csv", "bill.csv", "figures.csv"]
    assert [float(kw) for kw in read(written[0])["without_kw"]] == STUDY.series.without_kw
    assert read(written[2])["note"] == [line.note for line in STUDY.bill]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)


def test_what_is_not_finite_is_missing(tmp_path: Path) -> None:
    (path,) = export(
        {"t": {"a": [1.0, math.nan, math.inf, None], "b": ["x", "y", "z", ""]}}, Target(tmp_path, "", "csv")
    )
    assert path.read_text(encoding="utf-8") == "a,b\n1.0,x\n,y\n,z\n,\n"


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
cells = st.none() | st.integers(-(2**53), 2**53) | st.floats() | texts


@given(rows=st.lists(st.tuples(texts, cells, cells), max_size=12))
def test_any_table_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Cell, ...]]) -> None:
    table: Table = {name: [row[k] for row in rows] for k, name in enumerate(("n,ame", 'qu"ote', "new\nline"))}
    (path,) = export({"t": table}, Target(tmp_path_factory.mktemp("any"), "", "csv"))

    def said(cell: Cell) -> str:
        missing = cell is None or (isinstance(cell, float) and not math.isfinite(cell))
        return "" if missing else str(cell).replace("\r\n", "\n").replace("\r", "\n")

    assert read(path) == {name: [said(cell) for cell in column] for name, column in table.items()}


def test_stacked_says_which(tmp_path: Path) -> None:
    other = study_tables(structs.replace(STUDY, peak_kw_with=440.0))
    both = stacked("strategy", {"budget": TABLES, "plan": other})
    assert both["figures"]["strategy"] == ["budget", "plan"]
    assert both["figures"]["peak_kw_with"] == [447.0, 440.0]
    half = length(TABLES["departures"])
    assert both["departures"]["strategy"] == ["budget"] * half + ["plan"] * half
    assert length(both["intervals"]) == 2 * length(TABLES["intervals"])
    assert len(export(both, Target(tmp_path, "", "csv"))) == 4
    assert stacked("strategy", {}) == {}
    less: Tables = {**other, "bill": {"part": ["demand"]}}
    with pytest.raises(KeyError, match="note"):
        stacked("strategy", {"budget": TABLES, "plan": less})


def test_many_seeds_are_a_row_each() -> None:
    seeds = [seed_figures(k, structs.replace(STUDY, peak_kw_with=440.0 + k)) for k in (1, 2)]
    found = many_tables(ManyResult("S", "UTC", "EUR", 0.0, 1.0, "budget", 450.0, spreads(seeds), seeds))
    assert found["seeds"]["seed"] == [1, 2]
    assert found["seeds"]["peak_kw_with"] == [441.0, 442.0]
    assert found["spreads"]["figure"][0] == "peak_kw_with"
    assert found["spreads"]["mean"][0] == 441.5


def test_strategies_side_by_side_are_a_row_each() -> None:
    rows = [
        StrategyResult(
            strategy=name, peak_kw=peak_kw, bill=9.0, energy=5.0, demand=3.0, other=1.0, wear=0.0, saved=0.0,
            share_of_possible=share, charged_kwh=4.0, discharged_kwh=1.0, starts=2, drivers_short=0, plans=0, cpu_s=1.0,
            day_peak_kw=[peak_kw],
        )
        for name, peak_kw, share in (("none", 20.0, None), ("plan", 15.0, 0.9))
    ]  # fmt: skip
    found = comparison_tables(
        Comparison(
            site="S", timezone="UTC", currency="EUR", start_s=0.0, end_s=1800.0, step_s=60.0, vehicles=1, sessions=1,
            limit_kw=16.0, peak_kw_building=10.0, history_days=0.0, history_sessions=0, strategies=rows,
            interval_start_s=[0.0, 900.0], interval_kw={"building": [1.0, 2.0], "plan": [3.0, 4.0]}, assumptions=[],
        )
    )  # fmt: skip
    assert found["strategies"]["strategy"] == ["none", "plan"]
    assert found["strategies"]["share_of_possible"] == [None, 0.9]
    assert "cpu_s" not in found["strategies"], "the same comparison is the same file"
    assert found["intervals"] == {
        "start": ["1970-01-01T00:00:00+00:00", "1970-01-01T00:15:00+00:00"], "start_s": [0.0, 900.0],
        "building_kw": [1.0, 2.0], "plan_kw": [3.0, 4.0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "chosen", "expected"),
    [
        ("out", None, "out/bill.csv"),
        ("out/", "csv", "out/bill.csv"),
        ("out.csv", None, "out-bill.csv"),
        ("a/b/out.CSV", None, "a/b/out-bill.csv"),
        ("study.v2", None, "study.v2/bill.csv"),
        ("folder.csv", None, "folder.csv/bill.csv"),
    ],
)
def test_where_an_export_goes(tmp_path: Path, path: str, chosen: str | None, expected: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert target_of(tmp_path / path, chosen).path("bill") == tmp_path / expected


@pytest.mark.parametrize(
    ("path", "chosen", "said"),
    [
        ("out", "xlsx", "--export-format is 'xlsx': give csv or parquet"),
        ("out.csv", "parquet", r"ends with .csv, --export-format is parquet"),
        ("file", None, "a file stands where a folder is needed"),
        ("file/deeper", None, "a file stands where a folder is needed"),
        ("file/out.csv", None, "a file stands where a folder is needed"),
    ],
)
def test_a_wrong_export_is_told_before_the_study(tmp_path: Path, path: str, chosen: str | None, said: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        target_of(tmp_path / path, chosen)


def failing(name: str) -> Callable[..., Any]:
    def load(asked: str) -> Any:
        raise ImportError(asked) if asked.startswith(name) else AssertionError(asked)

    return load


@pytest.mark.parametrize(("path", "chosen"), [("out.parquet", None), ("out", "parquet")])
def test_without_pyarrow_the_cure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, chosen: str | None
) -> None:
    monkeypatch.setattr(module, "import_module", failing("pyarrow"))
    with pytest.raises(ValueError, match=r'pip install "gridtide\[parquet\]"') as caught:
        target_of(tmp_path / path, chosen)
    assert str(caught.value) == NO_PARQUET


def test_parquet_reads_back_with_its_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    odd: Tables = {"odd": {"mixed": [1, 2.5, math.nan], "none": [None, None, None], "text": ["a", None, "é"]}}
    written = export({**TABLES, **odd}, target_of(tmp_path / "out.parquet"))
    assert [path.name for path in written][:2] == ["out-intervals.parquet", "out-departures.parquet"]
    intervals = parquet.read_table(written[0])
    assert intervals.column_names == list(TABLES["intervals"])
    assert intervals["with_kw"].to_pylist() == STUDY.series.with_kw
    assert parquet.read_table(written[3])["sessions"].to_pylist() == [264]
    assert parquet.read_table(written[4]).to_pydict() == {
        "mixed": [1.0, 2.5, None], "none": [None, None, None], "text": ["a", None, "é"]
    }  # fmt: skip


def test_a_failed_export_leaves_what_was_there(tmp_path: Path) -> None:
    old, new = tmp_path / "a.csv", tmp_path / "b.csv"
    old.write_text("old", encoding="utf-8")

    def whole(part: Path) -> None:
        part.write_text("new", encoding="utf-8")

    def half(part: Path) -> None:
        part.write_text("half", encoding="utf-8")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_whole({old: whole, new: half})
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert old.read_text(encoding="utf-8") == "old"


def test_columns_of_different_length_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="table b: its columns differ"):
        export({"a": {"x": [1]}, "b": {"x": [1], "y": []}}, Target(tmp_path / "out", "", "csv"))
    assert not (tmp_path / "out").exists()
