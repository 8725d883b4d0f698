"""What is metered in a billing month and in a year, summed up as far as a bill needs it."""

from calendar import monthrange
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from gridtide.market.charges import CoincidentCharge, DemandCharge
from gridtide.market.tariff import Tariff, billing_period, local_time, period_at
from gridtide.market.tiers import has_tiers

Key = tuple[int, int]
"""Local day (0 where a charge is monthly) and period."""


def keeps_order(tariff: Tariff) -> bool:
    """Whether it matters in which order energy came."""
    return tariff.metering != "net_metering" and tariff.energy.tier_split == "in_order" and has_tiers(tariff.energy)


class MonthSums(Struct):
    """A billing month so far. Mutable: samples are added to it."""

    start_s: float
    end_s: float
    year: int
    month: int
    days: int
    in_order: bool
    peaks_kw: list[dict[Key, float]]
    """For each demand charge the highest interval average of each period, not below 0."""
    energy: list[tuple[int, float, float]]
    """(period, import kWh, export kWh); one row a run of the same period where the order matters, else one row a period."""
    covered_s: float = 0.0
    import_kwh: float = 0.0
    export_kwh: float = 0.0
    peak_kw: float = 0.0
    peak_kvar: float = 0.0
    coincident_kw: list[tuple[int, float]] = []
    """(period, average) of the intervals in which the utility had its peaks."""

    def add_energy(self, period: int, import_kwh: float, export_kwh: float) -> None:
        """Add what was metered in a period, kWh, both >= 0."""
        self.import_kwh += import_kwh
        self.export_kwh += export_kwh
        at = len(self.energy) - 1
        if not self.in_order:
            at = next((k for k, row in enumerate(self.energy) if row[0] == period), -1)
        if at < 0 or self.energy[at][0] != period:
            self.energy.append((period, import_kwh, export_kwh))
        else:
            _, bought, sold = self.energy[at]
            self.energy[at] = (period, bought + import_kwh, sold + export_kwh)

    def add_demand(self, tariff: Tariff, start_s: float, mean_kw: float) -> None:
        """Add the average of one demand interval, kW."""
        demand_kw = max(mean_kw, 0.0)
        self.peak_kw = max(self.peak_kw, demand_kw)
        for charge, peaks in zip(tariff.demand, self.peaks_kw, strict=True):
            key = demand_key(tariff, charge, start_s)
            peaks[key] = max(peaks.get(key, 0.0), demand_kw)

    def add_coincident(self, tariff: Tariff, charge: CoincidentCharge, at_s: float, mean_kw: float) -> None:
        """Add the average of the interval in which the utility had its peak, kW."""
        self.coincident_kw.append((period_at(charge.calendar, tariff, at_s), max(mean_kw, 0.0)))

    def forget_demand(self) -> None:
        """Start the demand of the month anew."""
        self.peak_kw, self.peak_kvar = 0.0, 0.0
        self.coincident_kw = []
        for peaks in self.peaks_kw:
            peaks.clear()

    def copy(self) -> "MonthSums":
        """An independent copy."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        values |= {
            "peaks_kw": [dict(peaks) for peaks in self.peaks_kw],
            "energy": list(self.energy),
            "coincident_kw": list(self.coincident_kw),
        }
        return MonthSums(**values)


def demand_key(tariff: Tariff, charge: DemandCharge, start_s: float) -> Key:
    """Which of a charge's peaks an interval belongs to."""
    day = local_time(tariff, start_s).toordinal() if charge.per == "day" else 0
    return day, period_at(charge.calendar, tariff, start_s)


def empty_month(tariff: Tariff, at_s: float) -> MonthSums:
    """The billing month that holds an instant, with nothing metered yet."""
    start_s, end_s = billing_period(tariff, at_s)
    first = local_time(tariff, start_s)
    days = monthrange(first.year, first.month)[1]
    return MonthSums(
        start_s, end_s, first.year, first.month, days, keeps_order(tariff), [{} for _ in tariff.demand], []
    )  # fmt: skip


class YearToDate(Struct, frozen=True):
    """What the calendar year held before a series begins: for an annual regime and an annual minimum."""

    import_kwh: float = 0.0
    peak_kw: float = 0.0
    covered_s: float = 0.0
    charged: float = 0.0
    """Sum of the months' bills so far, none below 0, without the taxes."""


def added(year: YearToDate, import_kwh: float, peak_kw: float, covered_s: float, charged: float) -> YearToDate:
    """The year with a month more."""
    return YearToDate(
        year.import_kwh + import_kwh, max(year.peak_kw, peak_kw), year.covered_s + covered_s, year.charged + charged
    )


def year_length_s(tariff: Tariff, year: int) -> float:
    """Seconds of a local calendar year."""
    zone = ZoneInfo(tariff.timezone)
    return datetime(year + 1, 1, 1, tzinfo=zone).timestamp() - datetime(year, 1, 1, tzinfo=zone).timestamp()


def ratchet_kw(tariff: Tariff, month: int, earlier_peaks_kw: Sequence[float]) -> float:
    """What a month's billed demand cannot fall below, kW. `earlier_peaks_kw`: of the months before, oldest first."""
    ratchet = tariff.ratchet
    if ratchet is None:
        return 0.0
    floor_kw = ratchet.minimum_kw
    for back, peak_kw in enumerate(reversed(earlier_peaks_kw[-ratchet.months :]), start=1):
        of = month - 1 - back if ratchet.by == "peak_month" else month - 1
        floor_kw = max(floor_kw, ratchet.fractions[of % 12] * peak_kw)
    return floor_kw
