"""Money of a running site: what the next kilowatt costs, and what demand cost the fleet has avoided this period.

Two bills grow by every demand interval that closes: of the site, and of the same vehicles charged at once. Both outlive a restart.
"""

import math
from array import array
from typing import Protocol

import msgspec
import numpy as np
import structlog
from msgspec import Struct, structs

from gridtide.control import demand_clock, shadow
from gridtide.control import site as control
from gridtide.control.demand_clock import NEVER_S, DemandState
from gridtide.market.running import RunningBill
from gridtide.market.settle import MonthBill
from gridtide.market.sums import YearToDate, added
from gridtide.market.tariff import Tariff, billing_period, demand_price_per_kw, local_time
from gridtide.model.decision import Decision, Snapshot
from gridtide.model.demand import DemandInterval
from gridtide.run.store import Store

log = structlog.get_logger(__name__)
STATE = "money"
_ALIGN_S = 1e-6


class Service(Protocol):
    """What is asked of the site's service."""

    settings: control.Settings
    state: control.State
    carried: shadow.Carried
    store: Store


class NextKw(Struct, frozen=True):
    """Up to which interval average power costs nothing more, kW, and what the kW above it costs."""

    above_kw: float
    price: float


class Book(Struct, frozen=True):
    """What is kept of one bill: the running month's averages, and the year before it."""

    slots: bytes
    """uint32: which intervals, counted from the month's start."""
    mean_kw: bytes
    """float32."""
    before: YearToDate | None


class Kept(Struct, frozen=True):
    """What is kept of both bills."""

    tariff: str
    month_s: float
    sub_s: float
    site: Book
    at_once: Book


