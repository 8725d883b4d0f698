"""One study: the same vehicles with the controller and charged at once, the clairvoyant bound, and both bills."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from gridtide.control.site import Settings
from gridtide.market.bill import Bill, bill
from gridtide.market.tariff import Tariff, billing_period, demand_price_per_kw, prices, utc_offsets_s
from gridtide.market.wear import throughput_range
from gridtide.model.fleet import Floats
from gridtide.model.study import BillLine, Departure, IntervalSeries, SocFan, StudyResult
from gridtide.plan.clairvoyant import Stay, lowest_peak_kw
from gridtide.plan.foresight import ForesightSettings
from gridtide.run import fast
from gridtide.run.fast import Run
from gridtide.run.planning import NOTHING, Past, Planning, make_ready
from gridtide.run.study_wear import cycle_bins
from gridtide.twin.arrivals import Arrival
from gridtide.twin.plant import Left, StationaryBattery, World

_CONTROLLED_SHARE = 0.8
"""Share of a study's time that the controlled run takes; for the progress bar."""
_OVER = 1.001
_SHORT_KWH = 0.1
_SHORT_SOC = 0.001
_FAN_STEP_H = 0.25
_FAN_LEAST = 3
"""An hour of the fan needs at least this many charges to show a spread."""


class StudyInputs(Struct, frozen=True, eq=False, kw_only=True):
    """What a study is about. Instants UTC epoch s; the step divides the demand sub-interval, the start lies on a border."""

    site: str
    timezone: str
    world: World
    settings: Settings
    tariff: Tariff
    start_s: float
    end_s: float
    step_s: float
    wear_per_kwh: float
    storage: tuple[StationaryBattery, ...] = ()
    assumptions: tuple[str, ...] = ()
    past: Past = NOTHING
    """What was recorded before the study, for who plans ahead."""
    look: ForesightSettings = ForesightSettings()
    planned: bool = False
    """Whether the controlled run plans ahead."""


class Means(NamedTuple):
    """Means per demand sub-interval, kW, (m,), and the billed windows of them, (k,)."""

    sub_kw: Floats
    billed_kw: Floats


def study(inputs: StudyInputs, progress: Callable[[float], None] | None = None) -> StudyResult:
    """Run a study. `progress` is told the share done, 0..1. Raises `ValueError` where step, start and interval do not fit."""
    began_s = time.perf_counter()
    tell = progress or (lambda _: None)
    check(inputs)
    with_run = fast.controlled(
        inputs.world, inputs.settings, inputs.start_s, inputs.end_s, inputs.step_s, storage=inputs.storage,
        period_start=lambda at_s: billing_period(inputs.tariff, at_s)[0],
        progress=lambda share: tell(_CONTROLLED_SHARE * share), planning=planning_of(inputs) if inputs.planned else None,
    )  # fmt: skip
    without_run = fast.charge_at_once(
        inputs.world, inputs.start_s, inputs.end_s, inputs.step_s, storage=inputs.storage,
        progress=lambda share: tell(_CONTROLLED_SHARE + (1.0 - _CONTROLLED_SHARE) * share),
    )  # fmt: skip
    result = _result(inputs, with_run, without_run, time.perf_counter() - began_s)
    tell(1.0)
    return result


def planning_of(inputs: StudyInputs) -> Planning:
    """Foresight that knows what was recorded before the study, and nothing of the study itself."""
    make_ready(inputs.world.table.size)
    return Planning(inputs.tariff, inputs.settings, inputs.past, inputs.look)


def check(inputs: StudyInputs) -> None:
    """Raises `ValueError` where step, start and interval do not fit."""
    interval = inputs.settings.interval
    per_sub = interval.sub_s / inputs.step_s
    if abs(per_sub - round(per_sub)) > 1e-9 or per_sub < 1.0:
        raise ValueError(
            f"step_s = {inputs.step_s:g}: give seconds that divide the demand interval's {interval.sub_s:g} s"
        )
    for name, at_s in (("start_s", inputs.start_s), ("end_s", inputs.end_s)):
        if abs(at_s - interval.sub_start_s(at_s + 1e-6)) > 1e-6:
            raise ValueError(f"{name} = {at_s:g}: give a border of the demand interval")
    if inputs.end_s - inputs.start_s < interval.length_s:
        raise ValueError(f"end_s = {inputs.end_s:g}: a study lasts at least one demand interval")


def means(inputs: StudyInputs, power_kw: Floats) -> Means:
    """Billed means of a run's series (m,), kW per step."""
    interval = inputs.settings.interval
    sub_kw = power_kw.reshape(-1, round(interval.sub_s / inputs.step_s)).mean(axis=1)
    window = np.ones(interval.sub_intervals) / interval.sub_intervals
    return Means(sub_kw, np.convolve(sub_kw, window, "valid"))


