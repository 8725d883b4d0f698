"""Decoded TOML to frozen structs, field by field: a wrong value is noted and reading goes on, so that all is told at once.

What a field takes is its type: `Annotated[float, Meta(ge=..., le=...)]`, `Literal`, `str` with a pattern, `bool`, `date`, tuples
and structs of these. `Meta(extra={"cure": ...})` replaces the sentence that is made from the bounds.
"""

import difflib
import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, TypeVar, cast

from msgspec import NODEFAULT, Struct, inspect

from gridtide.app.problems import Problem, shown
from gridtide.app.toml_lines import KeyPath, line_of

S = TypeVar("S", bound=Struct)

_FEW = 8
_UNREADABLE: dict[type[inspect.Type], Any] = {
    inspect.FloatType: math.nan,
    inspect.IntType: 0,
    inspect.StrType: "",
    inspect.BoolType: False,
    inspect.DateType: date.min,
}
"""What stands for a value that could not be read: comparisons with nan are false, so no problem is told twice."""


class Fields:
    """Reads structs from untrusted tables; `problems` holds what was wrong."""

    def __init__(self, lines: dict[KeyPath, int]) -> None:
        self.problems: list[Problem] = []
        self._lines = lines

    def tell(self, path: KeyPath, value: object, text: str) -> None:
        """Note a problem with the key at `path`; `value` None means that it is missing or goes without saying."""
        self.problems.append(Problem(self.line(path), dotted(path), "" if value is None else shown(value), text))

    def line(self, path: KeyPath) -> int:
        """Line of a key or of the table it belongs to."""
        return line_of(self._lines, path)

    def read(self, cls: type[S], table: Mapping[str, Any], path: KeyPath = ()) -> S:
        """A struct from a table. Where something is wrong it holds stand-ins: look at `problems` before using it."""
        kind = cast(inspect.StructType, inspect.type_info(cls))
        known = {field.name: field for field in kind.fields}
        for key in table:
            if key not in known:
                self._unknown((*path, key), table[key], key, list(known))
        values = {name: self._field(field, table, (*path, name)) for name, field in known.items()}
        return cls(**values)

    def _unknown(self, path: KeyPath, value: object, key: str, known: list[str]) -> None:
        near = difflib.get_close_matches(key, known, 1, 0.6)
        few = ", ".join(known) if len(known) <= _FEW else ""
        cure = f'did you mean "{near[0]}"?' if near else f"known here are {few}" if few else "correct or remove it"
        self.tell(path, None if isinstance(value, dict | list) else value, f"is not known; {cure}")

    def _field(self, field: inspect.Field, table: Mapping[str, Any], path: KeyPath) -> Any:
        kind, extra = _bare(field.type)
        if field.name in table:
            return self.value(kind, table[field.name], path, extra.get("cure", ""))
        if field.default is not NODEFAULT:
            return field.default
        if field.default_factory is not NODEFAULT:
            return field.default_factory()
        if isinstance(kind, inspect.StructType):
            return self.read(kind.cls, {}, path)
        self.tell(path, None, f"is missing: {extra.get('cure') or _cure(kind, None, str(path[-1]))}")
        return self._stand_in(kind, path)

    def _stand_in(self, kind: inspect.Type, path: KeyPath) -> Any:
        if isinstance(kind, inspect.LiteralType):
            return kind.values[0]
        if isinstance(kind, inspect.VarTupleType):
            return ()
        if isinstance(kind, inspect.StructType):
            before = len(self.problems)
            made = self.read(kind.cls, {}, path)
            del self.problems[before:]
            return made
        return _UNREADABLE.get(type(kind))

    def value(self, kind: inspect.Type, value: object, path: KeyPath, cure: str = "") -> Any:
        """A checked value, or its stand-in with the problem noted."""
        if isinstance(kind, inspect.UnionType):
            kind, extra = _bare(next(t for t in kind.types if not isinstance(t, inspect.NoneType)))
            cure = cure or extra.get("cure", "")
        if isinstance(kind, inspect.StructType) and isinstance(value, Mapping):
            return self.read(kind.cls, value, path)
        if isinstance(kind, inspect.VarTupleType) and isinstance(value, list):
            item, extra = _bare(kind.item_type)
            return tuple(self.value(item, v, (*path, k), extra.get("cure", "")) for k, v in enumerate(value))
        found = _scalar(kind, value)
        if found is not None:
            return found
        self.tell(path, value, cure or _cure(kind, value, str(path[-1])))
        return self._stand_in(kind, path)


