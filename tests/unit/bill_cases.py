"""Short ways to tariffs and series for the tests of the bill."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from gridtide.market.bill import Bill, bill
from gridtide.market.charges import Floats
from gridtide.market.tariff import Tariff
from gridtide.market.tariff_formats import parse_tariff

DAY = list(range(24))


def urdb(**fields: Any) -> Tariff:
    """A URDB rate in UTC; energy at 0 unless it is given."""
    return parse_tariff({"name": "case", "energyratestructure": [[{"rate": 0.0}]], **fields}, timezone="UTC")


def hours(*spans: tuple[int, int]) -> list[int]:
    """24 period numbers: 1 within the spans."""
    return [int(any(a <= h < b for a, b in spans)) for h in DAY]


def at_s(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


def span(begin: tuple[int, ...], end: tuple[int, ...], step_s: float = 900.0) -> Floats:
    return np.arange(at_s(*begin), at_s(*end), step_s)


def hour_of(start_s: Floats) -> Floats:
    """Hour of the UTC day of each start."""
    return np.asarray(start_s % 86_400.0 / 3_600.0)


def billed(tariff: Tariff, start_s: Floats, kw: Floats | float, **more: Any) -> Bill:
    """The bill of a series, or of a constant power."""
    return bill(tariff, start_s, np.broadcast_to(np.asarray(kw, dtype=float), start_s.shape), 900.0, **more)
