"""The bill of a period from its interval averages (PS12): energy, export, demand, fixed, minimum, reactive, taxes.

Each billing month (calendar month, local time) is settled by itself, an annual regime or minimum by the calendar year.
"""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gridtide.market.charges import DemandCharge, Floats
from gridtide.market.settle import Bill, MonthBill, YearBill, bill_of, settle_month, settle_year
from gridtide.market.sums import MonthSums, YearToDate, added, empty_month
from gridtide.market.tariff import DAY_S, Tariff, billing_period, periods, utc_offsets_s

__all__ = ["Bill", "MonthBill", "YearBill", "YearToDate", "bill", "demand_averages"]

_SECONDS_PER_HOUR = 3600.0
_ALIGN_S = 1e-6


class _Metered(Struct, frozen=True):
    """What the meters told, shape (n,); power kW or kvar."""

    start_s: Floats
    net_kw: Floats
    generation_kw: Floats
    reactive_kvar: Floats
    interval_s: float

    def part(self, low: int, high: int) -> "_Metered":
        rows = slice(low, high)
        return _Metered(
            self.start_s[rows], self.net_kw[rows], self.generation_kw[rows], self.reactive_kvar[rows], self.interval_s
        )


def bill(
    tariff: Tariff,
    start_s: Floats,
    mean_import_kw: Floats,
    interval_s: float,
    earlier_peaks_kw: Sequence[float] = (),
    *,
    generation_kw: Floats | None = None,
    reactive_kvar: Floats | None = None,
    coincident_s: Sequence[float] = (),
    year_to_date: YearToDate | None = None,
) -> Bill:
    """What a metered series costs.

    `start_s`, `mean_import_kw`: shape (n,), starts of the samples (UTC epoch s, rising) and their average net power, kW
    (+ import, - export). `interval_s`: length of a sample; it divides the tariff's interval (its sub-interval if rolling).
    `earlier_peaks_kw`: peaks of the months before, oldest first, for the ratchet. `generation_kw` (n,), >= 0: needed where
    load and generation have meters of their own; `reactive_kvar` (n,): for a reactive charge; `coincident_s`: instants of the
    utility's peaks; `year_to_date`: what the first calendar year held before. Months not wholly covered are billed on what is
    there, with the whole month's fixed price and minimum; years in proportion to the time that is there. Raises `ValueError`
    on samples that cannot be billed.
    """
    metered = _metered(tariff, start_s, mean_import_kw, interval_s, generation_kw, reactive_kvar)
    start_s = metered.start_s
    peaks_kw, bank_kwh = list(earlier_peaks_kw), dict[int, float]()
    months: list[MonthBill] = []
    years: dict[int, YearToDate] = {}
    before: dict[int, YearToDate] = {}
    low = 0
    while low < start_s.size:
        end_s = billing_period(tariff, float(start_s[low]))[1]
        high = int(np.searchsorted(start_s, end_s))
        sums = _month(tariff, metered.part(low, high), coincident_s)
        settled = settle_month(tariff, sums, peaks_kw, bank_kwh)
        if not years and year_to_date is not None:
            years[sums.year] = before[sums.year] = year_to_date
        so_far = years.get(sums.year, YearToDate())
        years[sums.year] = added(so_far, sums.import_kwh, sums.peak_kw, sums.covered_s, settled.charged)
        months.append(settled.bill)
        peaks_kw.append(sums.peak_kw)
        bank_kwh = dict(settled.bank_kwh)
        low = high
    annual = [settle_year(tariff, year, sums, before.get(year)) for year, sums in years.items()]
    return bill_of(tariff, months, annual, unbilled(tariff, reactive_kvar is not None, bool(coincident_s)))


def unbilled(tariff: Tariff, has_reactive: bool, has_coincident: bool) -> tuple[str, ...]:
    """Charges of a tariff that what is metered does not allow to bill."""
    missing = []
    if tariff.reactive_per_kvar and not has_reactive:
        missing.append("reactive power is charged but not metered: nothing was billed for it")
    if tariff.coincident is not None and not has_coincident:
        missing.append(
            "coincident demand is charged but no instants of the utility's peaks are given: nothing was billed"
        )
    return tuple(missing)


def _metered(
    tariff: Tariff,
    start_s: Floats,
    mean_import_kw: Floats,
    interval_s: float,
    generation_kw: Floats | None,
    reactive_kvar: Floats | None,
) -> _Metered:
    start_s, net_kw = np.asarray(start_s, dtype=float), np.asarray(mean_import_kw, dtype=float)
    _check(tariff, start_s, net_kw, interval_s)
    side: list[Floats] = []
    for name, given in (("generation_kw", generation_kw), ("reactive_kvar", reactive_kvar)):
        values = np.zeros_like(net_kw) if given is None else np.asarray(given, dtype=float)
        if values.shape != net_kw.shape or not np.isfinite(values).all():
            raise ValueError(f"{name} {values.shape}: give one finite value for each start")
        side.append(values)
    if (side[0] < 0.0).any():
        raise ValueError("generation_kw holds a value below 0: give what is generated as a positive number")
    if tariff.metering == "buy_all_sell_all" and (net_kw + side[0] < -1e-9).any():
        raise ValueError("generation_kw is less than what is exported: this tariff needs the generation meter's series")
    return _Metered(start_s, net_kw, side[0], side[1], interval_s)


