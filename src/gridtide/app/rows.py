"""Rows of a CSV text by their column names, each value checked; what is wrong is noted with the row's line."""

import csv
import difflib
import io
import math
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from msgspec import Struct

from gridtide.app.problems import ConfigError, Problem, shown


class Row(Struct, frozen=True):
    """One row: its values by column, and its line in the file."""

    line: int
    values: dict[str, str]


class Rows:
    """Reads one CSV text; `problems` holds what was wrong."""

    def __init__(self, source: str, text: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._text = text
        self._needed = needed
        self._known = needed + optional

    def tell(self, line: int, field: str, value: object, text: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(line, field, "" if value is None else shown(value), text))

    def finish(self) -> None:
        """Raise `ConfigError` if anything was noted."""
        if self.problems:
            raise ConfigError(self.source, self.problems)

    def __iter__(self) -> Iterator[Row]:
        delimiter = _delimiter(self._text)
        reader = csv.reader(io.StringIO(self._text, newline=""), delimiter=delimiter)
        header: list[str] | None = None
        try:
            for cells in reader:
                if not any(cell.strip() for cell in cells) or cells[0].startswith("#"):
                    continue
                if header is None:
                    header = self._header(reader.line_num, cells)
                    if header is None:
                        return
                elif len(cells) != len(header):
                    text = f"{len(cells)} values where the header names {len(header)} columns"
                    self.tell(reader.line_num, "", None, text)
                else:
                    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
                    yield Row(reader.line_num, values)
        except csv.Error as error:
            self.tell(reader.line_num, "", None, f"is not CSV: {error}")
        if header is None:
            self.tell(1, "", None, f"the file is empty: give a header with {', '.join(self._needed)}, and rows")

    def _header(self, line: int, cells: list[str]) -> list[str] | None:
        names = [cell.strip().lower() for cell in cells]
        missing = [name for name in self._needed if name not in names]
        for name in missing:
            near = difflib.get_close_matches(name, names, 1)
            cure = f'; is it "{near[0]}"?' if near else ""
            self.tell(line, name, None, f"the header has no such column{cure}")
        doubled = sorted({name for name in names if name in self._known and names.count(name) > 1})
        for name in doubled:
            self.tell(line, name, None, "the header has this column twice")
        return None if missing or doubled else names

    def number(self, row: Row, field: str, low: float, high: float, unit: str) -> float:
        """A finite number within bounds; nan with a problem noted otherwise."""
        text = row.values[field]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        hint = " with a decimal point" if "," in text else ""
        self.tell(row.line, field, text, f"give a number{hint} from {low:g} to {high:g}, in {unit}")
        return math.nan

    def instant(self, row: Row, field: str) -> datetime | None:
        """An ISO 8601 time, naive (local) or with an offset; None with a problem noted otherwise."""
        text = row.values[field]
        with suppress(ValueError):
            value = datetime.fromisoformat(text)
            if 1970 < value.year < 2200:
                return value
        self.tell(row.line, field, text, "give date and time, as 2019-05-01T08:15 or 2019-05-01T08:15:00+02:00")
        return None


def _delimiter(text: str) -> str:
    """A semicolon if the first line that is no comment has more of them than commas, as spreadsheets write it."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return ";" if first.count(";") > first.count(",") else ","
