"""Stays of vehicles as rows of a plan: those of the past that are known whole, those connected now, and those to be expected.

Energies are in the battery, powers magnitudes at the AC side, instants UTC epoch s.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from gridtide.plan.horizon import Floats, Ints, Vehicles

_HALF_PATIENT_H = 4.0
"""Time to spare with which a vehicle is half as patient as one with no end of it."""
_FREE = 1.5
"""Of the hours kept: with so much to spare their power is cut by the most."""
_LEAST_SHARE = 0.25
NEED_PRICE_PER_KWH = 1_000.0
"""Far above what a kWh can save: a quarter hour of it moves a peak by 4 kW."""


class Stay(Struct, frozen=True):
    """One stay, as far as it is known."""

    key: str
    arrived_s: float
    departs_s: float
    charge_kw: float
    discharge_kw: float
    efficiency: float
    """One way, AC to battery, (0, 1]."""
    capacity_kwh: float
    """Highest energy that a plan may charge to."""
    energy_kwh: float
    """On arrival, or now."""
    required_kwh: float
    """At departure; soft."""
    least_kwh: float
    """Never discharged below."""
    group: int = -1
    knee_soc: float = 1.0
    """Where the taper begins, as a share of `capacity_kwh`; 1 is no taper."""
    setup_s: float = 0.0
    """Time at the beginning in which nothing flows."""


class Early(Struct, frozen=True):
    """What keeps a plan from leaving to the end what may be done before, when nobody knows the load."""

    hurry_per_kwh_h: float = 0.0
    """Who has time to spare pays up to so much for every kWh held an hour: of equal plans the one is taken in which those with the
    least time charge first."""
    kept_h: float = 0.0
    """Hours before a departure in which a vehicle with time to spare is planned with a part of its power."""


NOT_EARLY = Early()


def vehicles(
    stays: Sequence[Stay], starts_s: Floats, hours: Floats, wear_price_per_kwh: float, early: Early = NOT_EARLY
) -> Vehicles:
    """The rows of a plan over the steps that begin at `starts_s` (T,) and last `hours` (T,).

    A step in which a vehicle is connected for a part only has that part of its charging power; no need is put off by rounding.
    A stay that reaches beyond the last step owes there what full power could not add afterwards.
    """
    count, steps = len(stays), starts_s.size
    ends_s = starts_s + hours * 3600.0
    column = {
        name: np.array([getattr(stay, name) for stay in stays], dtype=np.float64).reshape(count)
        for name in ("arrived_s", "departs_s", "charge_kw", "discharge_kw", "efficiency", "capacity_kwh", "energy_kwh",
                     "required_kwh", "least_kwh", "setup_s", "knee_soc")
    }  # fmt: skip
    begin_s = column["arrived_s"] + column["setup_s"]
    share = _shares(begin_s, column["departs_s"], starts_s, ends_s)
    first, last = _spans(begin_s, column["departs_s"], starts_s, ends_s)
    end_s = float(ends_s[-1]) if steps else 0.0
    after_h = np.where(np.isfinite(column["departs_s"]), np.maximum(column["departs_s"] - end_s, 0.0), np.inf) / 3600.0
    with np.errstate(invalid="ignore"):
        later = np.nan_to_num(column["charge_kw"] * column["efficiency"] * after_h, nan=0.0, posinf=1e12)
    required = np.maximum(column["required_kwh"] - later, 0.0)
    spare_h = _spare_h(column, float(starts_s[0]) if steps else 0.0)
    kept_h = np.where(column["knee_soc"] < 1.0, 0.0, early.kept_h)  # a taper needs that time itself
    share *= _kept(spare_h, column["departs_s"], starts_s, ends_s, kept_h)
    patience = 1.0 - _HALF_PATIENT_H / (spare_h + _HALF_PATIENT_H)
    return Vehicles(
        keys=tuple(stay.key for stay in stays), first=first, last=last,
        charge_kw=column["charge_kw"], discharge_kw=column["discharge_kw"],
        charge_efficiency=column["efficiency"], discharge_efficiency=column["efficiency"],
        capacity_kwh=np.maximum(column["capacity_kwh"], np.maximum(column["energy_kwh"], required)),
        least_kwh=np.minimum(column["least_kwh"], np.maximum(column["capacity_kwh"], column["energy_kwh"])),
        energy_kwh=column["energy_kwh"], required_kwh=required,
        need_price_per_kwh=np.full(count, NEED_PRICE_PER_KWH), left_value_per_kwh=np.zeros(count),
        wear_price_per_kwh=np.full(count, wear_price_per_kwh), calendar_price_per_kwh_h=early.hurry_per_kwh_h * patience,
        group=np.array([stay.group for stay in stays], dtype=np.int64).reshape(count),
        knee_soc=column["knee_soc"], taper_kw=column["charge_kw"] * column["efficiency"],
        charge_limit_kw=column["charge_kw"][:, None] * share,
    )  # fmt: skip


def _spare_h(column: Mapping[str, Floats], now_s: float) -> Floats:
    """(N,): hours of each stay from now on beyond what full power needs, >= 0."""
    power_kw = np.maximum(column["charge_kw"] * column["efficiency"], 1e-6)
    needs_h = np.maximum(column["required_kwh"] - column["energy_kwh"], 0.0) / power_kw
    stay_h = (column["departs_s"] - np.maximum(column["arrived_s"], now_s)) / 3600.0
    return np.maximum(stay_h - needs_h, 0.0)


def _kept(spare_h: Floats, departs_s: Floats, starts_s: Floats, ends_s: Floats, kept_h: Floats) -> Floats:
    """(N, T): share of the charging power that may be planned; less only in the hours before a departure, `kept_h` (N,), and only
    as far as the need fits without them."""
    cut = np.clip(spare_h / np.maximum(_FREE * kept_h, 1e-9), 0.0, 1.0 - _LEAST_SHARE)
    begin_s = np.maximum(starts_s, (departs_s - 3600.0 * kept_h)[:, None])
    return np.asarray(
        1.0 - cut[:, None] * np.clip(np.minimum(ends_s, departs_s[:, None]) - begin_s, 0.0, None) / (ends_s - starts_s)
    )


def _shares(begin_s: Floats, departs_s: Floats, starts_s: Floats, ends_s: Floats) -> Floats:
    """(N, T): share of each step in which each vehicle is there."""
    there = np.minimum(departs_s[:, None], ends_s) - np.maximum(begin_s[:, None], starts_s)
    return np.clip(there / (ends_s - starts_s), 0.0, 1.0)


def _spans(begin_s: Floats, departs_s: Floats, starts_s: Floats, ends_s: Floats) -> tuple[Ints, Ints]:
    """First and last step (included) that a stay touches; a stay outside has last < first."""
    first = np.searchsorted(ends_s, begin_s, side="right")
    last = np.searchsorted(starts_s, departs_s, side="left") - 1
    outside = (first >= starts_s.size) | (last < 0) | (last < first)
    return np.where(outside, 0, first).astype(np.int64), np.where(outside, -1, last).astype(np.int64)
