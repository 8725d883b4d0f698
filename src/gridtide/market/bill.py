"""The bill of a period from its interval averages: energy by time of use, export credit, demand, fixed, taxes (PS12).

Each billing month (calendar month, local time) is billed by itself. A month's demand charge is its dearest interval:
the largest product of average power and the demand price in force then, not below the ratchet.
Sums are left unrounded; a cent is rounded where it is shown.
"""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gridtide.market.tariff import Floats, Tariff, billing_period, demand_prices, prices, utc_offsets_s

_SECONDS_PER_HOUR = 3600.0
_ALIGN_S = 1e-6


class MonthBill(Struct, frozen=True):
    """One billing month; money in the tariff's currency, credit as a positive number that is taken off."""

    start_s: float
    end_s: float
    import_kwh: float
    export_kwh: float
    peak_kw: float
    """Highest interval average of import."""
    billed_kw: float
    """Demand that was billed: the peak, or the ratchet where that is higher."""
    energy: float
    export_credit: float
    demand: float
    fixed: float
    taxes: float

    @property
    def total(self) -> float:
        """What the month costs."""
        return math.fsum((self.energy, self.demand, self.fixed, self.taxes, -self.export_credit))


class Bill(Struct, frozen=True):
    """The sum of the months, and the months; money in `currency`."""

    currency: str
    months: tuple[MonthBill, ...]
    energy: float
    export_credit: float
    demand: float
    fixed: float
    taxes: float
    total: float


def bill(
    tariff: Tariff,
    start_s: Floats,
    mean_import_kw: Floats,
    interval_s: float,
    earlier_peaks_kw: Sequence[float] = (),
) -> Bill:
    """What a metered series costs.

    `start_s`, `mean_import_kw`: shape (n,), starts of the samples (UTC epoch s, rising) and their average power, kW
    (+ import, - export). `interval_s`: length of a sample; it divides the tariff's interval (its sub-interval if
    rolling). `earlier_peaks_kw`: peaks of the months before, oldest first, for the ratchet. Months not wholly covered
    are billed on what is there, with the whole month's fixed price. Raises `ValueError` on samples that cannot be
    billed.
    """
    start_s, mean_import_kw = np.asarray(start_s, dtype=float), np.asarray(mean_import_kw, dtype=float)
    _check(tariff, start_s, mean_import_kw, interval_s)
    peaks_kw = list(earlier_peaks_kw)
    months: list[MonthBill] = []
    low = 0
    while low < start_s.size:
        period = billing_period(tariff, float(start_s[low]))
        high = int(np.searchsorted(start_s, period[1]))
        month = _month(tariff, start_s[low:high], mean_import_kw[low:high], interval_s, peaks_kw, period)
        months.append(month)
        peaks_kw.append(month.peak_kw)
        low = high
    return Bill(
        currency=tariff.currency,
        months=tuple(months),
        energy=math.fsum(m.energy for m in months),
        export_credit=math.fsum(m.export_credit for m in months),
        demand=math.fsum(m.demand for m in months),
        fixed=math.fsum(m.fixed for m in months),
        taxes=math.fsum(m.taxes for m in months),
        total=math.fsum(m.total for m in months),
    )