def _result(inputs: StudyInputs, with_run: Run, without_run: Run, elapsed_s: float) -> StudyResult:
    settings = inputs.settings
    building, without, with_ = (
        means(inputs, kw) for kw in (with_run.building_kw, without_run.grid_kw, with_run.grid_kw)
    )
    clairvoyant_kw = lowest_peak_kw(
        stays(inputs), inputs.start_s, settings.interval.sub_s, building.sub_kw, with_.sub_kw,
        settings.interval.sub_intervals,
    )  # fmt: skip
    peaks = [float(means.billed_kw.max()) for means in (building, without, with_)]
    starts_s = inputs.start_s + settings.interval.sub_s * np.arange(len(with_.billed_kw), dtype=np.float64)
    ledger = with_run.plant.ledger
    wear = ledger.ac_out_kwh * inputs.wear_per_kwh
    lines = _bill_lines(inputs, building.sub_kw, without.sub_kw, with_.sub_kw, wear)
    price = prices(inputs.tariff, starts_s)
    left = [(inputs.world.arrivals[item.arrival], item) for item in with_run.left]
    could = peaks[1] - clairvoyant_kw
    return StudyResult(
        site=inputs.site, timezone=inputs.timezone, currency=inputs.tariff.currency,
        start_s=inputs.start_s, end_s=inputs.end_s, step_s=inputs.step_s,
        vehicles=int((~inputs.world.table.storage).sum()), sessions=len(inputs.world.arrivals),
        mode=settings.peak.mode, limit_kw=settings.peak.limit_kw, buffer_kw=settings.peak.buffer_kw,
        interval_s=settings.interval.length_s,
        peak_kw_building=peaks[0], peak_kw_without=peaks[1], peak_kw_with=peaks[2], peak_kw_clairvoyant=clairvoyant_kw,
        reduction_of_clairvoyant=(peaks[1] - peaks[2]) / could if could > 1e-6 else 0.0,
        bill_without=sum(line.without for line in lines), bill_with=sum(line.with_ for line in lines),
        discharged_kwh=ledger.ac_out_kwh, charged_kwh=ledger.ac_in_kwh,
        drivers_short=sum(is_short(arrival, item) for arrival, item in left),
        energy_residual_kwh=max(residual_kwh(with_run), residual_kwh(without_run)),
        failed_shaves=with_run.events.get("failed_shave", 0),
        intervals_over=int((with_.billed_kw > settings.peak.limit_kw * _OVER).sum()),
        starts=int(with_run.plant.evse.starts.sum()),
        wear_cost=wear, wear_per_kwh=inputs.wear_per_kwh,
        demand_price_per_kw=demand_price_per_kw(inputs.tariff, float(starts_s[int(without.billed_kw.argmax())])),
        energy_price_range=(float(price.min()), float(price.max())),
        bill=lines,
        series=IntervalSeries(
            starts_s.tolist(), building.billed_kw.tolist(), without.billed_kw.tolist(), with_.billed_kw.tolist()
        ),
        soc_fan=_soc_fan(inputs, with_run),
        departures=[_departure(inputs, arrival, item) for arrival, item in left],
        window_soc=(settings.need.window_low_soc, settings.need.window_high_soc), floor_soc=settings.need.floor_soc,
        assumptions=[*inputs.assumptions, *_troubles(with_run)], elapsed_s=elapsed_s,
        wear_range=list(throughput_range(ledger.ac_out_kwh)), cycles=cycle_bins(inputs.world, without_run, with_run),
    )  # fmt: skip


def stays(inputs: StudyInputs) -> list[Stay]:
    """What the clairvoyant programme is told of each vehicle and of the stationary battery.

    A stay beyond the study's end owes at the end only what full power could not add afterwards, so that the bound stays one.
    """
    return [_stay(inputs, item) for item in inputs.world.arrivals] + [_shelf(inputs, item) for item in inputs.storage]


def _stay(inputs: StudyInputs, item: Arrival) -> Stay:
    table, rules = inputs.world.table, inputs.settings.need
    charge_kw, efficiency = float(table.charge_kw[item.row]), float(table.efficiency[item.row])
    later_kwh = charge_kw * efficiency * max(item.departs_s - inputs.end_s, 0.0) / 3600.0
    return Stay(
        arrived_s=item.arrived_s,
        departs_s=min(item.departs_s, inputs.end_s),
        charge_kw=charge_kw,
        discharge_kw=float(table.discharge_kw[item.row]) if item.may_discharge else 0.0,
        start_kwh=item.soc * item.capacity_kwh,
        need_kwh=max(item.target_soc * item.capacity_kwh - later_kwh, 0.0),
        low_kwh=rules.window_low_soc * item.capacity_kwh,
        high_kwh=rules.window_high_soc * item.capacity_kwh,
        efficiency=efficiency,
    )


