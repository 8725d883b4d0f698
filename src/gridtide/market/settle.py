"""A bill from what was metered: the one law that the batch engine and the running bill share.

Sums are left unrounded; a cent is rounded where it is shown.
"""

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from gridtide.market.charges import DemandCharge, UsageRegime
from gridtide.market.sums import MonthSums, YearToDate, ratchet_kw, year_length_s
from gridtide.market.tariff import Tariff
from gridtide.market.tiers import demand_cost, split_cost

_DECEMBER = 12


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
    coincident: float = 0.0
    reactive: float = 0.0
    minimum: float = 0.0
    """What was added to reach the minimum charge."""

    @property
    def total(self) -> float:
        """What the month costs."""
        parts = (self.energy, self.demand, self.fixed, self.taxes, self.coincident, self.reactive, self.minimum)
        return math.fsum((*parts, -self.export_credit))


class YearBill(Struct, frozen=True):
    """What is settled by the calendar year: an annual demand regime and an annual minimum. Empty where a tariff has neither."""

    year: int
    hours_of_use: float
    """Energy, scaled to the whole year, over peak."""
    regime: str
    """"below" or "above" the regime's hours; "" without a regime."""
    demand: float
    energy: float
    minimum: float
    taxes: float

    @property
    def total(self) -> float:
        """What the year costs beside its months."""
        return math.fsum((self.demand, self.energy, self.minimum, self.taxes))


class Bill(Struct, frozen=True):
    """The sum of the months and years, and these; money in `currency`."""

    currency: str
    months: tuple[MonthBill, ...]
    years: tuple[YearBill, ...]
    energy: float
    export_credit: float
    demand: float
    fixed: float
    taxes: float
    coincident: float
    reactive: float
    minimum: float
    total: float
    unbilled: tuple[str, ...] = ()
    """Charges of the tariff that could not be billed from what is metered."""


class Settled(Struct, frozen=True):
    """A month's bill and what it hands on."""

    bill: MonthBill
    bank_kwh: Mapping[int, float]
    """Net metering: surplus of each period that is carried on."""
    charged: float
    """For the annual minimum: the month before taxes and before the surplus is paid out, not below 0."""


def settle_month(
    tariff: Tariff, sums: MonthSums, earlier_peaks_kw: Sequence[float], bank_kwh: Mapping[int, float]
) -> Settled:
    """The bill of a month. `earlier_peaks_kw`: of the months before, oldest first; `bank_kwh`: surplus carried into it."""
    floor_kw = ratchet_kw(tariff, sums.month, earlier_peaks_kw)
    billed_kw = max(sums.peak_kw, floor_kw)
    energy, credit, bank = _energy(tariff, sums, billed_kw, bank_kwh)
    demand = math.fsum(charge_cost(c, p, floor_kw) for c, p in zip(tariff.demand, sums.peaks_kw, strict=True))
    fixed = tariff.fixed_per_month + tariff.fixed_per_day * sums.days
    coincident = _coincident(tariff, sums)
    reactive = tariff.reactive_per_kvar * max(sums.peak_kvar - tariff.free_kvar_per_kw * sums.peak_kw, 0.0)
    subtotal = math.fsum((energy, -credit, demand, fixed, coincident, reactive))
    # With two meters what is sold is an account of its own; with one, the credit is part of what the minimum is weighed against.
    weighed = max(subtotal + credit if tariff.metering == "buy_all_sell_all" else subtotal, 0.0)
    minimum = max(tariff.minimum_per_month - weighed, 0.0)
    paid_out = 0.0
    if sums.month == _DECEMBER:
        paid_out, bank = math.fsum(bank.values()) * tariff.surplus_per_kwh, {}
    taxes = sums.import_kwh * tariff.tax_per_kwh + tariff.tax_fraction * (subtotal + minimum - paid_out)
    month = MonthBill(
        start_s=sums.start_s, end_s=sums.end_s, import_kwh=sums.import_kwh, export_kwh=sums.export_kwh,
        peak_kw=sums.peak_kw, billed_kw=billed_kw, energy=energy, export_credit=credit + paid_out, demand=demand,
        fixed=fixed, taxes=taxes, coincident=coincident, reactive=reactive, minimum=minimum,
    )  # fmt: skip
    return Settled(month, bank, weighed + minimum)