def _month(
    tariff: Tariff,
    start_s: Floats,
    mean_kw: Floats,
    interval_s: float,
    earlier_peaks_kw: Sequence[float],
    period: tuple[float, float],
) -> MonthBill:
    hours = interval_s / _SECONDS_PER_HOUR
    import_kwh = np.maximum(mean_kw, 0.0) * hours
    export_kwh = math.fsum(np.maximum(-mean_kw, 0.0) * hours)
    demand_s, demand_kw = demand_averages(tariff, start_s, mean_kw, interval_s)
    demand_kw = np.maximum(demand_kw, 0.0)
    price_per_kw = demand_prices(tariff, demand_s)
    floor_kw = tariff.ratchet_fraction * max(earlier_peaks_kw[-tariff.ratchet_months :], default=0.0)
    peak_kw = float(demand_kw.max())
    return MonthBill(
        start_s=period[0],
        end_s=period[1],
        import_kwh=math.fsum(import_kwh),
        export_kwh=export_kwh,
        peak_kw=peak_kw,
        billed_kw=max(peak_kw, floor_kw),
        energy=math.fsum(import_kwh * prices(tariff, start_s)),
        export_credit=export_kwh * tariff.export_credit_per_kwh,
        demand=float((np.maximum(demand_kw, floor_kw) * price_per_kw).max()),
        fixed=tariff.fixed_per_month,
        taxes=math.fsum(import_kwh) * tariff.tax_per_kwh,
    )


def demand_averages(tariff: Tariff, start_s: Floats, mean_kw: Floats, interval_s: float) -> tuple[Floats, Floats]:
    """Starts (UTC epoch s) and averages (kW, signed) of the intervals that demand is billed on, from finer samples.

    Blocks are aligned to the local clock; a block with samples missing is the mean of those present. Rolling windows
    move by the sub-interval and count only when whole, unless none is.
    """
    step_s = float(tariff.interval_s if tariff.interval_kind == "block" else tariff.sub_interval_s)
    block_s, block_kw = _blocks(tariff.timezone, start_s, mean_kw, step_s, interval_s)
    if tariff.interval_kind == "block":
        return block_s, block_kw
    return _windows(block_s, block_kw, step_s, round(tariff.interval_s / step_s))


def _blocks(
    timezone: str, start_s: Floats, mean_kw: Floats, block_s: float, interval_s: float
) -> tuple[Floats, Floats]:
    if abs(block_s - interval_s) < _ALIGN_S:
        return start_s, mean_kw
    offset_s = utc_offsets_s(timezone, start_s)
    of_sample = np.floor((start_s + offset_s) / block_s) * block_s - offset_s
    starts_s, first = np.unique(of_sample, return_index=True)
    counts = np.diff(np.append(first, start_s.size))
    return starts_s, np.add.reduceat(mean_kw, first) / counts


def _windows(start_s: Floats, mean_kw: Floats, step_s: float, length: int) -> tuple[Floats, Floats]:
    if start_s.size < length:
        return start_s[:1], np.array([mean_kw.mean()])
    view: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(mean_kw, length)
    first_s, last_s = start_s[: view.shape[0]], start_s[length - 1 :]
    whole = np.abs(last_s - first_s - (length - 1) * step_s) < _ALIGN_S
    if not whole.any():
        return start_s, mean_kw
    return first_s[whole], view[whole].mean(axis=1)


def _check(tariff: Tariff, start_s: Floats, mean_kw: Floats, interval_s: float) -> None:
    """Raise `ValueError` naming what is wrong with the samples and what to do."""
    if start_s.ndim != 1 or start_s.shape != mean_kw.shape:
        raise ValueError(f"start_s {start_s.shape} and mean_import_kw {mean_kw.shape}: give one average for each start")
    if not (np.isfinite(start_s).all() and np.isfinite(mean_kw).all()):
        raise ValueError("mean_import_kw holds a value that is not finite: leave out the samples that are missing")
    if not (math.isfinite(interval_s) and interval_s > 0):
        raise ValueError(f"interval_s = {interval_s}: give a positive number of seconds")
    if (np.diff(start_s) < interval_s - _ALIGN_S).any():
        raise ValueError("start_s: samples overlap or are out of order; sort them and leave out doubles")
    step_s = tariff.interval_s if tariff.interval_kind == "block" else tariff.sub_interval_s
    parts = step_s / interval_s
    if parts < 1 - 1e-9 or abs(parts - round(parts)) > 1e-9:
        cure = f"this tariff needs samples that divide {step_s} s"
        raise ValueError(f"interval_s = {interval_s:g}: {cure}")
