"""Snapshot in, decision out: the two faces of one control cycle."""

import enum
import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gridtide.model.fleet import FleetSample, Floats


class Quality(enum.Enum):
    """What the reader says of a meter sample."""

    GOOD = "good"
    LOST = "lost"
    """No answer, an exception code, a garbled frame."""
    INVALID = "invalid"
    """An answer that is not a finite, plausible number."""


class MeterSample(Struct, frozen=True):
    """Power at the point of common coupling: the mean since the last sample, kW, + import."""

    at_s: float
    """Monotonic instant at which the sample was taken."""
    power_kw: float
    quality: Quality = Quality.GOOD
    energy_import_kwh: float | None = None
    """The meter's own import register, where it has one."""


class GridSample(Struct, frozen=True):
    """The grid at the point of common coupling, as the meter shows it; nan: not measured."""

    at_s: float
    """Monotonic instant at which the sample was taken."""
    frequency_hz: float = math.nan
    voltages_v: tuple[float, ...] = ()
    """Phase to neutral, each measured phase."""
    reactive_kvar: float = math.nan
    ambient_c: float = math.nan
    """Air around the transformer, degC."""


class GridPermit(Struct, frozen=True):
    """What grid protection and transformers leave to the guard. The guard takes it as one more bound."""

    in_service: bool = True
    """False after a trip, until the grid was good for long enough: nothing flows."""
    charge_share: float = 1.0
    """Share of every row's rating, 0..1."""
    discharge_share: float = 1.0
    import_kw: float = math.inf
    """Highest import that the site's transformer carries now, kW."""
    group_kw: tuple[float, ...] = ()
    """The same of each group's; groups behind the end have none."""
    reason: str = ""
    """Why anything is held by the grid, in words."""


class Snapshot(Struct, frozen=True, eq=False, kw_only=True):
    """Everything a cycle may look at, taken once."""

    mono_s: float
    """Monotonic time: leases, ramps, ages."""
    now_s: float
    """UTC epoch seconds: the demand interval and records only."""
    meter: MeterSample | None
    fleet: FleetSample
    period_start_s: float = 0.0
    """Start of the billing period, UTC epoch seconds."""
    estop: bool = False
    """An E-stop input is active now."""
    meter_error_rate: float = 0.0
    """Share of failed meter reads, 0..1."""
    load_shed_kw: float | None = None
    """Import limit of a local load-shedding input; None is not active."""
    grid: GridSample | None = None
    """The newest look at voltage and frequency; None where the meter tells neither."""


class Reason(enum.IntEnum):
    """Why a row has its setpoint: the wish that was followed, or the bound that held it."""

    RESTING = 0
    DRIVER_FIRST = 1
    CHARGING = 2
    SHAVING = 3
    WAITS_FOR_ROOM = 4
    WAITS_TURN = 5
    MANUAL = 6
    REACHED = 7
    PLANNED = 8
    WAITS_FOR_HOUR = 9
    NO_VEHICLE = 20
    SILENT = 21
    FAULT = 22
    ESTOP = 23
    METER = 24
    SOC_UNKNOWN = 25
    CHARGE_ONLY = 26
    FLOOR = 27
    NEAR_FLOOR = 28
    DEPARTURE = 29
    EXPORT_MARGIN = 30
    TRANSFORMER = 31
    GROUP = 32
    PHASE = 33
    RATING = 34
    WARM = 35
    HOLD = 36
    RAMP = 37
    LEAST_CURRENT = 38
    NOT_FINITE = 39
    WINDOW = 40
    REVERSE_POWER = 41
    LOAD_SHED = 42
    GRID = 43


Reasons = NDArray[np.uint8]


class Decision(Struct, frozen=True, eq=False, kw_only=True):
    """What one cycle decided. Arrays have shape (n,)."""

    setpoint_kw: Floats
    """Allowed power per row, + charging, - discharging, in whole watts."""
    reason: Reasons
    """`Reason` per row: what bound, or the wish that was followed."""
    wish_kw: Floats
    """What was wished before the guard."""
    lease_s: float
    """A discharge setpoint ends by itself this long after it was sent."""
    state: str
    """`ok`, `idle` (fail-safe) or `estop`."""
    events: tuple[str, ...] = ()
    """Event codes raised by this cycle, see `model.events`."""
    uncontrolled_kw: float = 0.0
    """Building load without the vehicles, as used."""
    allow_kw: float = 0.0
    """Mean power that may run to the end of the interval."""
    discharge_wanted_kw: float = 0.0
    available_kw: float = 0.0
    """What the fleet could have given this cycle."""
    fixed_kw: float = 0.0
    """Charging that goes before the peak target: drivers who must leave, wishes by hand."""
    missing_kw: float = 0.0
    """Discharge that was wanted and could not be given."""
    closed: tuple[tuple[float, float], ...] = ()
    """(end in UTC epoch s, average in kW) of each billed interval that ended with this cycle."""


class Outcome(enum.Enum):
    """What became of a setpoint at the station."""

    APPLIED = "applied"
    CLAMPED = "clamped"
    REFUSED = "refused"
    LATE = "late"
