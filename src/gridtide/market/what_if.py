"""What a bill would be with less power or energy at certain times, and how much a cap asks of storage."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from gridtide.market.bill import Bill, YearToDate, bill
from gridtide.market.charges import Floats
from gridtide.market.tariff import Tariff


class Change(Struct, frozen=True):
    """Less import over a span of time; less than nothing is more. An energy is spread evenly over the span."""

    start_s: float
    end_s: float
    less_kw: float = 0.0
    less_kwh: float = 0.0


class WhatIf(Struct, frozen=True):
    """Both bills; savings are positive where the change pays. A regime that turns over shows in `regime_changed`."""

    before: Bill
    after: Bill
    saved: float
    saved_energy: float
    """Of energy and its taxes, less the credit."""
    saved_demand: float
    regime_changed: bool
    """An annual regime is another than before: the saving holds for this change, not for each kW of it."""


def what_if(
    tariff: Tariff,
    start_s: Floats,
    mean_import_kw: Floats,
    interval_s: float,
    changes: Sequence[Change],
    earlier_peaks_kw: Sequence[float] = (),
    year_to_date: YearToDate | None = None,
) -> WhatIf:
    """The bill with and without changes; other arguments as of `bill`. Raises `ValueError` where a change meets no sample."""
    start_s = np.asarray(start_s, dtype=float)
    changed_kw = np.array(mean_import_kw, dtype=float)
    for change in changes:
        rows = (start_s >= change.start_s) & (start_s < change.end_s)
        if not rows.any():
            raise ValueError(f"change from {change.start_s:.0f} to {change.end_s:.0f} s: no sample starts in it")
        changed_kw[rows] -= change.less_kw + change.less_kwh * 3600.0 / (interval_s * int(rows.sum()))
    before, after = (
        bill(tariff, start_s, kw, interval_s, earlier_peaks_kw, year_to_date=year_to_date)
        for kw in (np.asarray(mean_import_kw, dtype=float), changed_kw)
    )
    return WhatIf(
        before, after, before.total - after.total, _energy(before) - _energy(after), before.demand - after.demand,
        [y.regime for y in before.years] != [y.regime for y in after.years],
    )  # fmt: skip


def _energy(item: Bill) -> float:
    return item.energy + item.taxes - item.export_credit


class AboveCap(Struct, frozen=True):
    """What lies above a cap on the interval average."""

    peak_kw: float
    intervals: int
    energy_kwh: float
    """Energy above the cap: what storage must give, losses aside."""
    saved_kw: float


def above_cap(mean_kw: Floats, interval_s: float, cap_kw: float) -> AboveCap:
    """How far interval averages (n,), kW, of `interval_s` each lie above a cap."""
    over_kw = np.maximum(np.asarray(mean_kw, dtype=float) - cap_kw, 0.0)
    highest_kw = float(np.max(mean_kw, initial=0.0))
    return AboveCap(
        highest_kw,
        int((over_kw > 0.0).sum()),
        float(over_kw.sum()) * interval_s / 3600.0,
        max(highest_kw - cap_kw, 0.0),
    )
