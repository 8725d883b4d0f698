"""A bill that is kept while it grows: what the next kW and the next kWh cost, at known points."""

from __future__ import annotations

import math

import msgspec
import pytest

from gridtide.market.charges import UsageRegime
from gridtide.market.running import RunningBill
from gridtide.market.tariff import Tariff
from tests.unit.bill_cases import at_s, hours, span, urdb
from tests.unit.test_bill import FLAT

NOON_S = at_s(2018, 1, 2, 12)
EVENING_S = at_s(2018, 1, 2, 17)
BOTH = urdb(
    demandratestructure=[[{"rate": 0.0}], [{"rate": 12.0}]],
    demandweekdayschedule=[hours((16, 21))] * 12,
    demandweekendschedule=[[0] * 24] * 12,
    flatdemandstructure=[[{"rate": 8.0}]],
)


def fed(tariff: Tariff, kw: float, days: int = 1, **more: object) -> RunningBill:
    running = RunningBill(tariff, **more)  # type: ignore[arg-type]
    for start_s in span((2018, 1, 1), (2018, 1, 1 + days)):
        running.add(float(start_s), kw, 900.0)
    return running


def test_a_kilowatt_costs_what_it_raises() -> None:
    running = RunningBill(BOTH)
    running.add(at_s(2018, 1, 1, 12), 300.0, 900.0)
    running.add(at_s(2018, 1, 1, 17), 100.0, 900.0)
    assert (running.free_kw(NOON_S), running.next_kw(NOON_S)) == pytest.approx((300.0, 8.0))
    assert (running.free_kw(EVENING_S), running.next_kw(EVENING_S)) == pytest.approx((100.0, 12.0))
    assert running.block_cost(EVENING_S, 90.0) == 0.0
    assert running.block_cost(EVENING_S, 320.0) == pytest.approx(220.0 * 12.0 + 20.0 * 8.0)
    assert running.next_kw(NOON_S, kw=10.0) == pytest.approx(80.0)


def test_the_ratchet_is_free_already() -> None:
    ratcheted = urdb(flatdemandstructure=[[{"rate": 10.0}]], lookbackpercent=0.8)
    assert fed(ratcheted, 100.0, earlier_peaks_kw=[400.0]).free_kw(NOON_S) == pytest.approx(320.0)


def test_tiers_of_demand_show_in_the_next_kilowatt() -> None:
    tiered = urdb(flatdemandstructure=[[{"rate": 5.0, "max": 100.0}, {"rate": 9.0}]])
    assert fed(tiered, 90.0).next_kw(NOON_S) == pytest.approx(5.0)
    assert fed(tiered, 99.5).next_kw(NOON_S) == pytest.approx(0.5 * 5.0 + 0.5 * 9.0)
    assert fed(tiered, 120.0).next_kw(NOON_S) == pytest.approx(9.0)


def test_where_only_the_dearest_season_counts_the_cheaper_one_is_free_further() -> None:
    """October at 12 per kW with 100 kW, then at 9: 133 kW of the second season cost no more."""
    import tomllib

    from gridtide.market.tariff_formats import parse_tariff
    from tests.unit.test_tariff import TOWN, berlin_s

    town = parse_tariff(tomllib.loads(TOWN.replace('"10-31"', '"10-15"').replace('"11-01"', '"10-16"')))
    running = RunningBill(town)
    running.add(berlin_s(2026, 10, 10, 10), 100.0, 900.0)
    assert running.free_kw(berlin_s(2026, 10, 20, 10)) == pytest.approx(100.0 * 12.0 / 9.0)
    assert running.next_kw(berlin_s(2026, 10, 20, 10)) == pytest.approx(9.0)
    assert running.free_kw(berlin_s(2026, 10, 12, 10)) == pytest.approx(100.0)


def test_no_demand_charge_no_price() -> None:
    running = fed(urdb(), 50.0)
    assert (running.free_kw(NOON_S), running.next_kw(NOON_S)) == (math.inf, 0.0)


