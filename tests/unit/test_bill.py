"""Bills against sums made by hand, to the cent."""

import tomllib
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest

from gridtide.market.bill import bill
from gridtide.market.charges import Floats, Schedule, UseStep, flat_ratchet, time_of_use
from gridtide.market.tariff import Tariff
from gridtide.market.tariff_formats import parse_tariff
from tests.unit.test_tariff import TOWN, berlin_s

ENERGY, DEMAND = time_of_use([Schedule("year", (1, 1), (12, 31), 127, (UseStep(0, 0.10),), 10.0)])
FLAT = Tariff(name="flat", currency="EUR", timezone="Europe/Berlin", energy=ENERGY, demand=(DEMAND,))


def quarters(start_s: float, end_s: float) -> Floats:
    return np.arange(start_s, end_s, 900.0)


def samples(begin_s: float, count: int, step_s: float = 900.0) -> Floats:
    return np.asarray(begin_s + step_s * np.arange(count), dtype=np.float64)


def test_one_june_by_hand() -> None:
    """100 kW all month, 180 kW for one quarter hour on Monday 1 June at 10:00, 40 kW out for an hour on Sunday 7 June.

    Mon-Fri 22 days: 12 h at 0.10, 12 h at 0.20 -> 22 * 100 * (1.2 + 2.4) = 7 920; the burst 80 * 0.25 * 0.20 = 4.
    Weekends 8 days at 0.08: 8 * 24 * 100 * 0.08 = 1 536, without the hour that is out: - 100 * 0.08 = - 8.
    """
    tariff = parse_tariff(tomllib.loads(TOWN))
    start_s = quarters(berlin_s(2026, 6, 1), berlin_s(2026, 7, 1))
    kw = np.full(start_s.shape, 100.0)
    kw[start_s == berlin_s(2026, 6, 1, 10)] = 180.0
    kw[(start_s >= berlin_s(2026, 6, 7, 12)) & (start_s < berlin_s(2026, 6, 7, 13))] = -40.0
    found = bill(tariff, start_s, kw, 900.0)
    month = found.months[0]
    assert round(found.energy, 2) == 9_452.00
    assert round(found.export_credit, 2) == 2.40  # 40 kWh at 0.06
    assert round(found.demand, 2) == 2_160.00  # 180 kW at 12
    assert round(found.fixed, 2) == 45.00
    assert round(found.taxes, 2) == 2_876.80  # (72 000 + 20 - 100) kWh at 0.04
    assert round(found.total, 2) == 14_531.40
    assert (month.peak_kw, round(month.import_kwh, 6), round(month.export_kwh, 6)) == (180.0, 71_920.0, 40.0)


def test_ratchet_of_eleven_months() -> None:
    """80 % of 11 months at 10 per kW; 100 kW all year and one block of 400 kW in July: 6 x 1 000, 4 000, 5 x 3 200."""
    tariff = msgspec.structs.replace(FLAT, ratchet=flat_ratchet(0.8))
    start_s = quarters(berlin_s(2025, 1, 1), berlin_s(2026, 1, 1))
    kw = np.full(start_s.shape, 100.0)
    kw[start_s == berlin_s(2025, 7, 16, 15)] = 400.0
    found = bill(tariff, start_s, kw, 900.0, earlier_peaks_kw=[100.0] * 12)
    assert [round(m.demand, 2) for m in found.months] == [1_000.0] * 6 + [4_000.0] + [3_200.0] * 5
    assert round(found.demand, 2) == 26_000.00


