"""Studies for other programs: named tables of columns as CSV or Parquet files, each there as a whole or not at all."""

import csv
import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from msgspec import Struct, structs

from gridtide.app.report.words import zone_of
from gridtide.model.comparison import Comparison
from gridtide.model.many import ManyResult
from gridtide.model.study import StudyResult

Cell = str | float | int | None
Table = dict[str, Sequence[Cell]]
"""Column name -> its cells; all columns of a table have the same length. What is not finite is written as missing."""
Tables = dict[str, Table]
FORMATS = ("csv", "parquet")
NO_PARQUET = 'writing Parquet needs the package pyarrow: pip install "gridtide[parquet]", or export CSV'


class Target(Struct, frozen=True):
    """Where an export goes: a file for each table, named by `prefix`, the table and `format`."""

    folder: Path
    prefix: str
    format: str

    def path(self, table: str) -> Path:
        """The file of a table."""
        return self.folder / f"{self.prefix}{table}.{self.format}"


def target_of(path: Path, chosen: str | None = None) -> Target:
    """What `--export path` means: a folder, or with the suffix of a format a beginning of names (`out.csv`: `out-bill.csv`).

    Asked before the study runs. Raises `ValueError` on a format that is not known, contradicts the suffix or cannot be written
    here, and where no folder can be.
    """
    suffix = path.suffix.removeprefix(".").lower()
    by_name = suffix if suffix in FORMATS else None
    if chosen is not None and chosen not in FORMATS:
        raise ValueError(f"--export-format is {chosen[:60]!r}: give {' or '.join(FORMATS)}")
    if chosen is not None and by_name is not None and chosen != by_name:
        raise ValueError(f"--export {path} ends with .{by_name}, --export-format is {chosen}: give one of the two")
    asked = by_name or chosen or "csv"
    if asked == "parquet":
        _parquet()
    is_folder = by_name is None or path.is_dir()
    folder = path if is_folder else path.parent
    if not all(part.is_dir() for part in (folder, *folder.parents) if part.exists()):
        raise ValueError(f"--export {path}: a file stands where a folder is needed")
    return Target(folder, "" if is_folder else f"{path.stem}-", asked)


def export(tables: Tables, target: Target) -> tuple[Path, ...]:
    """Write every table; returns the files. All are written beside their names first, so that none is ever half there.

    Raises `OSError`, and `ValueError` where the columns of a table differ in length.
    """
    write = _write_parquet if target.format == "parquet" else _write_csv
    for name, table in tables.items():
        if len({len(cells) for cells in table.values()}) > 1:
            raise ValueError(f"table {name}: its columns differ in length")
    target.folder.mkdir(parents=True, exist_ok=True)
    return write_whole({target.path(name): _writer(write, table) for name, table in tables.items()})


def write_whole(files: Mapping[Path, Callable[[Path], None]]) -> tuple[Path, ...]:
    """Let each writer make its file under another name, then put them all in place. Raises `OSError`; nothing is left then."""
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in files}
    try:
        for path, write in files.items():
            write(parts[path])
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return tuple(files)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all. Raises `OSError`."""
    write_whole({path: lambda part: _flushed(part, lambda file: file.write(text))})


def stacked(key: str, parts: Mapping[str | int, Tables]) -> Tables:
    """Tables of several studies as one each, with a first column `key` that says which: strategy, seed.

    Tables and columns are those of the first study. Raises `KeyError` where another lacks one of them.
    """
    first = next(iter(parts.values()), {})
    found: Tables = {}
    for name, columns in first.items():
        which = [said for said, tables in parts.items() for _ in range(length(tables[name]))]
        together = {column: [cell for tables in parts.values() for cell in tables[name][column]] for column in columns}
        found[name] = {key: which, **together}
    return found


def length(table: Table) -> int:
    """How many rows a table has."""
    return len(next(iter(table.values()), ()))


# --- a study ------------------------------------------------------------------------------------------------------------


def study_tables(result: StudyResult) -> Tables:
    """`intervals`, `departures`, `bill` and `figures` (one row) of a study; units are in the columns' names."""
    local = _clock(result.timezone)
    series, left, bill = result.series, result.departures, result.bill
    return {
        "intervals": {
            "start": [local(at_s) for at_s in series.start_s], "start_s": series.start_s,
            "building_kw": series.building_kw, "without_kw": series.without_kw, "with_kw": series.with_kw,
        },
        "departures": {
            "evse_id": [d.evse_id for d in left],
            "arrived": [local(d.arrived_s) for d in left], "arrived_s": [d.arrived_s for d in left],
            "departed": [local(d.departed_s) for d in left], "departed_s": [d.departed_s for d in left],
            "need_kwh": [d.need_kwh for d in left], "got_kwh": [d.got_kwh for d in left],
            "target_soc": [d.target_soc for d in left], "soc": [d.soc for d in left],
        },
        "bill": {
            "part": [line.label for line in bill], "note": [line.note for line in bill],
            "without": [line.without for line in bill], "with": [line.with_ for line in bill],
            "difference": [line.with_ - line.without for line in bill],
        },
        "figures": {
            "start": [local(result.start_s)], "end": [local(result.end_s)],
            **{name: [value] for name, value in _figures(result).items()},
            "saving": [result.bill_without - result.bill_with],
        },
    }  # fmt: skip


