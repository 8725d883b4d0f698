"""What a study (`gridtide simulate`) found: the figures, and the series its report is drawn from."""

from msgspec import Struct

BILL_PARTS = ("energy_building", "energy_vehicles", "demand", "fixed", "taxes", "wear")


class BillLine(Struct, frozen=True):
    """One line of the bill, with and without the fleet's control, in the tariff's currency."""

    label: str
    note: str
    without: float
    with_: float


class IntervalSeries(Struct, frozen=True):
    """Billed intervals of the study, oldest first; all lists have the same length."""

    start_s: list[float]
    building_kw: list[float]
    without_kw: list[float]
    with_kw: list[float]


class SocFan(Struct, frozen=True):
    """Charge of the connected vehicles by hour of day: quantiles (5, 25, 50, 75, 95 %), soc 0..1."""

    hour: list[float]
    q05: list[float]
    q25: list[float]
    q50: list[float]
    q75: list[float]
    q95: list[float]


class Departure(Struct, frozen=True):
    """One session's end: what was needed and what the vehicle left with."""

    evse_id: str
    arrived_s: float
    departed_s: float
    need_kwh: float
    """min(delivered energy of the session, what full power over the stay gives), AC side."""
    got_kwh: float
    target_soc: float
    soc: float


class CycleBin(Struct, frozen=True):
    """Cycles of a depth from `low` up to `high` (0..1) in the vehicles' batteries, as equivalent full cycles of all together."""

    low: float
    high: float
    without: float
    with_: float


class StudyResult(Struct, frozen=True):
    """Figures of one study over a billing period, and the series behind its plots. Powers kW, energies kWh."""

    site: str
    timezone: str
    currency: str
    start_s: float
    end_s: float
    step_s: float
    vehicles: int
    sessions: int
    mode: str
    limit_kw: float
    buffer_kw: float
    interval_s: float
    peak_kw_building: float
    """Highest interval average of the building alone."""
    peak_kw_without: float
    """The same vehicles charged at once at full power."""
    peak_kw_with: float
    peak_kw_clairvoyant: float
    """Lowest peak that any control with perfect foresight could have held."""
    reduction_of_clairvoyant: float
    """(without - with) / (without - clairvoyant)."""
    bill_without: float
    bill_with: float
    discharged_kwh: float
    charged_kwh: float
    drivers_short: int
    energy_residual_kwh: float
    failed_shaves: int
    intervals_over: int
    starts: int
    """Discharge starts, summed over EVSEs."""
    wear_cost: float
    wear_per_kwh: float
    demand_price_per_kw: float
    energy_price_range: tuple[float, float]
    bill: list[BillLine]
    series: IntervalSeries
    soc_fan: SocFan
    departures: list[Departure]
    window_soc: tuple[float, float]
    floor_soc: float
    assumptions: list[str]
    """Sentences for "how this was reckoned"."""
    elapsed_s: float = 0.0
    wear_range: list[tuple[str, float]] = []
    """What the discharged energy costs by each cell model, cheapest first: (name, cost)."""
    cycles: list[CycleBin] = []
    """By rainflow counting, shallow ones first."""