def charge_cost(charge: DemandCharge, peaks_kw: Mapping[tuple[int, int], float], floor_kw: float) -> float:
    """What a month's peaks cost in one demand charge; `floor_kw` is the ratchet."""
    floor_kw = floor_kw if charge.ratcheted and charge.per == "month" else 0.0
    costs = [demand_cost(charge.periods[period], max(kw, floor_kw)) for (_, period), kw in peaks_kw.items()]
    return max(costs, default=0.0) if charge.combine == "dearest" else math.fsum(costs)


def _coincident(tariff: Tariff, sums: MonthSums) -> float:
    if tariff.coincident is None:
        return 0.0
    return math.fsum(tariff.coincident.price_per_kw[period] * kw for period, kw in sums.coincident_kw)


def _energy(
    tariff: Tariff, sums: MonthSums, billed_kw: float, bank_kwh: Mapping[int, float]
) -> tuple[float, float, dict[int, float]]:
    """Cost of import, credit for export, and the bank that is carried on."""
    charge, days = tariff.energy, sums.days
    if tariff.metering == "net_metering":
        bank = dict(bank_kwh)
        net = {period: bought - sold - bank.pop(period, 0.0) for period, bought, sold in sums.energy}
        rows = [(period, kwh) for period, kwh in net.items() if kwh > 0.0]
        bank |= {period: -kwh for period, kwh in net.items() if kwh < 0.0}
        return split_cost(charge, rows, billed_kw, days, in_order=False), 0.0, bank
    in_order = charge.tier_split == "in_order"
    bought_rows = [(period, bought) for period, bought, _ in sums.energy]
    sold_rows = [(period, sold) for period, _, sold in sums.energy]
    bought = split_cost(charge, bought_rows, billed_kw, days, in_order)
    return bought, split_cost(charge, sold_rows, billed_kw, days, in_order, sell=True), {}


def settle_year(tariff: Tariff, year: int, sums: YearToDate, before: YearToDate | None = None) -> YearBill:
    """What a calendar year costs beside its months; of `before`, billed already, only the difference counts."""
    length_s = year_length_s(tariff, year)
    hours, regime, demand, energy = _regime(tariff.regime, sums, length_s)
    minimum = _annual_minimum(tariff, sums, demand + energy, length_s)
    if before is not None and before.covered_s > 0.0:
        earlier = settle_year(tariff, year, before)
        demand, energy, minimum = demand - earlier.demand, energy - earlier.energy, minimum - earlier.minimum
    taxes = tariff.tax_fraction * (demand + energy + minimum)
    return YearBill(year, hours, regime, demand, energy, minimum, taxes)


def _annual_minimum(tariff: Tariff, sums: YearToDate, regime: float, length_s: float) -> float:
    share = min(sums.covered_s / length_s, 1.0)
    return max(tariff.minimum_per_year * share - sums.charged - regime, 0.0)


def _regime(regime: UsageRegime | None, sums: YearToDate, length_s: float) -> tuple[float, str, float, float]:
    """Hours of use, regime, and its demand and energy charge."""
    if regime is None or sums.covered_s <= 0.0:
        return 0.0, "", 0.0, 0.0
    share = min(sums.covered_s / length_s, 1.0)
    hours = sums.import_kwh / share / sums.peak_kw if sums.peak_kw > 0.0 else math.inf
    if hours < regime.hours - 1e-9:
        return hours, "below", regime.below_per_kw * sums.peak_kw * share, regime.below_per_kwh * sums.import_kwh
    return hours, "above", regime.above_per_kw * sums.peak_kw * share, regime.above_per_kwh * sums.import_kwh


def bill_of(
    tariff: Tariff, months: Sequence[MonthBill], years: Sequence[YearBill], unbilled: tuple[str, ...] = ()
) -> Bill:
    """The sum of settled months and years."""
    return Bill(
        currency=tariff.currency,
        months=tuple(months),
        years=tuple(years),
        energy=math.fsum([*(m.energy for m in months), *(y.energy for y in years)]),
        export_credit=math.fsum(m.export_credit for m in months),
        demand=math.fsum([*(m.demand for m in months), *(y.demand for y in years)]),
        fixed=math.fsum(m.fixed for m in months),
        taxes=math.fsum([*(m.taxes for m in months), *(y.taxes for y in years)]),
        coincident=math.fsum(m.coincident for m in months),
        reactive=math.fsum(m.reactive for m in months),
        minimum=math.fsum([*(m.minimum for m in months), *(y.minimum for y in years)]),
        total=math.fsum([*(m.total for m in months), *(y.total for y in years)]),
        unbilled=unbilled,
    )