def dotted(path: KeyPath) -> str:
    """A path as a person reads it: `stations[2].charge_kw`, tables counted from 1."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return "".join(c if c.isprintable() else "?" for c in text)


def _bare(kind: inspect.Type) -> tuple[inspect.Type, dict[str, Any]]:
    return (kind.type, kind.extra or {}) if isinstance(kind, inspect.Metadata) else (kind, {})


def _scalar(kind: inspect.Type, value: object) -> Any:
    """The value if its type and bounds fit, else None."""
    if isinstance(kind, inspect.BoolType):
        return value if isinstance(value, bool) else None
    if isinstance(kind, inspect.LiteralType):
        return value if isinstance(value, str | int) and not isinstance(value, bool) and value in kind.values else None
    if isinstance(kind, inspect.StrType):
        fits = isinstance(value, str) and (kind.pattern is None or re.fullmatch(kind.pattern, value) is not None)
        return value if fits else None
    if isinstance(kind, inspect.DateType):
        return _day(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(kind, inspect.FloatType):
        number = _finite(value)
        return number if number is not None and _within(kind, number) else None
    if isinstance(kind, inspect.IntType):
        return value if isinstance(value, int) and _within(kind, value) else None
    return None


def _day(value: object) -> date | None:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        return None


def _finite(value: int | float) -> float | None:
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _within(kind: inspect.FloatType | inspect.IntType, value: float) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def _cure(kind: inspect.Type, value: object, name: str) -> str:
    """What to give instead, in words."""
    if isinstance(kind, inspect.LiteralType):
        choices = [str(v) if isinstance(v, int) else f'"{v}"' for v in kind.values]
        near = difflib.get_close_matches(str(value), [str(v) for v in kind.values], 1) if value is not None else []
        return f"give one of {', '.join(choices)}" + (f'; did you mean "{near[0]}"?' if near else "")
    if isinstance(kind, inspect.StructType):
        return "give a table"
    if isinstance(kind, inspect.VarTupleType):
        return "give [[tables]]" if isinstance(kind.item_type, inspect.StructType) else "give a list"
    words = {
        inspect.BoolType: "give true or false",
        inspect.StrType: "give a text in quotes",
        inspect.DateType: "give a day, as 2019-05-01",
    }
    if type(kind) in words:
        return words[type(kind)]
    noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
    return f"give {noun}{_range(kind)}{_slip(kind, value, name)}"


def _range(kind: inspect.Type) -> str:
    low, above = getattr(kind, "ge", None), getattr(kind, "gt", None)
    high, below = getattr(kind, "le", None), getattr(kind, "lt", None)
    start = f" above {above:g}" if above is not None else f" from {low:g}" if low is not None else ""
    end = f" to {high:g}" if high is not None else f" below {below:g}" if below is not None else ""
    if above is not None and end:
        end = f" and at most {high:g}" if high is not None else f" and{end}"
    return start + end


def _slip(kind: inspect.Type, value: object, name: str) -> str:
    """The slip of a unit that is most often behind a number that is too large."""
    high = getattr(kind, "le", None)
    if isinstance(value, bool) or not isinstance(value, int | float) or high is None or not _finite(value):
        return ""
    if name.endswith(("_kw", "_kwh")) and high < value <= high * 1000:
        unit = name.rsplit("_", 1)[1].replace("w", "W")
        return f"; the unit is {unit}, not {unit[1:]}: did you mean {value / 1000:g}?"
    if high == 1 and 1 < value <= 100:
        return f"; a share of 1, not per cent: did you mean {value / 100:g}?"
    return ""
