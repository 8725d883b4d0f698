"""A bill that is kept while it grows: what it is at any instant, and what the next kW and the next kWh would add.

The same settlement as `bill`, fed one sample at a time: constant work per sample, and after the last sample the same total.
"""

from collections import deque
from collections.abc import Callable, Sequence
from math import floor, inf

from gridtide.market.bill import demand_step_s, unbilled
from gridtide.market.settle import Bill, MonthBill, Settled, YearBill, bill_of, charge_cost, settle_month, settle_year
from gridtide.market.sums import MonthSums, YearToDate, added, demand_key, empty_month, ratchet_kw
from gridtide.market.tariff import Tariff, local_time, period_at
from gridtide.market.tiers import demand_that_costs, depends_on_demand

_SECONDS_PER_HOUR = 3600.0
_ALIGN_S = 1e-6


class RunningBill:
    """The bill of the samples told so far. Arguments as of `bill`; samples come in order and do not overlap."""

    def __init__(
        self,
        tariff: Tariff,
        earlier_peaks_kw: Sequence[float] = (),
        coincident_s: Sequence[float] = (),
        year_to_date: YearToDate | None = None,
    ) -> None:
        self.tariff = tariff
        self._peaks_kw = list(earlier_peaks_kw)
        self._coincident_s = tuple(coincident_s)
        self._before = year_to_date
        self._bank_kwh: dict[int, float] = {}
        self._months: list[MonthBill] = []
        self._years: list[YearBill] = []
        self._year: tuple[int, YearToDate] | None = None
        self._month: MonthSums | None = None
        self._demand = _Interval(tariff)
        self._has_reactive = False

    def add(
        self,
        start_s: float,
        mean_import_kw: float,
        duration_s: float,
        generation_kw: float = 0.0,
        reactive_kvar: float | None = None,
    ) -> None:
        """Add a sample: its start (UTC epoch s), its average net power, kW (+ import, - export), and its length, s."""
        if self._month is None or start_s >= self._month.end_s - _ALIGN_S:
            self._turn(start_s)
        sums = self._open
        load_kw, sold_kw = mean_import_kw, max(-mean_import_kw, 0.0)
        if self.tariff.metering == "buy_all_sell_all":
            load_kw, sold_kw = mean_import_kw + generation_kw, generation_kw
        hours = duration_s / _SECONDS_PER_HOUR
        sums.covered_s += duration_s
        sums.add_energy(self._energy_period(start_s), max(load_kw, 0.0) * hours, sold_kw * hours)
        self._has_reactive |= reactive_kvar is not None
        for begun_s, kw, kvar, fresh in self._demand.add(start_s, load_kw, abs(reactive_kvar or 0.0), duration_s):
            self._note(sums, begun_s, kw, kvar, fresh)

    @property
    def _open(self) -> MonthSums:
        if self._month is None:
            raise ValueError("no sample yet: add one before asking what the next costs")
        return self._month

    def _energy_period(self, at_s: float) -> int:
        return period_at(self.tariff.energy.calendar, self.tariff, at_s)

    def _note(self, sums: MonthSums, begun_s: float, kw: float, kvar: float, fresh: bool) -> None:
        """Count a finished demand interval; `fresh`: the first whole window, before which sub-intervals stood in."""
        if fresh:
            sums.forget_demand()
        sums.add_demand(self.tariff, begun_s, kw)
        sums.peak_kvar = max(sums.peak_kvar, kvar)
        charge = self.tariff.coincident
        for at_s in self._coincident_s if charge is not None else ():
            if charge is not None and begun_s <= at_s < begun_s + demand_step_s(self.tariff):
                sums.add_coincident(self.tariff, charge, at_s, kw)

    def _turn(self, start_s: float) -> None:
        """Settle the month that is over and open the next."""
        if self._month is not None:
            sums = self._complete()
            settled = self._settle(sums)
            self._months.append(settled.bill)
            self._peaks_kw.append(sums.peak_kw)
            self._bank_kwh = dict(settled.bank_kwh)
            self._year = (sums.year, self._year_with(sums, settled))
        self._month = empty_month(self.tariff, start_s)
        self._demand.reset()
        if self._year is None:
            self._year = (self._month.year, self._before or YearToDate())
        elif self._year[0] != self._month.year:
            self._years.append(settle_year(self.tariff, *self._year, self._before))
            self._before, self._year = None, (self._month.year, YearToDate())

    def _settle(self, sums: MonthSums) -> Settled:
        return settle_month(self.tariff, sums, self._peaks_kw, self._bank_kwh)

    def _year_with(self, sums: MonthSums, settled: Settled) -> YearToDate:
        so_far = self._year[1] if self._year is not None else YearToDate()
        return added(so_far, sums.import_kwh, sums.peak_kw, sums.covered_s, settled.charged)

    def _complete(self) -> MonthSums:
        """The open month with its unfinished demand interval counted as it stands."""
        sums = self._open.copy()
        for item in self._demand.unfinished():
            self._note(sums, *item)
        return sums

    def bill(self) -> Bill:
        """What the samples so far cost."""
        missing = unbilled(self.tariff, self._has_reactive, bool(self._coincident_s))
        if self._month is None:
            return bill_of(self.tariff, (), (), missing)
        sums = self._complete()
        settled = self._settle(sums)
        year = settle_year(self.tariff, sums.year, self._year_with(sums, settled), self._before)
        return bill_of(self.tariff, [*self._months, settled.bill], [*self._years, year], missing)

    def _cost(self, sums: MonthSums) -> float:
        """What the open month and year cost: the part of the total that can still change."""
        settled = self._settle(sums)
        return (
            settled.bill.total + settle_year(self.tariff, sums.year, self._year_with(sums, settled), self._before).total
        )

    def _extra(self, change: Callable[[MonthSums], None]) -> float:
        sums = self._complete()
        before = self._cost(sums)
        change(sums)
        return self._cost(sums) - before

    def next_kwh(self, at_s: float, kwh: float = 1.0) -> float:
        """What `kwh` more import adds at an instant of the open month, taxes included, peaks aside."""
        return self._extra(lambda sums: sums.add_energy(self._energy_period(at_s), kwh, 0.0))

    def next_export_kwh(self, at_s: float, kwh: float = 1.0) -> float:
        """What `kwh` more export earns at an instant of the open month."""
        return -self._extra(lambda sums: sums.add_energy(self._energy_period(at_s), 0.0, kwh))

    def block_cost(self, at_s: float, mean_kw: float) -> float:
        """What a demand interval that begins at `at_s` adds when it ends at `mean_kw`, against one at 0 kW; energy aside."""
        sums = self._complete()
        sums.add_demand(self.tariff, at_s, 0.0)
        before = self._cost(sums)
        sums.add_demand(self.tariff, at_s, mean_kw)
        return self._cost(sums) - before

    def free_kw(self, at_s: float) -> float:
        """Up to which average a demand interval that begins at `at_s` costs nothing, kW; infinite where demand never costs."""
        sums = self._complete()
        floor_kw = ratchet_kw(self.tariff, sums.month, self._peaks_kw)
        limits_kw = []
        for charge, peaks in zip(self.tariff.demand, sums.peaks_kw, strict=True):
            key = demand_key(self.tariff, charge, at_s)
            tiers = charge.periods[key[1]]
            ratcheted = charge.ratcheted and charge.per == "month"
            held_kw = max(peaks.get(key, 0.0), floor_kw if ratcheted else 0.0)
            if charge.combine == "dearest":
                spent = charge_cost(charge, {**peaks, key: held_kw}, floor_kw)
                held_kw = max(held_kw, demand_that_costs(tiers, spent))
            if any(tier.price_per_kw > 0.0 for tier in tiers):
                limits_kw.append(held_kw)
        if self.tariff.regime is not None:
            limits_kw.append(max(sums.peak_kw, self._year[1].peak_kw if self._year is not None else 0.0))
        if depends_on_demand(self.tariff.energy):
            limits_kw.append(max(sums.peak_kw, floor_kw))
        return min(limits_kw, default=inf)

    def next_kw(self, at_s: float, kw: float = 1.0) -> float:
        """What the first `kw` above `free_kw` cost in a demand interval that begins at `at_s`; 0 where demand never costs."""
        free_kw = self.free_kw(at_s)
        return 0.0 if free_kw == inf else self.block_cost(at_s, free_kw + kw)


