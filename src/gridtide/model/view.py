"""What the page shows: one frozen struct per part, made once a cycle by the site service and sent as JSON.

Instants are UTC epoch seconds; powers kW (+ import/charging, - export/discharging); `None` means "not known", never 0.
"""

from typing import Literal

from msgspec import Struct

SiteState = Literal["fine", "using", "over", "safe", "estop", "waiting"]
"""`fine`: below the limit by itself; `using`: vehicles hold it; `over`: this interval will end above;
`safe`: fail-safe idle; `estop`: latched emergency stop; `waiting`: no first sample yet."""
LinkState = Literal["ok", "part", "lost", "off"]
VehicleState = Literal["charging", "giving", "waiting", "resting", "silent", "empty"]
Severity = Literal["info", "warning", "alarm"]


class LinkView(Struct, frozen=True):
    """One quiet dot in the header."""

    name: str
    state: LinkState
    note: str
    """Shown after the name: "0.2 s", "11 of 12"."""


class DemandView(Struct, frozen=True):
    """The running billing interval."""

    start_s: float
    end_s: float
    limit_kw: float
    used_kwh: float
    budget_kwh: float
    """Energy of the whole interval at the limit, kWh."""
    allow_kw: float | None
    """Mean power that may run to the interval's end, kW; None in its last second."""
    projected_kw: float
    """Interval average as it will end, kW."""
    projected_without_kw: float
    """The same without the vehicles, kW."""
    period_peak_kw: float
    rolling: bool


class IntervalView(Struct, frozen=True):
    """One billed interval's average; the last one is running and shown as it will end."""

    start_s: float
    average_kw: float
    running: bool


class PowerPoint(Struct, frozen=True):
    """One point of the power chart; None where the meter was silent."""

    t_s: float
    site_kw: float | None
    building_kw: float | None


class PowerGap(Struct, frozen=True):
    """A stretch without samples and why."""

    start_s: float
    end_s: float
    why: str


class PowerView(Struct, frozen=True):
    """The history behind the power chart (fetched once per window; the live point comes with each update)."""

    points: tuple[PowerPoint, ...]
    gaps: tuple[PowerGap, ...]
    intervals: tuple[IntervalView, ...]


class MoneyLine(Struct, frozen=True):
    """One addend of the savings."""

    label: str
    note: str
    amount: float


class MoneyView(Struct, frozen=True):
    """What the fleet earned this billing period."""

    period: str
    currency: str
    saved: float
    lines: tuple[MoneyLine, ...]
    next_kw_above_kw: float
    next_kw_price: float


class SocPoint(Struct, frozen=True):
    """One point of a vehicle's path to departure; `planned` beyond now."""

    t_s: float
    soc: float
    planned: bool


class VehicleView(Struct, frozen=True):
    """One EVSE's row."""

    evse_id: str
    bay: str
    name: str
    state: VehicleState
    soc: float | None
    floor_soc: float
    window_low_soc: float
    window_high_soc: float
    target_soc: float | None
    """Charge needed at departure."""
    power_kw: float | None
    setpoint_kw: float
    departs_s: float | None
    departure: Literal["met", "on_track", "at_risk", "unknown"]
    departure_note: str
    """"60 %", "70 % · Wed", "14 kWh of 20"."""
    reason: str
    """One sentence in the manager's words, at most two lines."""
    detail: str
    """The reason in full, for the opened row."""
    silent_s: float | None
    max_charge_kw: float
    max_discharge_kw: float
    override: str | None
    """Manual override in force, in words, or None."""
    path: tuple[SocPoint, ...] = ()


class PriceStep(Struct, frozen=True):
    """One step of today's price."""

    start_s: float
    price_per_kwh: float


class PriceView(Struct, frozen=True):
    """Energy price now and today, and grid frequency where it is metered."""

    now_per_kwh: float
    until_s: float
    today: tuple[PriceStep, ...]
    frequency_hz: float | None


class EventView(Struct, frozen=True):
    """One line of the event list; repeated ones are one line with a count."""

    id: int
    at_s: float
    title: str
    text: str
    code: str
    severity: Severity
    seen: bool
    count: int
    clearable: bool = False
    cause: str = ""
    """What brings it about, of the catalogue."""
    cure: str = ""
    """What to do, of the catalogue; the text has it too where something is to be done."""


class PlanGlance(Struct, frozen=True):
    """What the page and its readers need to know of the plan at a glance; the whole of it is a `PlanView`."""

    made_s: float | None
    """When the plan in force was made; None before the first."""
    missed: int
    """How many things it does not hold."""
    own_limit_kw: float
    """The limit that people set: it holds where there is no plan."""


class SiteView(Struct, frozen=True):
    """All of the page but the chart history."""

    site: str
    timezone: str
    now_s: float
    speed: float
    """Demo time per wall time; 1 on a real site."""
    mode: str
    state: SiteState
    state_word: str
    sentence: str
    subline: str
    limit_kw: float
    """The plan's target while there is one, else the limit that people set."""
    buffer_kw: float
    estop: bool
    links: tuple[LinkView, ...]
    demand: DemandView
    power: PowerPoint
    intervals: tuple[IntervalView, ...]
    """The last few interval averages, the running one last."""
    money: MoneyView
    vehicles: tuple[VehicleView, ...]
    price: PriceView | None
    events: tuple[EventView, ...]
    plan: PlanGlance | None = None
    """None where the site does not plan ahead."""
