"""Builders of tables, samples and settings with plain defaults, and a time-leap site: `site.after(minutes=6).decide(520.0)`."""

from typing import Any

import numpy as np
from msgspec import structs

from gridtide.control import site
from gridtide.control.site import Settings, State
from gridtide.model.decision import Decision, MeterSample, Snapshot
from gridtide.model.fleet import EvseTable, FleetSample, SiteLimits

HOUR_S = 3600.0


def column(value: Any, size: int, dtype: Any = np.float64) -> np.ndarray:
    """A scalar or a sequence as a column of its own."""
    return np.array(np.broadcast_to(np.asarray(value, dtype=dtype), (size,)))


def evse_table(size: int = 3, **columns: Any) -> EvseTable:
    """Three-phase 22 kW bidirectional EVSEs that ramp at once and hold nothing, unless told otherwise."""
    values: dict[str, Any] = {
        "charge_kw": 22.0, "discharge_kw": 22.0, "least_kw": 0.0, "step_kw": 0.0, "ramp_kw_per_s": 1000.0,
        "hold_s": 0.0, "efficiency": 0.95, "fallback_kw": 0.0,
    }  # fmt: skip
    values = {name: column(columns.pop(name, value), size) for name, value in values.items()}
    share = np.asarray(columns.pop("phase_share", np.full((size, 3), 1.0 / 3.0)), dtype=np.float64)
    group = column(columns.pop("group", -1), size, np.int64)
    storage = column(columns.pop("storage", False), size, np.bool_)
    assert not columns, f"no such columns: {sorted(columns)}"
    ids = tuple(f"bay-{number}" for number in range(1, size + 1))
    return EvseTable(ids=ids, phase_share=share, group=group, storage=storage, **values)


def fleet_sample(size: int = 3, **columns: Any) -> FleetSample:
    """Connected, authorised vehicles of 60 kWh at 70 %, resting, with 60 % needed in 8 h, unless told otherwise."""
    flags = {"connected": True, "fault": False, "may_discharge": True}
    numbers = {
        "age_s": 0.0, "power_kw": 0.0, "soc": 0.7, "capacity_kwh": 60.0, "need_soc": 0.6, "need_kwh": np.nan, "minimum_soc": np.nan,
        "left_s": 8 * HOUR_S, "charge_limit_kw": np.inf, "discharge_limit_kw": np.inf, "temperature_c": np.nan,
        "register_kwh": np.nan,
    }  # fmt: skip
    found = {name: column(columns.pop(name, value), size, np.bool_) for name, value in flags.items()}
    found |= {name: column(columns.pop(name, value), size) for name, value in numbers.items()}
    assert not columns, f"no such columns: {sorted(columns)}"
    return FleetSample(**found)


def snapshot(mono_s: float, meter_kw: float | None, fleet: FleetSample, **fields: Any) -> Snapshot:
    """A snapshot with a fresh meter sample (None: no sample at all)."""
    sample = None if meter_kw is None else MeterSample(mono_s, meter_kw)
    fields = {"now_s": mono_s, "meter": sample} | fields
    return Snapshot(mono_s=mono_s, fleet=fleet, **fields)


def site_settings(table: EvseTable | None = None, limits: SiteLimits | None = None, **fields: Any) -> Settings:
    """Settings of a site behind a 1 MW transformer."""
    return Settings(table=table or evse_table(), limits=limits or SiteLimits(transformer_kw=1000.0), **fields)


class LeapingSite:
    """A site whose meter is already believed; time leaps, and every decision is one cycle."""

    def __init__(self, settings: Settings, fleet: FleetSample | None = None, *, start_s: float = 0.0) -> None:
        self.settings = settings
        self.fleet = fleet or fleet_sample(settings.table.size)
        self.state: State = site.fresh(settings)
        self.mono_s = start_s
        self.decision: Decision | None = None

    def believed(self, meter_kw: float = 300.0) -> "LeapingSite":
        """Three good, varying samples, so that the meter is trusted."""
        for wiggle in (0.3, 0.2, 0.1):
            self.decide(meter_kw + wiggle)
            self.after(seconds=0.5)
        return self

    def after(self, *, minutes: float = 0.0, seconds: float = 0.0) -> "LeapingSite":
        """Leap ahead without a cycle."""
        self.mono_s += 60.0 * minutes + seconds
        return self

    def with_fleet(self, **columns: Any) -> "LeapingSite":
        """Change columns of the fleet's sample from now on."""
        size, kinds = self.settings.table.size, structs.asdict(self.fleet)
        changed = {name: column(value, size, kinds[name].dtype) for name, value in columns.items()}
        self.fleet = structs.replace(self.fleet, **changed)
        return self

    def decide(self, meter_kw: float | None, **fields: Any) -> Decision:
        """One cycle with this meter reading."""
        self.state, self.decision = site.step(
            self.state, snapshot(self.mono_s, meter_kw, self.fleet, **fields), self.settings
        )
        return self.decision