def test_the_next_kilowatt_hour_knows_period_and_tier() -> None:
    tariff = urdb(
        energyratestructure=[
            [{"rate": 0.10, "max": 1_000}, {"rate": 0.20}],
            [{"rate": 0.30, "max": 1_000}, {"rate": 0.50}],
        ],
        energyweekdayschedule=[hours((16, 21))] * 12,
    )
    before, after = fed(tariff, 10.0), fed(tariff, 50.0)
    assert (before.next_kwh(NOON_S), before.next_kwh(EVENING_S)) == pytest.approx((0.10, 0.30))
    assert (after.next_kwh(NOON_S), after.next_kwh(EVENING_S)) == pytest.approx((0.20, 0.50))
    assert fed(tariff, 1_000.0 / 24.0).next_kwh(NOON_S) == pytest.approx(0.20)


def test_export_and_taxes_in_the_next_kilowatt_hour() -> None:
    sold = urdb(energyratestructure=[[{"rate": 0.20, "sell": 0.05}]], tax_per_kwh=0.03, tax_fraction=0.5)
    running = fed(sold, 10.0)
    assert running.next_kwh(NOON_S) == pytest.approx(0.20 * 1.5 + 0.03)
    assert running.next_export_kwh(NOON_S) == pytest.approx(0.05 * 1.5)
    netted = urdb(energyratestructure=[[{"rate": 0.20}]], dgrules="Net Metering")
    assert fed(netted, 10.0).next_export_kwh(NOON_S) == pytest.approx(0.20)


def test_the_regime_turns_over_in_the_next_kilowatt_and_kilowatt_hour() -> None:
    """100 kW without a pause is 8 760 h of use; a peak of 350.4 kW brings it to 2 500 h."""
    tariff = msgspec.structs.replace(urdb(), regime=UsageRegime(30.0, 0.07, 150.0, 0.02))
    running = fed(tariff, 100.0, days=2)
    share = 2 / 365
    assert running.next_kw(NOON_S) == pytest.approx(150.0 * share)
    assert running.next_kwh(NOON_S) == pytest.approx(0.02)
    flat = running.block_cost(NOON_S, 350.0)
    assert flat == pytest.approx(250.0 * 150.0 * share)
    turned = running.block_cost(NOON_S, 351.0)
    assert turned == pytest.approx((351.0 * 30.0 - 100.0 * 150.0) * share + 4_800.0 * 0.05)
    assert turned - flat > 10.0 * running.next_kw(NOON_S), "the kilowatt that turns the regime over costs far more"


def test_nothing_yet_costs_nothing_and_cannot_be_asked() -> None:
    running = RunningBill(FLAT)
    assert running.bill().total == 0.0
    with pytest.raises(ValueError, match="no sample yet"):
        running.next_kwh(NOON_S)


def test_sub_intervals_stand_in_only_until_a_window_is_whole() -> None:
    """The coincident interval, the peak and the kvar of a lone sub-interval are forgotten when the first window is whole."""
    tariff = msgspec.structs.replace(
        urdb(flatdemandstructure=[[{"rate": 1.0}]], coincidentratestructure=[[{"rate": 1.0}]], demandreactivepowercharge=1.0),
        interval_kind="rolling", interval_s=1800, sub_interval_s=900,
    )  # fmt: skip
    begin_s = at_s(2018, 1, 1)
    running = RunningBill(tariff, coincident_s=[begin_s + 60.0])
    running.add(begin_s, 100.0, 900.0, reactive_kvar=40.0)
    alone = running.bill()
    assert (alone.demand, alone.coincident, alone.reactive) == (100.0, 100.0, 40.0)
    running.add(begin_s + 900.0, 50.0, 900.0, reactive_kvar=0.0)
    running.add(begin_s + 1_800.0, 50.0, 900.0, reactive_kvar=0.0)
    found = running.bill()
    assert (found.demand, found.coincident, found.reactive) == (75.0, 75.0, 20.0)
