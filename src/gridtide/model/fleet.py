"""The fleet as columns: one row per EVSE (or stationary battery); every array has shape (n,) unless said otherwise.

Rows never move: a vehicle is what is plugged into a row. Unknown is nan (or inf for "no departure known"), never 0.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class EvseTable(Struct, frozen=True, eq=False, kw_only=True):
    """What is fixed about each EVSE. Powers are magnitudes at the AC side."""

    ids: tuple[str, ...]
    charge_kw: Floats
    """Rated charging power."""
    discharge_kw: Floats
    """Rated discharging power; 0 on a charge-only EVSE."""
    least_kw: Floats
    """Smallest non-zero power: 6 A times phases on AC, the converter's minimum on DC."""
    step_kw: Floats
    """Resolution of a setpoint; 0 is continuous."""
    ramp_kw_per_s: Floats
    hold_s: Floats
    """Least time between a change of direction and the next."""
    efficiency: Floats
    """One-way AC to battery, (0, 1]."""
    fallback_kw: Floats
    """Charging power to be assumed of a silent station."""
    phase_share: Floats
    """(n, 3): share of the row's power on L1, L2, L3; rows sum to 1."""
    group: Ints
    """Index into `SiteLimits.group_kw`; -1 is no group."""
    storage: Bools
    """True for a stationary battery: always connected, no driver."""

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.ids)


class FleetSample(Struct, frozen=True, eq=False, kw_only=True):
    """What is known of each row at one instant."""

    connected: Bools
    fault: Bools
    """Station or vehicle fault, tamper or its own E-stop."""
    may_discharge: Bools
    """Authorised, bidirectional service negotiated, dialect set, lease installable."""
    age_s: Floats
    """Age of the station's last message; inf before the first."""
    power_kw: Floats
    """Metered AC power; nan unknown."""
    soc: Floats
    """0..1; nan unknown."""
    capacity_kwh: Floats
    """nan unknown."""
    need_soc: Floats
    """Charge the driver needs at departure; nan none."""
    need_kwh: Floats
    """Energy still to be delivered (AC) where `soc` is unknown; nan none."""
    minimum_soc: Floats
    """Charge the driver never wants to be below: reached first, never used; nan none."""
    left_s: Floats
    """Time to departure; inf unknown, negative when overdue."""
    charge_limit_kw: Floats
    """What vehicle and station can take now (derates included); inf unknown."""
    discharge_limit_kw: Floats
    """What vehicle and station can give now, magnitude; inf unknown."""
    temperature_c: Floats
    """Heat-sink temperature; nan not measured."""
    register_kwh: Floats
    """The station's energy registers, import less export; nan not told."""

    @property
    def size(self) -> int:
        """Number of rows."""
        return int(self.connected.shape[0])


class SiteLimits(Struct, frozen=True, eq=False, kw_only=True):
    """Hard limits of the connection. None of them is ever traded against a wish."""

    transformer_kw: float
    """Highest import, kW."""
    import_margin_kw: float = 10.0
    """Planned import never falls below it unless export is allowed."""
    export_kw: float = 0.0
    """Allowed export, kW; with it the planned import may go down to -export_kw."""
    static_building_kw: float = 0.0
    """Worst-case building load assumed while the meter is lost, kW."""
    group_kw: tuple[float, ...] = ()
    """Import cap of each group (circuit, feeder, transformer), kW."""
    phase_a: float = 0.0
    """Fuse per phase for the charging circuits, A; 0 is unlimited."""
    phase_v: float = 230.0
    """Phase voltage, V."""
    shed_kw: float = 0.0
    """Highest import while a load-shedding input that tells no number is active, kW."""
