"""What `gridtide compare` found: strategies side by side on the same site, the same load and the same vehicles."""

from msgspec import Struct

STRATEGIES = ("none", "threshold", "budget", "plan", "clairvoyant")
"""`none`: every vehicle charges at once at full power; `threshold`, `budget`: the rules of the fast controller at the site's own
limit; `plan`: the budget rule with foresight, which chooses limit and hours; `clairvoyant`: the lowest bill of all, with load and
stays known beforehand."""


class StrategyResult(Struct, frozen=True, kw_only=True):
    """One strategy. Powers kW, energies kWh, money in the tariff's currency."""

    strategy: str
    peak_kw: float
    """Highest billed interval."""
    bill: float
    """Everything the tariff bills, and wear."""
    energy: float
    """Energy of building and vehicles, less export credit."""
    demand: float
    other: float
    """Fixed charges, minimum and taxes."""
    wear: float
    saved: float
    """Against `none`."""
    share_of_possible: float | None
    """`saved` over what `clairvoyant` saves; None where that is nothing, or was not asked for."""
    charged_kwh: float
    discharged_kwh: float
    starts: int
    """Discharge starts, summed over EVSEs."""
    drivers_short: int
    plans: int
    """How often it was planned."""
    cpu_s: float
    day_peak_kw: list[float]
    """Highest billed interval of each local day."""


class Comparison(Struct, frozen=True, kw_only=True):
    """Strategies side by side."""

    site: str
    timezone: str
    currency: str
    start_s: float
    end_s: float
    step_s: float
    vehicles: int
    sessions: int
    limit_kw: float
    """The site's own limit, of `threshold` and `budget`."""
    peak_kw_building: float
    history_days: float
    """Days of load that the forecast knew beforehand."""
    history_sessions: int
    strategies: list[StrategyResult]
    """In the order asked for."""
    interval_start_s: list[float]
    interval_kw: dict[str, list[float]]
    """Billed intervals of each strategy, and of the `building`."""
    assumptions: list[str]
    elapsed_s: float = 0.0