def test_ratchet_forgets_after_its_months() -> None:
    tariff = msgspec.structs.replace(FLAT, ratchet=flat_ratchet(0.5, 2))
    start_s = quarters(berlin_s(2026, 1, 1), berlin_s(2026, 1, 2))
    for earlier, billed_kw in [([400.0, 10.0, 10.0], 100.0), ([10.0, 400.0, 10.0], 200.0), ([], 100.0)]:
        assert bill(tariff, start_s, np.full(96, 100.0), 900.0, earlier).months[0].billed_kw == billed_kw


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 6, 1), 24)])
def test_days_around_the_clock_changes(day: tuple[int, int, int], hours: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    begin = datetime(*day, tzinfo=zone)
    start_s = quarters(begin.timestamp(), begin.replace(day=day[2] + 1).timestamp())
    assert start_s.size == hours * 4
    assert round(bill(FLAT, start_s, np.full(start_s.shape, 50.0), 900.0).energy, 2) == round(hours * 50 * 0.10, 2)


def test_night_price_lasts_as_long_as_the_night() -> None:
    """Winter 00:00-02:30 costs 0.11, to 07:00 0.21, then 0.31. 29 March skips 02:00-03:00: 2 h, 4 h, 17 h at 10 kW."""
    tariff = parse_tariff(tomllib.loads(TOWN))
    start_s = quarters(berlin_s(2026, 3, 29), berlin_s(2026, 3, 30))
    found = bill(tariff, start_s, np.full(92, 10.0), 900.0)
    assert round(found.energy, 2) == round(20 * 0.11 + 40 * 0.21 + 170 * 0.31, 2)


def test_minutes_are_averaged_over_the_billed_interval() -> None:
    start_s = np.arange(berlin_s(2026, 6, 1), berlin_s(2026, 6, 1, 1), 60.0)
    kw = np.zeros(60)
    kw[20:25] = 300.0  # five minutes of the second quarter hour: 100 kW
    kw[30:60] = -500.0  # what goes out lowers no other interval
    assert bill(FLAT, start_s, kw, 60.0).months[0].peak_kw == 100.0


def test_half_hours_follow_the_local_clock() -> None:
    tariff = msgspec.structs.replace(FLAT, timezone="Asia/Kathmandu", interval_s=1800)  # UTC + 5:45
    midnight_s = datetime(2026, 6, 1, tzinfo=ZoneInfo("Asia/Kathmandu")).timestamp()
    kw = np.array([100.0, 300.0, 100.0, 100.0])
    assert bill(tariff, samples(midnight_s, 4), kw, 900.0).months[0].peak_kw == 200.0


def test_rolling_window_sees_what_blocks_hide() -> None:
    rolling = msgspec.structs.replace(FLAT, interval_kind="rolling")
    start_s = np.arange(berlin_s(2026, 6, 1), berlin_s(2026, 6, 1, 1), 300.0)
    kw = np.zeros(12)
    kw[2:4] = 90.0  # straddles the quarter hour: 30 and 30 kW as blocks, 60 kW as a window
    assert bill(FLAT, start_s, kw, 300.0).months[0].peak_kw == 30.0
    assert bill(rolling, start_s, kw, 300.0).months[0].peak_kw == 60.0
    gap = np.delete(np.arange(12), 4)
    assert bill(rolling, start_s[gap], kw[gap], 300.0).months[0].peak_kw == 60.0, "00:05 to 00:20 is still whole"
    assert bill(rolling, start_s[2:4], kw[2:4], 300.0).months[0].peak_kw == 90.0, "no whole window: what is there"


def test_a_month_of_two_seasons_is_billed_on_its_dearest_interval() -> None:
    tariff = parse_tariff(tomllib.loads(TOWN.replace('"10-31"', '"10-15"').replace('"11-01"', '"10-16"')))
    start_s = quarters(berlin_s(2026, 10, 1), berlin_s(2026, 11, 1))
    kw = np.full(start_s.shape, 10.0)
    kw[start_s == berlin_s(2026, 10, 10, 10)] = 100.0  # 12 per kW: 1 200
    kw[start_s == berlin_s(2026, 10, 20, 10)] = 120.0  # 9 per kW: 1 080
    assert round(bill(tariff, start_s, kw, 900.0).demand, 2) == 1_200.00


def test_nothing_metered_costs_nothing() -> None:
    assert bill(FLAT, np.empty(0), np.empty(0), 900.0).total == 0.0


@pytest.mark.parametrize(
    ("start_s", "kw", "interval_s", "words"),
    [
        ([0.0, 900.0], [1.0], 900.0, "one average for each"),
        ([0.0, 900.0], [1.0, float("nan")], 900.0, "not finite"),
        ([900.0, 0.0], [1.0, 1.0], 900.0, "out of order"),
        ([0.0, 600.0], [1.0, 1.0], 900.0, "overlap"),
        ([0.0, 3600.0], [1.0, 1.0], 3600.0, "divide 900 s"),
        ([0.0, 700.0], [1.0, 1.0], 700.0, "divide 900 s"),
        ([0.0, 900.0], [1.0, 1.0], 0.0, "positive"),
    ],
)
def test_samples_that_cannot_be_billed(start_s: list[float], kw: list[float], interval_s: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bill(FLAT, np.array(start_s), np.array(kw), interval_s)