def _shelf(inputs: StudyInputs, item: StationaryBattery) -> Stay:
    """The stationary battery: there all the time, owing nothing at the end."""
    table = inputs.world.table
    return Stay(
        arrived_s=inputs.start_s,
        departs_s=inputs.end_s,
        charge_kw=float(table.charge_kw[item.row]),
        discharge_kw=float(table.discharge_kw[item.row]),
        start_kwh=item.soc * item.capacity_kwh,
        need_kwh=0.0,
        low_kwh=inputs.settings.need.floor_soc * item.capacity_kwh,
        high_kwh=item.capacity_kwh,
        efficiency=float(table.efficiency[item.row]),
    )


def _bill_lines(inputs: StudyInputs, building: Floats, without: Floats, with_: Floats, wear: float) -> list[BillLine]:
    step_s = inputs.settings.interval.sub_s
    starts_s = inputs.start_s + step_s * np.arange(len(building), dtype=np.float64)
    alone, before, after = (
        bill(inputs.tariff, starts_s, kw, step_s, generation_kw=np.maximum(-kw, 0.0))
        for kw in (building, without, with_)
    )

    def energy(item: Bill) -> float:
        return item.energy - item.export_credit

    base = energy(alone)
    return [
        BillLine("energy_building", "", base, base),
        BillLine("energy_vehicles", "", energy(before) - base, energy(after) - base),
        BillLine("demand", "", _demand(before), _demand(after)),
        BillLine("fixed", "", before.fixed + before.minimum, after.fixed + after.minimum),
        BillLine("taxes", "", before.taxes, after.taxes),
        BillLine("wear", "", 0.0, wear),
    ]


def _demand(item: Bill) -> float:
    return item.demand + item.coincident + item.reactive


def is_short(arrival: Arrival, left: Left) -> bool:
    """Whether a driver left with less than needed, beyond what a charge report can tell (0.1 kWh or 0.1 % of the battery)."""
    missing_soc = arrival.target_soc - left.soc
    return missing_soc > _SHORT_SOC and missing_soc * arrival.capacity_kwh > _SHORT_KWH


def residual_kwh(run: Run) -> float:
    """Largest of: a step's residual, the whole run's, and the meter's series against building and vehicles."""
    book = run.plant.ledger
    total = book.ac_in_kwh - book.ac_out_kwh - book.stored_kwh - book.loss_kwh - book.standby_kwh
    meter = float(run.grid_kw.sum()) * run.step_s / 3600.0 - (book.building_kwh + book.ac_in_kwh - book.ac_out_kwh)
    return max(book.worst_residual_kwh, abs(total), abs(meter))


def _departure(inputs: StudyInputs, arrival: Arrival, left: Left) -> Departure:
    return Departure(
        evse_id=inputs.world.table.ids[arrival.row], arrived_s=arrival.arrived_s, departed_s=arrival.departs_s,
        need_kwh=arrival.need_kwh, got_kwh=left.ac_kwh, target_soc=arrival.target_soc, soc=left.soc,
    )  # fmt: skip


def _soc_fan(inputs: StudyInputs, run: Run) -> SocFan:
    """Quantiles of the connected vehicles' charge by quarter hour of the local day."""
    soc = run.soc[:, ~inputs.world.table.storage]
    at_s = run.start_s + (np.arange(len(soc), dtype=np.float64) * run.fan_every + 1.0) * run.step_s
    hour = (at_s + utc_offsets_s(inputs.timezone, at_s)) % 86_400.0 / 3600.0
    slot = np.floor(hour / _FAN_STEP_H).astype(np.int64)
    hours: list[float] = []
    bands: list[list[float]] = []
    for k in range(round(24.0 / _FAN_STEP_H)):
        values = soc[slot == k]
        values = values[np.isfinite(values)]
        if values.size >= _FAN_LEAST:
            hours.append(k * _FAN_STEP_H)
            bands.append([float(q) for q in np.quantile(values.astype(np.float64), (0.05, 0.25, 0.5, 0.75, 0.95))])
    columns = [list(band) for band in zip(*bands, strict=True)] if bands else [[], [], [], [], []]
    return SocFan(hours, *columns)


def _troubles(run: Run) -> list[str]:
    """What a reader must know when the run did not go as a run should."""
    said = []
    if run.events.get("meter_invalid"):
        said.append(
            "At times the load was above 1.2 times the connection: no real meter reads that, and the fleet rested."
        )
    if run.events.get("meter_frozen") or run.events.get("meter_sign"):
        said.append("At times the controller mistrusted the meter and let the fleet rest: look at the load's data.")
    return said