class Account:
    """A bill that grows by the averages of demand (sub-)intervals, and what it takes to begin it again after a restart."""

    def __init__(
        self, tariff: Tariff, sub_s: float, past_peaks_kw: tuple[float, ...], before: YearToDate | None
    ) -> None:
        self._tariff, self._sub_s, self._before = tariff, sub_s, before
        self._running = RunningBill(tariff, past_peaks_kw, year_to_date=before)
        self._slots, self._means_kw = array("I"), array("f")
        self._ends_s = -math.inf
        self.starts_s = -math.inf

    @property
    def count(self) -> int:
        """How many intervals of the month are in it."""
        return len(self._slots)

    def is_of(self, at_s: float) -> bool:
        """Whether anything is known of the month that holds an instant."""
        return self.count > 0 and self.starts_s <= at_s < self._ends_s

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the month is missing up to its last interval."""
        return self.count > 0 and self.count == self._slots[-1] + 1

    def add(self, start_s: float, mean_kw: float) -> None:
        """The average of an interval that closed; one that is known already (a clock set back) is passed over."""
        if start_s < self.starts_s - _ALIGN_S:
            return
        if start_s >= self._ends_s - _ALIGN_S:
            self._turn(start_s)
        slot = round((start_s - self.starts_s) / self._sub_s)
        if self.count and slot <= self._slots[-1]:
            return
        self._running.add(start_s, mean_kw, self._sub_s)
        self._slots.append(slot)
        self._means_kw.append(mean_kw)

    def _turn(self, start_s: float) -> None:
        """The month is over: what it leaves to the year."""
        month_s = billing_period(self._tariff, start_s)
        if self.count:
            closed, so_far = self.month(), self._before or YearToDate()
            covered_s, charged = self.count * self._sub_s, max(closed.total - closed.taxes, 0.0)
            years = {local_time(self._tariff, at_s).year for at_s in (self.starts_s, month_s[0])}
            year = added(so_far, closed.import_kwh, closed.peak_kw, covered_s, charged)
            self._before = year if len(years) == 1 else None
        self.starts_s, self._ends_s = month_s
        self._slots, self._means_kw = array("I"), array("f")

    def month(self) -> MonthBill:
        """The bill of the running month as it stands. Raises `ValueError` before the first interval."""
        if not self.count:
            raise ValueError("no interval has closed yet")
        return self._running.bill().months[-1]

    def next_kw(self, at_s: float, held_kw: float) -> NextKw:
        """For a demand interval that begins at an instant of the month; `held_kw` is billed anyway."""
        free_kw = self._running.free_kw(at_s)
        if free_kw == math.inf:
            return NextKw(held_kw, 0.0)
        if free_kw >= held_kw:
            return NextKw(free_kw, self._running.next_kw(at_s))
        cost = [self._running.block_cost(at_s, kw) for kw in (held_kw, held_kw + 1.0)]
        return NextKw(held_kw, cost[1] - cost[0])

    def book(self) -> Book:
        """What to keep of it."""
        return Book(self._slots.tobytes(), self._means_kw.tobytes(), self._before)

    def read(self, book: Book, month_s: float) -> None:
        """Take in what was kept. Raises `ValueError` on what cannot be."""
        slots, means_kw = np.frombuffer(book.slots, np.uint32), np.frombuffer(book.mean_kw, np.float32)
        year = () if book.before is None else structs.astuple(book.before)
        in_order = slots.size == means_kw.size and (np.diff(slots.astype(np.int64)) > 0).all()
        if not (in_order and np.isfinite(means_kw).all() and all(map(math.isfinite, year))):
            raise ValueError("the kept averages are damaged")
        month = billing_period(self._tariff, month_s)
        if month[0] != month_s or (slots.size and month_s + float(slots[-1]) * self._sub_s >= month[1]):
            raise ValueError("the kept averages are of no month")
        for slot, mean_kw in zip(slots.tolist(), means_kw.tolist(), strict=True):
            self.add(month_s + slot * self._sub_s, mean_kw)


class RunningMoney:
    """Both bills of a running site; told of every cycle, it works only when an interval closes."""

    def __init__(self, tariff: Tariff, service: Service) -> None:
        self._tariff, self._service = tariff, service
        self._interval = service.settings.interval
        self._at_once_was = service.carried.at_once
        self.site, self.at_once = self._accounts(None)
        self._restore()
        self._next: tuple[float, NextKw] | None = None
        self._saved: tuple[tuple[float, int, int], float] | None = None

    def _accounts(self, kept: Kept | None) -> tuple[Account, Account]:
        tariff, sub_s, carried = self._tariff, self._interval.sub_s, self._service.carried
        before = (None, None) if kept is None else (kept.site.before, kept.at_once.before)
        return (
            Account(tariff, sub_s, carried.site.past_peaks_kw, before[0]),
            Account(tariff, sub_s, carried.at_once.past_peaks_kw, before[1]),
        )

    def _restore(self) -> None:
        """What was kept before a restart; what is of an earlier month, another tariff or interval is begun afresh."""
        saved, period_s = self._service.store.get_state(STATE), self._service.carried.site.period_start_s
        try:
            kept = None if saved is None else msgspec.msgpack.decode(saved, type=Kept)
            if kept is None or (kept.tariff, kept.sub_s) != (self._tariff.name, self._interval.sub_s):
                return
            accounts = self._accounts(kept)
            if kept.month_s < period_s - _ALIGN_S:
                return
            for account, book in zip(accounts, (kept.site, kept.at_once), strict=True):
                account.read(book, kept.month_s)
        except (msgspec.DecodeError, ValueError, OverflowError, OSError) as error:
            log.warning("bill_not_restored", error=str(error))
            return
        self.site, self.at_once = accounts

    def watch(
        self,
        before: control.State,
        settings: control.Settings,
        snapshot: Snapshot,
        decision: Decision,
        after: control.State,
    ) -> None:
        """A cycle is over (see `run.site.Watcher`)."""
        was, now = self._at_once_was, self._service.carried.at_once
        self._at_once_was = now
        if not decision.closed and now.sub_start_s == was.sub_start_s:
            return
        interval = settings.interval
        dt_s = snapshot.mono_s - before.at_s
        gap_s = max(5.0, 2.5 * (dt_s if 0.0 < dt_s < 60.0 else settings.cycle_s))
        _, closed = demand_clock.advance(
            was, interval, now.at_s, now.power_kw, gap_s=gap_s, period_start_s=now.period_start_s
        )
        for start_s, mean_kw in sub_means(interval, before.demand, after.demand, decision.closed):
            self.site.add(start_s, mean_kw)
        for start_s, mean_kw in sub_means(interval, was, now, tuple((c.end_s, c.average_kw) for c in closed)):
            self.at_once.add(start_s, mean_kw)
        self._keep()

    def _keep(self) -> None:
        site, at_once = self.site, self.at_once
        if site.count and at_once.count and site.starts_s == at_once.starts_s:
            kept = Kept(self._tariff.name, site.starts_s, self._interval.sub_s, site.book(), at_once.book())
            self._service.store.put_state(STATE, msgspec.msgpack.encode(kept))

    def next_kw(self, now_s: float) -> NextKw:
        """What the next kilowatt of the running interval costs, and above which average; reckoned once an interval."""
        clock, ratchet = self._service.state.demand, self._service.settings.peak.ratchet
        floor_kw = demand_clock.floor_kw(clock, ratchet)
        began = clock.sub_start_s > NEVER_S
        at_s = clock.sub_start_s + self._interval.sub_s - self._interval.length_s if began else now_s
        if self._next is None or self._next[0] != at_s:
            self._next = at_s, self._next_kw(at_s, floor_kw)
        return self._next[1]

    def _next_kw(self, at_s: float, floor_kw: float) -> NextKw:
        if not self.site.is_of(at_s):
            return NextKw(floor_kw, demand_price_per_kw(self._tariff, at_s))
        ratchet = self._service.settings.peak.ratchet
        past_kw = ratchet * max(self._service.state.demand.past_peaks_kw, default=0.0)
        return self.site.next_kw(at_s, past_kw if self.site.is_whole else floor_kw)

    def avoided(self, now_s: float) -> float:
        """What the month's demand costs less than if all had charged at once, taxes included; negative where it costs more."""
        both = self.site, self.at_once
        if self._tariff.regime is not None or not all(item.is_of(now_s) and item.is_whole for item in both):
            carried = self._service.carried
            fewer_kw = max(carried.at_once.peak_kw, 0.0) - max(self._service.state.demand.peak_kw, 0.0)
            return fewer_kw * demand_price_per_kw(self._tariff, now_s)
        key = self.site.starts_s, self.site.count, self.at_once.count
        if self._saved is None or self._saved[0] != key:
            saved = self.at_once.month().demand - self.site.month().demand
            self._saved = key, saved * (1.0 + self._tariff.tax_fraction)
        return self._saved[1]


def sub_means(
    interval: DemandInterval, was: DemandState, now: DemandState, closed: tuple[tuple[float, float], ...]
) -> list[tuple[float, float]]:
    """(start s, average kW) of the sub-intervals that closed between two states of a demand clock.

    A block is its own sub-interval. Of a rolling window the clock remembers only the newest; those before them lie in a gap,
    which it fills evenly.
    """
    if not interval.rolling:
        return [(end_s - interval.length_s, average_kw) for end_s, average_kw in closed]
    count = round((now.sub_start_s - was.sub_start_s) / interval.sub_s) if was.sub_start_s > NEVER_S else 0
    known = [energy_kws / interval.sub_s for energy_kws in now.past_kws][-count:] if count > 0 else []
    means = [known[0]] * (count - len(known)) + known if known else []
    return [(now.sub_start_s - (count - k) * interval.sub_s, mean_kw) for k, mean_kw in enumerate(means)]
