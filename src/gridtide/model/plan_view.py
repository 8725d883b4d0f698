"""A plan as people see it: the peak to hold, the hours ahead, each vehicle's part, and what cannot be met and why.

Instants are UTC epoch seconds; powers kW (+ import/charging), energies kWh.
"""

from msgspec import Struct

MISSED_REASONS = {
    "battery_too_small": "the battery holds less than is needed",
    "stay_too_short": "full power from arrival to departure is not enough",
    "site_limit": "the site's limit leaves no room for more",
    "group_limit": "the limit of its circuit leaves no room for more",
    "too_dear": "it would cost more than the need is worth",
    "load_alone": "the building alone is already beyond it",
    "vehicles": "the vehicles' needs bring it there",
    "fleet_power": "the vehicles have not the power",
    "fleet_energy": "the vehicles have not the energy",
}
"""Why something is missed, in words, by the planner's reason."""


class PlanStep(Struct, frozen=True):
    """One step ahead."""

    start_s: float
    end_s: float
    load_kw: float
    """Expected load without vehicles: the middle of the forecast ..."""
    load_high_kw: float
    """... and the level that the peak is planned for."""
    vehicles_kw: float
    """What all vehicles together are planned to draw (+) or give (-), those still to come included."""
    price_per_kwh: float
    target_kw: float | None
    """Peak to hold in this step; None where no peak counts."""


class PlannedVehicle(Struct, frozen=True):
    """One connected vehicle's part."""

    bay: str
    power_kw: float
    """Now."""
    leaves_s: float | None
    energy_kwh: float
    """In the battery now."""
    required_kwh: float
    """To be in it at departure."""
    planned_kwh: float
    """Planned to be in it then."""


class Missed(Struct, frozen=True):
    """One thing that the plan does not hold."""

    what: str
    """`energy`, `import_cap`, `export`, `group_import`, `group_export`, `reserve_up` or `reserve_down`."""
    who: str
    """A bay, `site`, a group, or `expected` for a vehicle still to come."""
    at_s: float
    """A vehicle's departure; else when it begins."""
    hours: float
    missing: float
    unit: str
    """`kWh` for energy, `kW` (the worst step) else."""
    reason: str
    words: str
    """The whole finding as a sentence."""


class PlanView(Struct, frozen=True, kw_only=True):
    """A plan."""

    made_s: float
    target_kw: float | None
    """Peak to hold now."""
    value_per_kw: float
    """What one more kW of that peak would save: the value of the next kW, in the tariff's currency."""
    currency: str
    method: str
    gap: float
    """Certified: no plan is cheaper by more than this share."""
    cost: float
    """Energy, demand above what is billed anyway, and wear over the steps; no weights of missed needs."""
    cpu_s: float | None
    steps: tuple[PlanStep, ...]
    vehicles: tuple[PlannedVehicle, ...]
    missed: tuple[Missed, ...]