def many_tables(result: ManyResult) -> Tables:
    """`seeds` (a row each) and `spreads` (a row for each figure) of a study with many seeds."""
    return {"seeds": _columns(result.seeds), "spreads": _columns(result.spreads)}


def comparison_tables(found: Comparison) -> Tables:
    """`strategies` (a row each) and `intervals` (a column for the building and each strategy) of strategies side by side."""
    local, starts_s = _clock(found.timezone), found.interval_start_s
    named = {f"{name}_kw": kw for name, kw in found.interval_kw.items()}
    rows = _columns(found.strategies)
    return {
        "strategies": {name: cells for name, cells in rows.items() if name not in ("cpu_s", "day_peak_kw")},
        "intervals": {"start": [local(at_s) for at_s in starts_s], "start_s": starts_s, **named},
    }


def _columns(rows: Sequence[Struct]) -> Table:
    """Structs of one kind as columns by their fields; there is at least one."""
    return {name: [getattr(row, name) for row in rows] for name in rows[0].__struct_fields__}


def _figures(result: StudyResult) -> dict[str, Cell]:
    """Every field that is a single text or number, except how long the study took: the same study is the same file."""
    fields = structs.asdict(result)
    return {
        name: value for name, value in fields.items() if isinstance(value, str | int | float) and name != "elapsed_s"
    }


def _clock(timezone: str) -> Callable[[float], str]:
    zone = zone_of(timezone)
    return lambda at_s: datetime.fromtimestamp(at_s, zone).isoformat(timespec="seconds")


# --- formats ------------------------------------------------------------------------------------------------------------


def _writer(write: Callable[[Path, Table], None], table: Table) -> Callable[[Path], None]:
    return lambda part: write(part, table)


def _known(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _plain(cell: Cell) -> Cell:
    """Without carriage returns, which a writer of rows that end with newlines does not quote."""
    return cell.replace("\r\n", "\n").replace("\r", "\n") if isinstance(cell, str) else cell


def _write_csv(path: Path, table: Table) -> None:
    """Header and rows; numbers as they are read back exactly, missing ones empty, line ends within texts as newlines."""

    def rows(file: TextIO) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        writer.writerows([_plain(_known(cell)) for cell in row] for row in zip(*table.values(), strict=True))

    _flushed(path, rows)


def _flushed(path: Path, write: Callable[[TextIO], object]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _write_parquet(path: Path, table: Table) -> None:
    arrow, parquet = _parquet()
    columns = {name: arrow.array([_known(cell) for cell in cells]) for name, cells in table.items()}
    with path.open("wb") as file:
        parquet.write_table(arrow.table(columns), file)
        file.flush()
        os.fsync(file.fileno())


def _parquet() -> tuple[Any, Any]:
    """pyarrow and its Parquet part. Raises `ValueError` with the cure where they are not installed."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(NO_PARQUET) from None