class _Interval:
    """Averages of demand intervals from finer samples: what is finished, and what is not yet."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._step_s = demand_step_s(tariff)
        self._length = round(tariff.interval_s / self._step_s) if tariff.interval_kind == "rolling" else 1
        self.reset()

    def reset(self) -> None:
        self._start_s, self._seconds, self._kws, self._kvars = -inf, 0.0, 0.0, 0.0
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=self._length)
        self._whole = False

    def add(self, at_s: float, kw: float, kvar: float, duration_s: float) -> list[tuple[float, float, float, bool]]:
        """Take a sample; (start s, kW, kvar, first whole window) of the intervals that it finishes."""
        done = []
        start_s = self._block_start_s(at_s, duration_s)
        if self._seconds > 0.0 and abs(start_s - self._start_s) > _ALIGN_S:
            self._recent.append(self._mean())
            done = self._window(self._recent, self._whole)
            self._whole |= any(fresh for *_, fresh in done)
            self._seconds, self._kws, self._kvars = 0.0, 0.0, 0.0
        self._start_s = start_s
        self._seconds += duration_s
        self._kws += kw * duration_s
        self._kvars += kvar * duration_s
        return done

    def unfinished(self) -> list[tuple[float, float, float, bool]]:
        """The interval that is open, as it stands."""
        if self._seconds <= 0.0:
            return []
        recent = deque([*self._recent, self._mean()], maxlen=self._length)
        return self._window(recent, self._whole)

    def _mean(self) -> tuple[float, float, float]:
        return self._start_s, self._kws / self._seconds, self._kvars / self._seconds

    def _window(self, recent: deque[tuple[float, float, float]], whole: bool) -> list[tuple[float, float, float, bool]]:
        start_s, last_s = recent[0][0], recent[-1][0]
        complete = len(recent) == self._length and abs(last_s - start_s - (self._length - 1) * self._step_s) < _ALIGN_S
        if complete:
            count = len(recent)
            kw, kvar = sum(item[1] for item in recent) / count, sum(item[2] for item in recent) / count
            return [(start_s, kw, kvar, self._length > 1 and not whole)]
        return [] if whole else [(*recent[-1], False)]

    def _block_start_s(self, at_s: float, duration_s: float) -> float:
        if duration_s > self._step_s - _ALIGN_S:
            return at_s
        offset = local_time(self._tariff, at_s).utcoffset()
        offset_s = offset.total_seconds() if offset is not None else 0.0
        return floor((at_s + offset_s) / self._step_s) * self._step_s - offset_s
