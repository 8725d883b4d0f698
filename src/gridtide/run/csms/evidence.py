"""What stations have told, as columns with ages: the only place where OCPP messages become evidence for the controller."""

import math

import numpy as np

from gridtide.model.fleet import EvseTable, FleetSample


class EvidenceBoard:
    """Latest values per row; written by the CSMS as messages arrive, frozen into a `FleetSample` once a cycle."""

    def __init__(self, table: EvseTable) -> None:
        size = table.size
        self._table = table
        self.connected = np.zeros(size, dtype=np.bool_)
        self.fault = np.zeros(size, dtype=np.bool_)
        self.may_discharge = np.zeros(size, dtype=np.bool_)
        self.heard_s = np.full(size, -np.inf)
        self.power_kw = np.full(size, np.nan)
        self.soc = np.full(size, np.nan)
        self.capacity_kwh = np.full(size, np.nan)
        self.need_soc = np.full(size, np.nan)
        self.asked_kwh = np.full(size, np.nan)
        """AC energy asked for at plug-in, where no charge target was told."""
        self.minimum_soc = np.full(size, np.nan)
        """Charge the driver never wants to be below."""
        self.taken_kwh = np.zeros(size)
        self.register_kwh = np.full(size, np.nan)
        """Import register at the first value of this stay."""
        self.net_kwh = np.full(size, np.nan)
        """Import less export register; nan where one of them is not told."""
        self.departs_s = np.full(size, np.inf)
        """Monotonic instant."""
        self.charge_limit_kw = table.charge_kw.copy()
        self.discharge_limit_kw = table.discharge_kw.copy()
        self.temperature_c = np.full(size, np.nan)
        self.voltage_v = np.full(size, np.nan)
        self.current_a = np.full(size, np.nan)
        self.frequency_hz = np.full(size, np.nan)

    def clear_vehicle(self, row: int) -> None:
        """The vehicle left: nothing known of it may serve the next one."""
        self.connected[row] = False
        self.may_discharge[row] = False
        self.power_kw[row] = 0.0
        for column in (
            *(self.soc, self.capacity_kwh, self.need_soc, self.minimum_soc, self.asked_kwh, self.temperature_c),
            *(self.voltage_v, self.current_a, self.frequency_hz, self.net_kwh),
        ):
            column[row] = np.nan
        self.taken_kwh[row] = 0.0
        self.register_kwh[row] = np.nan
        self.departs_s[row] = np.inf
        self.charge_limit_kw[row] = self._table.charge_kw[row]
        self.discharge_limit_kw[row] = self._table.discharge_kw[row]

    def take_register(self, row: int, register_kwh: float) -> bool:
        """The station's import register: energy taken counts from its first value of this stay. Whether this was the first."""
        first_kwh = self.register_kwh.item(row)
        if math.isnan(first_kwh):
            self.register_kwh[row] = register_kwh
            self.taken_kwh[row] = 0.0
            return True
        self.taken_kwh[row] = max(0.0, register_kwh - first_kwh)
        return False

    def take_net(self, row: int, import_kwh: float, export_kwh: float | None) -> None:
        """Both registers; without the export register only where nothing is ever given."""
        if export_kwh is not None or not self._table.discharge_kw[row] > 0.0:
            self.net_kwh[row] = import_kwh - (export_kwh or 0.0)

    def sample(self, now_s: float) -> FleetSample:
        """Freeze the columns at monotonic `now_s`; a copy, so later messages do not change a cycle under way."""
        asked = self.asked_kwh - self.taken_kwh
        return FleetSample(
            connected=self.connected.copy(),
            fault=self.fault.copy(),
            may_discharge=self.may_discharge.copy(),
            age_s=np.maximum(now_s - self.heard_s, 0.0),
            power_kw=self.power_kw.copy(),
            soc=self.soc.copy(),
            capacity_kwh=self.capacity_kwh.copy(),
            need_soc=self.need_soc.copy(),
            minimum_soc=self.minimum_soc.copy(),
            need_kwh=np.maximum(asked, 0.0),
            left_s=self.departs_s - now_s,
            charge_limit_kw=self.charge_limit_kw.copy(),
            discharge_limit_kw=self.discharge_limit_kw.copy(),
            temperature_c=self.temperature_c.copy(),
            register_kwh=self.net_kwh.copy(),
        )
