"""What goes wrong at single bays, seen from one snapshot to the next: told once, with the bay's name."""

import numpy as np

from gridtide.model.decision import Snapshot
from gridtide.model.fleet import EvseTable, Floats
from gridtide.model.thermal import DERATE_FROM_C

Told = tuple[str, int, str]
"""(event code, row, text)."""
FOLLOW_S = 30.0
SHORT_SOC = 0.01


class FleetWatch:
    """Remembers the last snapshot; `look` names what is new."""

    def __init__(self, table: EvseTable, silent_s: float) -> None:
        size = table.size
        self._table, self._silent_s = table, silent_s
        self._silent = np.zeros(size, dtype=np.bool_)
        self._warm = np.zeros(size, dtype=np.bool_)
        self._stray_since_s = np.full(size, np.inf)
        self._stray_told = np.zeros(size, dtype=np.bool_)
        self._before: Snapshot | None = None

    def look(self, snapshot: Snapshot, setpoint_kw: Floats) -> list[Told]:
        """Events of this cycle; `setpoint_kw` (n,) is what the rows were asked before it."""
        fleet, told = snapshot.fleet, []
        silent = fleet.connected & ~(fleet.age_s <= self._silent_s) & np.isfinite(fleet.age_s)
        for row in (silent & ~self._silent).nonzero()[0]:
            told.append(("station_timeout", int(row), f"No word for {fleet.age_s[row]:.0f} s; its power is reserved."))
        for row in (~silent & self._silent & fleet.connected).nonzero()[0]:
            told.append(("station_back", int(row), "It answers again."))
        warm = fleet.temperature_c >= DERATE_FROM_C
        for row in (warm & ~self._warm).nonzero()[0]:
            told.append(("over_temperature", int(row), f"{fleet.temperature_c[row]:.0f} °C."))
        self._silent, self._warm = silent, warm
        told += self._not_following(snapshot, setpoint_kw)
        told += self._left_short(snapshot)
        self._before = snapshot
        return told

    def _not_following(self, snapshot: Snapshot, setpoint_kw: Floats) -> list[Told]:
        """Discharge that was asked for and does not come, or power that nobody asked for, for half a minute."""
        fleet = snapshot.fleet
        rated = self._table.charge_kw
        over = np.abs(fleet.power_kw) > np.abs(setpoint_kw) + 0.1 * rated
        short = (setpoint_kw < 0.0) & (fleet.power_kw > 0.5 * setpoint_kw)
        stray = fleet.connected & (over | short)
        since = np.where(stray, np.minimum(self._stray_since_s, snapshot.mono_s), np.inf)
        due = stray & (snapshot.mono_s - since >= FOLLOW_S) & ~self._stray_told
        self._stray_since_s, self._stray_told = since, (self._stray_told | due) & stray
        return [
            (
                "vehicle_not_following",
                int(row),
                f"Asked {setpoint_kw[row]:.1f} kW, metered {fleet.power_kw[row]:.1f} kW.",
            )
            for row in due.nonzero()[0]
        ]

    def _left_short(self, snapshot: Snapshot) -> list[Told]:
        """Vehicles that were there a cycle ago, are gone, and had less than their driver asked for."""
        if self._before is None:
            return []
        old = self._before.fleet
        gone = old.connected & ~snapshot.fleet.connected
        short = gone & (old.soc < old.need_soc - SHORT_SOC)
        return [
            ("driver_short", int(row), f"Left with {old.soc[row]:.0%}, asked for {old.need_soc[row]:.0%}.")
            for row in short.nonzero()[0]
        ]
