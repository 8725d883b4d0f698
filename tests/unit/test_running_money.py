"""Money of a running site: the next kilowatt of tariffs with windows, ratchets and tiers, over restarts and half-known months."""

import math
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gridtide.control import demand_clock
from gridtide.control.demand_clock import DemandState
from gridtide.control.shadow import Carried
from gridtide.market.charges import UsageRegime
from gridtide.market.running import RunningBill
from gridtide.market.sums import YearToDate
from gridtide.market.tariff import Tariff, billing_period
from gridtide.model.demand import DemandInterval
from gridtide.run.running_money import STATE, Account, Kept, NextKw, RunningMoney, sub_means
from tests.unit.bill_cases import at_s, hours, urdb

WINDOWS = urdb(
    demandratestructure=[[{"rate": 0.0}], [{"rate": 12.0}]],
    demandweekdayschedule=[hours((16, 21))] * 12,
    demandweekendschedule=[[0] * 24] * 12,
    flatdemandstructure=[[{"rate": 8.0}]],
)
RATCHET = urdb(flatdemandstructure=[[{"rate": 10.0}]], lookbackpercent=0.8)
TIERS = urdb(flatdemandstructure=[[{"rate": 5.0, "max": 100.0}, {"rate": 9.0}]])
JANUARY_S = at_s(2018, 1, 1)
CYCLE_S = 0.5


