"""Grid protection and transformers of a site, once a cycle and between cycles: what they leave to the guard. Pure."""

import math

import numpy as np
from msgspec import Struct

from gridtide.control import grid_protection, transformer
from gridtide.control.grid_protection import GridSettings, GridState
from gridtide.control.guard import OPEN, known_kw
from gridtide.control.transformer import Load, Transformer, TransformerState
from gridtide.model.decision import GridPermit, GridSample, Snapshot
from gridtide.model.fleet import EvseTable, FleetSample, Floats


class ProtectionSettings(Struct, frozen=True, kw_only=True):
    """What is protected. Without any of it everything is permitted: it is left to what is wired."""

    grid: GridSettings | None = None
    """None where the meter tells neither voltage nor frequency."""
    site: Transformer | None = None
    groups: tuple[Transformer | None, ...] = ()
    """By group."""

    @property
    def is_fast(self) -> bool:
        """Whether there is anything to look after between two cycles."""
        return self.grid is not None or self.site is not None


class ProtectionState(Struct, frozen=True):
    """What is remembered."""

    grid: GridState = GridState()
    site: TransformerState = TransformerState()
    groups: tuple[TransformerState, ...] = ()
    permit: GridPermit = GridPermit()
    """The last one."""


def step(
    state: ProtectionState, snapshot: Snapshot, load_kw: float, table: EvseTable, settings: ProtectionSettings
) -> tuple[ProtectionState, GridPermit, tuple[str, ...]]:
    """New state, the permit and event codes. `load_kw`: the site's import as if nobody discharged (`site_load_kw`)."""
    if settings.grid is None and settings.site is None and not settings.groups:
        return ProtectionState(state.grid, state.site, state.groups), OPEN, ()
    grid, verdict, events = state.grid, None, tuple[str, ...]()
    if settings.grid is not None:
        grid, verdict = grid_protection.step(state.grid, snapshot.grid, snapshot.mono_s, settings.grid)
        events = verdict.events
    site, import_kw = state.site, math.inf
    if settings.site is not None:
        site, import_kw, told = transformer.step(
            state.site, _load(load_kw, snapshot.grid), snapshot.mono_s, settings.site
        )
        events = (*events, *told)
    groups, group_kw, told = _groups(state, snapshot, table, settings)
    permit = GridPermit(import_kw=import_kw, group_kw=group_kw)
    if verdict is not None:
        permit = GridPermit(
            verdict.in_service, verdict.charge_share, verdict.discharge_share, import_kw, group_kw, verdict.reason
        )
    return ProtectionState(grid, site, groups, permit), permit, tuple(dict.fromkeys((*events, *told)))


def is_tighter(now: GridPermit, before: GridPermit) -> bool:
    """Whether less may flow than before for the grid's sake: no reason to wait for the next cycle."""
    return now.charge_share < before.charge_share or now.discharge_share < before.discharge_share


def site_load_kw(import_kw: float, told_kw: Floats) -> float:
    """The site's load as if nobody discharged, kW: metered import and what the rows say they give.

    `told_kw` (n,) is what each row tells, nan unknown.
    """
    gives = told_kw < 0.0
    return import_kw + float(np.where(gives, -told_kw, 0.0).sum()) if np.count_nonzero(gives) else import_kw


def _load(power_kw: float, sample: GridSample | None) -> Load:
    if sample is None:
        return Load(power_kw)
    return Load(power_kw, sample.reactive_kvar, sample.ambient_c)


def _groups(
    state: ProtectionState, snapshot: Snapshot, table: EvseTable, settings: ProtectionSettings
) -> tuple[tuple[TransformerState, ...], tuple[float, ...], tuple[str, ...]]:
    """Transformers of groups; they have no meter of their own, so what the rows report counts, and the rating where they do not."""
    if not settings.groups:
        return state.groups, (), ()
    charging = _charging_kw(snapshot.fleet, table)
    ambient_c = snapshot.grid.ambient_c if snapshot.grid is not None else math.nan
    states, caps, events = list[TransformerState](), list[float](), list[str]()
    for g, unit in enumerate(settings.groups):
        old = state.groups[g] if g < len(state.groups) else TransformerState()
        cap_kw = math.inf
        if unit is not None:
            load = Load(float(charging[table.group == g].sum()), ambient_c=ambient_c)
            old, cap_kw, told = transformer.step(old, load, snapshot.mono_s, unit)
            events += told
        states.append(old)
        caps.append(cap_kw)
    return tuple(states), tuple(caps), tuple(events)


def _charging_kw(fleet: FleetSample, table: EvseTable) -> Floats:
    """Charging power of each row, kW (n,); an unknown one of a connected row counts as its rating."""
    known = known_kw(fleet, table)
    unknown = np.where(fleet.connected, table.charge_kw, 0.0)
    return np.maximum(np.where(np.isnan(known), unknown, known), 0.0)
