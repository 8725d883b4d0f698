"""Invariants of the bill over random tariffs of every kind, and the running bill against the batch one."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.market.bill import YearToDate, bill
from gridtide.market.charges import (
    CoincidentCharge,
    Combine,
    DemandCharge,
    DemandTier,
    EnergyCharge,
    EnergyTier,
    Holiday,
    Metering,
    Per,
    Plan,
    PlanStep,
    Ratchet,
    TierUnit,
    UsageRegime,
)
from gridtide.market.running import RunningBill
from gridtide.market.tariff import Tariff

SCALES: dict[TierUnit, float] = {"kwh": 5_000.0, "kwh_per_kw": 20.0, "kwh_per_day": 200.0, "kwh_per_kw_per_day": 1.0}
COMBINES: tuple[Combine, ...] = ("sum", "dearest")
PERS: tuple[Per, ...] = ("month", "day")
METERINGS: tuple[Metering, ...] = ("net_billing", "net_metering", "buy_all_sell_all")
ZONES = ("UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu")
STARTS_S = tuple(
    datetime(*when, tzinfo=UTC).timestamp() for when in ((2026, 12, 30), (2026, 3, 28), (2026, 10, 24), (2027, 1, 30))
)
money = st.floats(0.0, 20.0).map(lambda x: round(x, 3))
shares = st.floats(0.0, 1.0).map(lambda x: round(x, 2))


def calendar(draw: st.DrawFn, periods: int) -> tuple[Plan, ...]:
    def steps() -> tuple[PlanStep, ...]:
        clocks = sorted({0, *draw(st.lists(st.integers(0, 95), max_size=3))})
        return tuple(PlanStep(900 * clock, draw(st.integers(0, periods - 1))) for clock in clocks)

    return (
        Plan("summer", (4, 1), (10, 15), 0b0011111, steps()),
        Plan("rest", (1, 1), (12, 31), 0b1111111, steps()),
    )


def energy(draw: st.DrawFn) -> EnergyCharge:
    periods, tiers = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    unit: TierUnit = draw(st.sampled_from(list(SCALES)))
    scale = SCALES[unit]
    bounds = sorted(scale * draw(shares) for _ in range(tiers - 1))
    made = tuple(
        tuple(EnergyTier(draw(shares), bound, unit, draw(shares)) for bound in [*bounds, math.inf])
        for _ in range(periods)
    )
    return EnergyCharge(calendar(draw, periods), made, draw(st.sampled_from(["in_order", "pro_rata"])))


def demand(draw: st.DrawFn) -> DemandCharge:
    periods = draw(st.integers(1, 2))
    made = tuple((DemandTier(draw(money), 200.0), DemandTier(draw(money))) for _ in range(periods))
    combine: Combine = draw(st.sampled_from(COMBINES))
    per: Per = draw(st.sampled_from(PERS)) if combine == "sum" else "month"
    return DemandCharge("d", calendar(draw, periods), made, combine, per, draw(st.booleans()))


@st.composite
def tariffs(draw: st.DrawFn, regime: bool = True) -> Tariff:
    rolling = draw(st.booleans())
    metering: Metering = draw(st.sampled_from(METERINGS))
    has_regime = regime and draw(st.booleans())
    return Tariff(
        name="t", currency="EUR", timezone=draw(st.sampled_from(ZONES)), energy=energy(draw),
        demand=tuple(demand(draw) for _ in range(draw(st.integers(0, 2)))),
        coincident=CoincidentCharge(calendar(draw, 2), (draw(money), draw(money))) if draw(st.booleans()) else None,
        regime=UsageRegime(30.0, 0.07, 140.0, 0.02, 3_000.0) if has_regime else None,
        ratchet=Ratchet(tuple(draw(st.lists(shares, min_size=12, max_size=12))), draw(st.integers(1, 3)))
        if draw(st.booleans()) else None,
        metering=metering, surplus_per_kwh=0.05, fixed_per_month=draw(money), fixed_per_day=draw(money),
        minimum_per_month=draw(st.sampled_from([0.0, 500.0])), minimum_per_year=draw(st.sampled_from([0.0, 90_000.0])),
        reactive_per_kvar=draw(money), free_kvar_per_kw=0.3, tax_per_kwh=0.02, tax_fraction=draw(shares),
        holidays=(Holiday(1, 1), Holiday(3, 30, 2026)), interval_kind="rolling" if rolling else "block",
        interval_s=draw(st.sampled_from([900, 1800, 3600])), sub_interval_s=900,
    )  # fmt: skip


@st.composite
def metered(draw: st.DrawFn) -> dict[str, Any]:
    """Up to 4 days of quarter hours over the end of a month, a year or a change of the clock, some of them missing."""
    count = draw(st.integers(1, 384))
    begin_s = draw(st.sampled_from(STARTS_S)) + 3_600.0 * draw(st.integers(0, 23))
    source = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    net_kw = source.uniform(-150.0, 400.0, count).round(1)
    there = source.random(count) > draw(st.sampled_from([0.0, 0.1]))
    there[0] = True
    start_s = begin_s + 900.0 * np.arange(count)
    more_kw = np.maximum(-net_kw, 0.0) + source.uniform(0.0, 50.0, count)
    return {
        "start_s": start_s[there], "net_kw": net_kw[there], "generation_kw": more_kw[there],
        "reactive_kvar": source.uniform(-90.0, 90.0, count)[there],
        "coincident_s": tuple(float(t) + 450.0 for t in source.choice(start_s, 2)),
    }  # fmt: skip


def batch(tariff: Tariff, sample: dict[str, Any], net_kw: Any = None, **more: Any) -> Any:
    kw = sample["net_kw"] if net_kw is None else net_kw
    return bill(
        tariff, sample["start_s"], kw, 900.0, [120.0, 300.0, 80.0], generation_kw=sample["generation_kw"],
        reactive_kvar=sample["reactive_kvar"], coincident_s=sample["coincident_s"], **more,
    )  # fmt: skip


SO_FAR = YearToDate(50_000.0, 250.0, 2e6, 4_000.0)


@settings(max_examples=150, deadline=None)
@given(tariff=tariffs(), sample=metered(), so_far=st.sampled_from([None, SO_FAR]))
def test_after_the_last_sample_the_running_bill_is_the_bill(
    tariff: Tariff, sample: dict[str, Any], so_far: YearToDate | None
) -> None:
    running = RunningBill(tariff, [120.0, 300.0, 80.0], sample["coincident_s"], so_far)
    rows = zip(sample["start_s"], sample["net_kw"], sample["generation_kw"], sample["reactive_kvar"], strict=True)
    for start_s, kw, generation_kw, kvar in rows:
        running.add(float(start_s), float(kw), 900.0, float(generation_kw), float(kvar))
    whole, kept = batch(tariff, sample, year_to_date=so_far), running.bill()
    assert abs(kept.total - whole.total) <= 1e-9 * max(1.0, abs(whole.total)) + 1e-6
    assert len(kept.months) == len(whole.months)
    for name in ("energy", "export_credit", "demand", "fixed", "taxes", "coincident", "reactive", "minimum"):
        assert abs(getattr(kept, name) - getattr(whole, name)) <= 1e-6, name


@settings(max_examples=60, deadline=None)
@given(tariff=tariffs(), sample=metered())
def test_components_sum_to_the_total(tariff: Tariff, sample: dict[str, Any]) -> None:
    found = batch(tariff, sample)
    parts = found.energy - found.export_credit + found.demand + found.fixed + found.taxes
    parts += found.coincident + found.reactive + found.minimum
    assert abs(parts - found.total) <= 1e-6
    assert abs(sum(m.total for m in found.months) + sum(y.total for y in found.years) - found.total) <= 1e-6


@settings(max_examples=60, deadline=None)
@given(tariff=tariffs(), sample=metered(), which=st.integers(0, 99), more=st.floats(0.0, 5.0))
def test_no_purchase_price_that_rises_lowers_a_bill(
    tariff: Tariff, sample: dict[str, Any], which: int, more: float
) -> None:
    period = which % len(tariff.energy.periods)
    tiers = list(tariff.energy.periods[period])
    place = which % len(tiers)
    tiers[place] = msgspec.structs.replace(tiers[place], price_per_kwh=tiers[place].price_per_kwh + more)
    periods = tuple(tuple(tiers) if k == period else t for k, t in enumerate(tariff.energy.periods))
    dearer = msgspec.structs.replace(tariff, energy=msgspec.structs.replace(tariff.energy, periods=periods))
    assert batch(dearer, sample).total >= batch(tariff, sample).total - 1e-6


@settings(max_examples=60, deadline=None)
@given(tariff=tariffs(regime=False), sample=metered(), where=st.floats(0.0, 0.999), less=st.floats(0.0, 300.0))
def test_lowering_one_block_raises_no_demand_charge(
    tariff: Tariff, sample: dict[str, Any], where: float, less: float
) -> None:
    lower = sample["net_kw"].copy()
    row = int(where * lower.size)
    lower[row] = max(lower[row] - less, -sample["generation_kw"][row])
    assert batch(tariff, sample, lower).demand <= batch(tariff, sample).demand + 1e-6


@settings(max_examples=80, deadline=None)
@given(tariff=tariffs(), sample=metered(), kw=st.floats(0.0, 600.0))
def test_the_price_of_the_next_block_is_what_the_bill_then_is(
    tariff: Tariff, sample: dict[str, Any], kw: float
) -> None:
    """`block_cost` and `next_kwh` against two whole bills, after the same demand interval."""
    tariff = msgspec.structs.replace(
        tariff, interval_kind="block", interval_s=900, coincident=None, reactive_per_kvar=0.0, tax_fraction=0.0,
        tax_per_kwh=0.0, minimum_per_month=0.0, minimum_per_year=0.0, metering="net_billing",
        energy=EnergyCharge(tariff.energy.calendar, tuple((EnergyTier(0.0),) for _ in tariff.energy.periods)),
        regime=None,
    )  # fmt: skip
    start_s, net_kw = sample["start_s"], sample["net_kw"]
    at_s = float(start_s[-1]) + 900.0
    running = RunningBill(tariff, [120.0, 300.0, 80.0])
    for begun_s, power_kw in zip(start_s, net_kw, strict=True):
        running.add(float(begun_s), float(power_kw), 900.0)
    if at_s >= running.bill().months[-1].end_s:
        return
    with_at = [
        bill(tariff, np.append(start_s, at_s), np.append(net_kw, last_kw), 900.0, [120.0, 300.0, 80.0]).total
        for last_kw in (0.0, kw)
    ]
    assert abs(running.block_cost(at_s, kw) - (with_at[1] - with_at[0])) <= 1e-6
    free_kw = running.free_kw(at_s)
    assert running.block_cost(at_s, min(free_kw, 1e6)) <= 1e-6