class Store:
    """Keeps what was put last."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put_state(self, name: str, data: bytes) -> None:
        self.kept[name] = data

    def get_state(self, name: str) -> bytes | None:
        return self.kept.get(name)


class Played:
    """A site whose clocks are driven by hand, as the loop drives them."""

    def __init__(
        self, tariff: Tariff, store: Store | None = None, carried: Carried | None = None, interval: DemandInterval | None = None,
        ratchet: float = 0.0,
    ) -> None:  # fmt: skip
        self.tariff, self.interval = tariff, interval or DemandInterval()
        self.store, self.carried = store or Store(), carried or Carried()
        peak = SimpleNamespace(ratchet=ratchet, limit_kw=400.0)
        self.settings = SimpleNamespace(interval=self.interval, peak=peak, cycle_s=CYCLE_S)
        self.state = SimpleNamespace(demand=self.carried.site, at_s=-math.inf)
        self.money = RunningMoney(tariff, cast(Any, self))

    def cycle(self, now_s: float, site_kw: float, at_once_kw: float | None = None) -> None:
        before, period_s = self.state, billing_period(self.tariff, now_s)[0]
        dt_s = now_s - before.at_s if 0.0 < now_s - before.at_s < 60.0 else CYCLE_S
        gap_s = max(5.0, 2.5 * dt_s)
        demand, closed = demand_clock.advance(
            before.demand, self.interval, now_s, site_kw, gap_s=gap_s, period_start_s=period_s
        )
        at_once, self.shadow_closed = demand_clock.advance(
            self.carried.at_once, self.interval, now_s, site_kw if at_once_kw is None else at_once_kw, gap_s=gap_s,
            period_start_s=period_s,
        )  # fmt: skip
        self.state = SimpleNamespace(demand=demand, at_s=now_s)
        self.carried = Carried(demand, DemandState(), at_once)
        decision = SimpleNamespace(closed=tuple((item.end_s, item.average_kw) for item in closed))
        snapshot = SimpleNamespace(mono_s=now_s)
        self.money.watch(*(cast(Any, item) for item in (before, self.settings, snapshot, decision, self.state)))

    def hold(self, from_s: float, to_s: float, site_kw: float, at_once_kw: float | None = None) -> None:
        """A power for a while, looked at every 15 s."""
        for now_s in np.arange(from_s + 15.0, to_s + 1.0, 15.0):
            self.cycle(float(now_s), site_kw, at_once_kw)

    def next_kw(self) -> NextKw:
        return self.money.next_kw(self.state.at_s)


def noon_and_evening() -> Played:
    """1 January 2018, a Monday: 300 kW at noon, 100 kW in the window of the evening."""
    site = Played(WINDOWS)
    site.cycle(JANUARY_S, 50.0)
    for begin, end, kw in ((0, 12, 50.0), (12, 13, 300.0), (13, 16, 50.0), (16, 17, 100.0)):
        site.hold(JANUARY_S + begin * 3600.0, JANUARY_S + end * 3600.0, kw, kw + 40.0)
    return site


def test_the_next_kilowatt_of_a_window_begins_at_the_windows_own_peak() -> None:
    site = noon_and_evening()
    assert (site.next_kw().above_kw, site.next_kw().price) == pytest.approx((100.0, 12.0))
    site.hold(JANUARY_S + 17 * 3600.0, JANUARY_S + 21 * 3600.0, 50.0)
    found = site.next_kw()
    assert (found.above_kw, found.price) == pytest.approx((300.0, 8.0)), "after the window the flat charge counts alone"


def test_what_was_avoided_is_priced_by_each_window_and_taxed() -> None:
    site = noon_and_evening()
    # 340 and 140 kW against 300 and 100: 40 kW at 8 for the month, 40 kW at 12 in the window.
    assert site.money.avoided(site.state.at_s) == pytest.approx(40.0 * 8.0 + 40.0 * 12.0)
    site.hold(JANUARY_S + 17 * 3600.0, JANUARY_S + 18 * 3600.0, 100.0, 150.0)
    assert site.money.avoided(site.state.at_s) == pytest.approx(40.0 * 8.0 + 50.0 * 12.0), "as of the last interval"
    taxed = Played(structs.replace(WINDOWS, tax_fraction=0.19))
    taxed.cycle(JANUARY_S, 50.0)
    taxed.hold(JANUARY_S, JANUARY_S + 1800.0, 50.0, 60.0)
    assert taxed.money.avoided(taxed.state.at_s) == pytest.approx(10.0 * 8.0 * 1.19)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(1.0, 59.0), st.floats(0.0, 500.0)), min_size=80, max_size=160))
def test_the_bill_of_charging_at_once_counts_what_its_clock_closed(steps: list[tuple[float, float]]) -> None:
    site, now_s, closed = Played(TIERS), JANUARY_S, list[float]()
    site.cycle(now_s, 10.0)
    for dt_s, kw in steps:
        now_s += dt_s
        site.cycle(now_s, 10.0, kw)
        closed += [item.average_kw for item in site.shadow_closed]
    kept = np.frombuffer(site.money.at_once.book().mean_kw, np.float32)
    assert kept.tolist() == pytest.approx(closed, rel=1e-6, abs=1e-6)


def test_a_ratchet_is_free_already_and_a_tier_changes_the_price() -> None:
    past = DemandState(past_peaks_kw=(400.0,))
    site = Played(RATCHET, carried=Carried(past, past, past))
    site.cycle(JANUARY_S, 100.0)
    site.hold(JANUARY_S, JANUARY_S + 1800.0, 100.0)
    assert (site.next_kw().above_kw, site.next_kw().price) == pytest.approx((320.0, 10.0))
    tiers = Played(TIERS)
    tiers.cycle(JANUARY_S, 99.5)
    tiers.hold(JANUARY_S, JANUARY_S + 1800.0, 99.5)
    assert (tiers.next_kw().above_kw, tiers.next_kw().price) == pytest.approx((99.5, 0.5 * 5.0 + 0.5 * 9.0))


def test_the_sites_own_ratchet_counts_where_it_is_higher() -> None:
    past = DemandState(past_peaks_kw=(200.0, 180.0))
    site = Played(TIERS, carried=Carried(past, past, past), ratchet=0.9)
    site.cycle(JANUARY_S, 50.0)
    site.hold(JANUARY_S, JANUARY_S + 1800.0, 50.0)
    assert (site.next_kw().above_kw, site.next_kw().price) == pytest.approx((180.0, 9.0))


def test_a_tariff_without_demand_has_no_price_of_the_next_kilowatt() -> None:
    site = Played(urdb())
    site.cycle(JANUARY_S, 50.0)
    site.hold(JANUARY_S, JANUARY_S + 1800.0, 50.0)
    assert site.next_kw().price == 0.0
    assert math.isfinite(site.next_kw().above_kw)


def test_before_the_first_interval_it_is_the_tariffs_first_price() -> None:
    site = Played(TIERS)
    site.cycle(JANUARY_S + 60.0, 50.0)
    assert site.next_kw() == NextKw(0.0, 5.0)
    assert site.money.avoided(site.state.at_s) == 0.0


def test_a_month_that_is_half_known_never_tells_a_kilowatt_dearer_than_it_is() -> None:
    """The peak before the first interval that was seen is known, its window is not: up to it nothing is said to cost."""
    late_s = at_s(2018, 1, 3, 8)
    known = DemandState(period_start_s=JANUARY_S, peak_kw=250.0)
    site = Played(WINDOWS, carried=Carried(known, known, known))
    site.cycle(late_s, 100.0)
    site.hold(late_s, late_s + 3600.0, 100.0, 130.0)
    assert not site.money.site.is_whole
    assert (site.next_kw().above_kw, site.next_kw().price) == pytest.approx((250.0, 8.0))
    assert site.money.avoided(late_s + 3600.0) == 0.0, "the peaks of the month as the clocks know them"


def test_a_restart_forgets_nothing() -> None:
    first = noon_and_evening()
    second = Played(WINDOWS, first.store, first.carried)
    second.hold(first.state.at_s + 600.0, first.state.at_s + 1800.0, 50.0)  # down for ten minutes
    first.hold(first.state.at_s, first.state.at_s + 1800.0, 50.0)
    assert second.money.site.is_whole
    assert second.next_kw().above_kw == pytest.approx(first.next_kw().above_kw, rel=1e-6)
    assert second.next_kw().price == pytest.approx(first.next_kw().price, rel=1e-6)
    assert second.money.avoided(second.state.at_s) == pytest.approx(800.0, rel=1e-5)


@pytest.mark.parametrize("kept", [b"", b"\x81", b"no pack", b"\xc1" * 30])
def test_what_cannot_be_read_is_begun_afresh(kept: bytes) -> None:
    store = Store()
    store.kept[STATE] = kept
    assert Played(WINDOWS, store).money.site.count == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_is_read_or_begun_afresh(data: st.DataObject) -> None:
    store = noon_and_evening_store()
    sound = store.kept[STATE]
    at = data.draw(st.integers(0, len(sound) - 1))
    damaged = sound[:at] + data.draw(st.binary(max_size=8)) + sound[at + data.draw(st.integers(0, 8)) :]
    store.kept[STATE] = damaged
    site = Played(WINDOWS, store)
    site.cycle(JANUARY_S + 18 * 3600.0, 10.0)
    found = site.next_kw()
    assert math.isfinite(found.above_kw)
    assert math.isfinite(found.price)


_STORE: list[bytes] = []


def noon_and_evening_store() -> Store:
    if not _STORE:
        _STORE.append(noon_and_evening().store.kept[STATE])
    store = Store()
    store.kept[STATE] = _STORE[0]
    return store


def test_numbers_that_are_none_are_begun_afresh() -> None:
    sound = msgspec.msgpack.decode(noon_and_evening_store().kept[STATE], type=Kept)
    nan, late = np.array([math.nan] * 68, np.float32), np.arange(4_000_000_000, 4_000_000_068, dtype=np.uint32)
    year = YearToDate(peak_kw=math.inf)
    for name, damaged in (
        ("site", structs.replace(sound.site, mean_kw=nan.tobytes())),
        ("site", structs.replace(sound.site, slots=late.tobytes())),
        ("site", structs.replace(sound.site, slots=sound.site.slots[::-1])),
        ("at_once", structs.replace(sound.at_once, before=year)),
        ("month_s", 1e300), ("month_s", math.nan), ("month_s", JANUARY_S + 900.0),
    ):  # fmt: skip
        store = Store()
        store.kept[STATE] = msgspec.msgpack.encode(structs.replace(sound, **{name: damaged}))
        assert Played(WINDOWS, store).money.site.count == 0, name


def test_another_tariff_an_earlier_month_or_another_interval_begins_afresh() -> None:
    first = noon_and_evening()
    assert Played(WINDOWS, first.store, first.carried).money.site.count == 68
    other = structs.replace(WINDOWS, name="another")
    assert Played(other, first.store, first.carried).money.site.count == 0
    february = DemandState(period_start_s=at_s(2018, 2, 1))
    assert Played(WINDOWS, first.store, Carried(february, february, february)).money.site.count == 0
    half_hours = DemandInterval(length_s=1800.0)
    assert Played(WINDOWS, first.store, first.carried, half_hours).money.site.count == 0


def test_a_month_that_turns_begins_its_own_bill() -> None:
    begin_s = at_s(2018, 1, 31, 12)
    site = Played(TIERS)
    site.cycle(begin_s, 90.0)
    site.hold(begin_s, at_s(2018, 2, 1), 90.0)
    site.hold(at_s(2018, 2, 1), at_s(2018, 2, 1, 0, 10), 20.0)
    assert site.next_kw() == NextKw(0.0, 5.0)
    site.hold(at_s(2018, 2, 1, 0, 10), at_s(2018, 2, 1, 1), 20.0)
    assert site.money.site.is_whole
    assert (site.next_kw().above_kw, site.next_kw().price) == pytest.approx((20.0, 5.0))


# --- the bill against one that was never interrupted --------------------------------------------------------------------

means = st.lists(st.floats(0.0, 900.0), min_size=2, max_size=60)
BEGINS = ((2018, 3, 5), (2018, 3, 31, 20), (2018, 12, 31, 20))
"""Within a month, and four hours before a month and a year end."""
REGIME = urdb()
ANNUAL = Tariff(
    name="case", currency="EUR", timezone="UTC", energy=REGIME.energy,
    regime=UsageRegime(hours=2500.0, below_per_kw=20.0, below_per_kwh=0.05, above_per_kw=100.0, above_per_kwh=0.01),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    means=means,
    cut=st.integers(0, 59),
    tariff=st.sampled_from([WINDOWS, RATCHET, TIERS, ANNUAL]),
    begin=st.sampled_from(BEGINS),
)
def test_a_bill_that_was_kept_and_read_is_the_same_bill(
    means: list[float], cut: int, tariff: Tariff, begin: tuple[int, ...]
) -> None:
    begin_s = at_s(*begin)
    through, whole = Account(tariff, 900.0, (150.0,), None), RunningBill(tariff, (150.0,))
    cut = min(cut, len(means) - 1)
    kept = through
    for k, kw in enumerate(means):
        kw = float(np.float32(kw))
        through.add(begin_s + 900.0 * k, kw)
        whole.add(begin_s + 900.0 * k, kw, 900.0)
        if k == cut:
            first_peaks = (150.0, float(np.float32(max(means[:16])))) if through.starts_s > begin_s else (150.0,)
            kept = Account(tariff, 900.0, first_peaks, through.book().before)
            kept.read(through.book(), through.starts_s)
        elif k > cut:
            kept.add(begin_s + 900.0 * k, kw)
    at = begin_s + 900.0 * len(means)
    if not through.is_of(at):
        return
    assert kept.count == through.count
    for account in (through, kept):
        assert account.next_kw(at, 0.0).above_kw == pytest.approx(whole.free_kw(at), rel=1e-6, abs=1e-6)
        assert account.next_kw(at, 0.0).price == pytest.approx(whole.next_kw(at), rel=1e-6, abs=1e-6)
        assert account.month().total == pytest.approx(whole.bill().months[-1].total, rel=1e-6, abs=1e-6)


def test_a_month_leaves_to_its_year_and_december_to_nobody() -> None:
    account = Account(ANNUAL, 900.0, (), None)
    for start_s in (at_s(2018, 11, 30, 23, 45), at_s(2018, 12, 1)):
        account.add(start_s, 40.0)
    year = account.book().before
    assert year is not None
    assert (year.import_kwh, year.peak_kw, year.covered_s) == pytest.approx((10.0, 40.0, 900.0))
    account.add(at_s(2019, 1, 1), 40.0)
    assert account.book().before is None


def test_an_interval_is_counted_once() -> None:
    account = Account(TIERS, 900.0, (), None)
    for start_s in (JANUARY_S, JANUARY_S + 900.0, JANUARY_S, JANUARY_S + 900.0):
        account.add(start_s, 40.0)
    assert account.count == 2
    account.add(JANUARY_S + 3600.0, 40.0)
    assert not account.is_whole, "two are missing"


# --- what a demand clock closed -----------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0.5, 40.0), st.floats(-50.0, 500.0)), min_size=5, max_size=300),
    subs=st.sampled_from([1, 3, 15]),
)
def test_the_intervals_of_a_clock_are_found_from_its_states(steps: list[tuple[float, float]], subs: int) -> None:
    """Against the energy counted step by step; steps of a minute at most, so that no sub-interval is leapt over."""
    interval = DemandInterval(length_s=900.0, sub_intervals=subs)
    state, found = DemandState(), list[tuple[float, float]]()
    now_s, energy = JANUARY_S, dict[float, float]()
    state, _ = demand_clock.advance(state, interval, now_s, 0.0)
    for dt_s, kw in steps:
        from_s, now_s = now_s, now_s + dt_s
        after, closed = demand_clock.advance(state, interval, now_s, kw, gap_s=60.0)
        found += sub_means(interval, state, after, tuple((c.end_s, c.average_kw) for c in closed))
        state = after
        while from_s < now_s:
            start_s = interval.sub_start_s(from_s)
            to_s = min(start_s + interval.sub_s, now_s)
            energy[start_s] = energy.get(start_s, 0.0) + max(kw, 0.0) * (to_s - from_s)
            from_s = to_s
    ended = {start_s: kws / interval.sub_s for start_s, kws in energy.items() if start_s + interval.sub_s <= now_s}
    assert [start_s for start_s, _ in found] == pytest.approx(sorted(ended))
    assert [kw for _, kw in found] == pytest.approx([ended[start_s] for start_s in sorted(ended)], abs=1e-6)


def test_a_gap_of_a_rolling_window_is_filled_evenly() -> None:
    interval = DemandInterval(length_s=900.0, sub_intervals=3)
    was, _ = demand_clock.advance(DemandState(), interval, JANUARY_S, 60.0)
    now, closed = demand_clock.advance(was, interval, JANUARY_S + 1500.0, 60.0)
    found = sub_means(interval, was, now, tuple((c.end_s, c.average_kw) for c in closed))
    assert [start_s for start_s, _ in found] == [JANUARY_S + 300.0 * k for k in range(5)]
    assert [kw for _, kw in found] == pytest.approx([60.0] * 5)


def test_a_clock_set_anew_closes_nothing() -> None:
    interval = DemandInterval(length_s=900.0, sub_intervals=3)
    was, _ = demand_clock.advance(DemandState(), interval, JANUARY_S, 60.0)
    now, closed = demand_clock.advance(was, interval, JANUARY_S - 86_400.0, 60.0)
    assert closed == ()
    assert sub_means(interval, was, now, ()) == []


def test_rolling_windows_are_billed_as_they_roll() -> None:
    rolling = urdb(flatdemandstructure=[[{"rate": 10.0}]])
    rolling = structs.replace(rolling, interval_kind="rolling", sub_interval_s=300)
    site = Played(rolling, interval=DemandInterval(length_s=900.0, sub_intervals=3))
    site.cycle(JANUARY_S, 30.0)
    site.hold(JANUARY_S, JANUARY_S + 3600.0, 30.0)
    site.hold(JANUARY_S + 3600.0, JANUARY_S + 3900.0, 120.0)
    site.hold(JANUARY_S + 3900.0, JANUARY_S + 5400.0, 30.0)
    assert (site.next_kw().above_kw, site.next_kw().price) == pytest.approx((60.0, 10.0))