def _month(tariff: Tariff, metered: _Metered, coincident_s: Sequence[float]) -> MonthSums:
    sums = empty_month(tariff, float(metered.start_s[0]))
    load_kw = metered.net_kw
    sold_kw = np.maximum(-metered.net_kw, 0.0)
    if tariff.metering == "buy_all_sell_all":
        load_kw, sold_kw = metered.net_kw + metered.generation_kw, metered.generation_kw
    hours = metered.interval_s / _SECONDS_PER_HOUR
    sums.covered_s = metered.start_s.size * metered.interval_s
    _add_energy(sums, tariff, metered.start_s, np.maximum(load_kw, 0.0) * hours, sold_kw * hours)
    demand_s, demand_kw = demand_averages(tariff, metered.start_s, load_kw, metered.interval_s)
    _add_demand(sums, tariff, demand_s, np.maximum(demand_kw, 0.0))
    if tariff.reactive_per_kvar:
        kvar = np.abs(metered.reactive_kvar)
        sums.peak_kvar = float(demand_averages(tariff, metered.start_s, kvar, metered.interval_s)[1].max())
    if tariff.coincident is not None:
        for at_s in coincident_s:
            row = int(np.searchsorted(demand_s, at_s, side="right")) - 1
            if row >= 0 and at_s < demand_s[row] + demand_step_s(tariff):
                sums.add_coincident(tariff, tariff.coincident, at_s, float(demand_kw[row]))
    return sums


def _add_energy(sums: MonthSums, tariff: Tariff, start_s: Floats, import_kwh: Floats, export_kwh: Floats) -> None:
    period = periods(tariff.energy.calendar, tariff, start_s)
    if sums.in_order:
        first = np.flatnonzero(np.diff(period, prepend=-1))
        rows = zip(
            period[first].tolist(), np.add.reduceat(import_kwh, first).tolist(),
            np.add.reduceat(export_kwh, first).tolist(), strict=True,
        )  # fmt: skip
    else:
        found = np.unique(period).tolist()
        rows = zip(
            found, [math.fsum(import_kwh[period == p]) for p in found],
            [math.fsum(export_kwh[period == p]) for p in found], strict=True,
        )  # fmt: skip
    sums.energy = list(rows)
    sums.import_kwh, sums.export_kwh = math.fsum(import_kwh), math.fsum(export_kwh)


def _add_demand(sums: MonthSums, tariff: Tariff, start_s: Floats, demand_kw: Floats) -> None:
    sums.peak_kw = float(demand_kw.max())
    for charge, peaks in zip(tariff.demand, sums.peaks_kw, strict=True):
        period = periods(charge.calendar, tariff, start_s)
        day = _local_days(tariff, charge, start_s)
        keys, of_row = np.unique(np.stack([day, period]), axis=1, return_inverse=True)
        highest = np.zeros(keys.shape[1])
        np.maximum.at(highest, of_row.ravel(), demand_kw)
        peaks |= {(int(d), int(p)): float(kw) for d, p, kw in zip(keys[0], keys[1], highest, strict=True)}


def _local_days(tariff: Tariff, charge: DemandCharge, start_s: Floats) -> NDArray[np.int64]:
    """Ordinal of each interval's local day, as `date.toordinal`; 0 for a monthly charge."""
    if charge.per == "month":
        return np.zeros(start_s.shape, dtype=np.int64)
    local_s = start_s + utc_offsets_s(tariff.timezone, start_s)
    return np.floor(local_s / DAY_S).astype(np.int64) + 719_163


def demand_step_s(tariff: Tariff) -> float:
    """How often a demand interval begins, s."""
    return float(tariff.interval_s if tariff.interval_kind == "block" else tariff.sub_interval_s)


def demand_averages(tariff: Tariff, start_s: Floats, mean_kw: Floats, interval_s: float) -> tuple[Floats, Floats]:
    """Starts (UTC epoch s) and averages (kW, signed) of the intervals that demand is billed on, from finer samples.

    Blocks are aligned to the local clock; a block with samples missing is the mean of those present. Rolling windows
    move by the sub-interval and count only when whole; where none is, each sub-interval counts by itself.
    """
    step_s = demand_step_s(tariff)
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
        return start_s, mean_kw
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
    step_s = demand_step_s(tariff)
    parts = step_s / interval_s
    if parts < 1 - 1e-9 or abs(parts - round(parts)) > 1e-9:
        cure = f"this tariff needs samples that divide {step_s:g} s"
        raise ValueError(f"interval_s = {interval_s:g}: {cure}")
