"""What the controller believes of each vehicle and its switchgear: the told evidence, made as careful as what speaks against it.

Runs before arbitration and guard. It can only take away: a lower charge, lower limits, a higher temperature, no discharge. The one
thing that becomes more is load: power at a contactor that should be open is the building's from then on. Pure, and total on any
float. Rows FT26, FT27, FT28, AT13, DS9 of the safety case.
"""

import math

import numpy as np
from msgspec import Struct, structs

from gridtide.control import energy_check, follow, soc_check, wear
from gridtide.control.energy_check import EnergySettings, EnergyState
from gridtide.control.follow import FollowSettings, FollowState
from gridtide.control.guard import known_kw
from gridtide.control.soc_check import SocSettings, SocState
from gridtide.control.wear import WearSettings, WearState
from gridtide.model.decision import Reason
from gridtide.model.fleet import Bools, EvseTable, FleetSample, Floats

LONGEST_CYCLE_S = 3600.0
"""A gap between two cycles counts as no longer than this."""
LONGEST_STAY_S = 30 * 86_400.0
"""Who is said to leave later than that was told so by a clock that is wrong: when it leaves is not known."""


class TrustSettings(Struct, frozen=True, kw_only=True):
    """When evidence is doubted."""

    soc: SocSettings = SocSettings()
    energy: EnergySettings = EnergySettings()
    wear: WearSettings = WearSettings()
    follow: FollowSettings = FollowSettings()
    fresh_s: float = 2.0
    """Metered power older than this is not known."""
    derate_hold_s: float = 60.0
    """A limit that rose, and a heat sink that cooled, is believed after this time."""
    weld_kw: float = 0.5
    """More than this does not flow through an open contactor."""
    weld_s: float = 0.4
    """For so long it may still flow while the contactor opens."""


QUIET = frozenset({Reason.RESTING, Reason.REACHED, Reason.CHARGE_ONLY, Reason.SOC_UNKNOWN})
"""Reasons that a doubt explains better."""


class Slow(Struct, frozen=True, eq=False):
    """Follows down at once and up late, (n,)."""

    low: Floats
    since_s: Floats
    """Instant at which what is told was last as low."""


class OpenState(Struct, frozen=True, eq=False):
    """Contactors as the stations tell them, (n,)."""

    opened_s: Floats
    """Instant at which the row was first seen open; inf while it is closed, -inf from the beginning."""
    first_s: Floats
    """Instant of the first sample of the power that flows although it is open; inf none."""
    welded: Bools
    """Latched until a person clears it."""


class TrustState(Struct, frozen=True, eq=False):
    """What is remembered of each row."""

    at_s: float
    connected: Bools
    soc: SocState
    energy: EnergyState
    charge: Slow
    discharge: Slow
    cold: Slow
    """Of the temperature with its sign turned round."""
    open: OpenState
    wear: WearState
    follow: FollowState


class Note(Struct, frozen=True):
    """Something found at one row: an event of the catalogue."""

    code: str
    row: int
    text: str


def fresh(size: int) -> TrustState:
    """Everybody is believed."""
    no = np.zeros(size, dtype=np.bool_)
    slow = Slow(np.full(size, np.inf), np.full(size, -np.inf))
    never = OpenState(np.full(size, -np.inf), np.full(size, np.inf), no)
    return TrustState(
        -math.inf,
        no,
        soc_check.fresh(size),
        energy_check.fresh(size),
        slow,
        slow,
        slow,
        never,
        wear.fresh(size),
        follow.fresh(size),
    )


@np.errstate(
    all="ignore"
)  # rubbish in one row may overflow; it is not a number afterwards, which is believed of nobody
def step(
    state: TrustState,
    fleet: FleetSample,
    now_s: float,
    table: EvseTable,
    settings: TrustSettings,
    asked_kw: Floats,
) -> tuple[TrustState, FleetSample, tuple[Note, ...]]:
    """State, the evidence to act on, and what was found; `now_s` is monotonic, `asked_kw` (n,) was sent last."""
    dt_s = min(now_s - state.at_s, LONGEST_CYCLE_S) if now_s > state.at_s > -math.inf else 0.0
    came = fleet.connected & ~state.connected
    known = known_kw(fleet, table)
    power_kw = np.where(fleet.age_s <= settings.fresh_s, known, np.nan)
    opened, flows = _contactors(state.open, fleet, now_s, settings)
    out = flows | opened.welded
    charge = _slow(state.charge, fleet.charge_limit_kw, came, now_s, settings.derate_hold_s)
    discharge = _slow(state.discharge, fleet.discharge_limit_kw, came, now_s, settings.derate_hold_s)
    of_any_bay = {
        "left_s": np.where(fleet.left_s > LONGEST_STAY_S, np.inf, fleet.left_s),
        "charge_limit_kw": _held(charge, fleet.charge_limit_kw),
        "discharge_limit_kw": _held(discharge, fleet.discharge_limit_kw),
    }
    if not np.count_nonzero(fleet.connected | state.connected | out):
        after = _nobody(state, power_kw, asked_kw, now_s, dt_s, settings)
        after = structs.replace(after, open=opened, charge=charge, discharge=discharge)
        return after, structs.replace(fleet, **of_any_bay), _notes(state, after, fleet)
    inside_kw = np.where(fleet.connected & ~out, power_kw, np.nan)
    other = soc_check.others(state.soc, fleet, now_s)
    counted, soc, doubtful = soc_check.step(state.soc, fleet, inside_kw, came, other, table, now_s, dt_s, settings.soc)
    energy = energy_check.step(
        state.energy, fleet.register_kwh, inside_kw, fleet.connected, came, other, table, now_s, dt_s, settings.energy
    )
    used, worn = wear.step(state.wear, power_kw, dt_s, settings.wear)
    tried, resting = follow.step(state.follow, asked_kw, inside_kw, came, dt_s, settings.follow)
    cold = _slow(state.cold, -fleet.temperature_c, came, now_s, settings.derate_hold_s)
    after = TrustState(now_s, fleet.connected, counted, energy, charge, discharge, cold, opened, used, tried)
    may_discharge = fleet.may_discharge
    # Where no charge at all is believed the guard says that it is unknown, which is the better word.
    for against in (doubtful & ~np.isnan(soc), energy.fault, worn, resting, out):
        if np.count_nonzero(against):
            may_discharge = may_discharge & ~against
    adjusted = structs.replace(
        fleet,
        fault=fleet.fault | out,
        may_discharge=may_discharge,
        # What is not known stays so: the guard withholds for it.
        power_kw=np.where(out & np.isfinite(known), 0.0, fleet.power_kw) if np.count_nonzero(out) else fleet.power_kw,
        soc=soc,
        temperature_c=np.where(np.isfinite(cold.low), -cold.low, fleet.temperature_c),
        **of_any_bay,
    )
    return after, adjusted, _notes(state, after, fleet)


def _nobody(
    state: TrustState,
    power_kw: Floats,
    asked_kw: Floats,
    now_s: float,
    dt_s: float,
    settings: TrustSettings,
) -> TrustState:
    """Every bay is empty as it was, and nothing flows: only time passes. What is remembered of a bay begins anew with who comes."""
    unknown = np.full(power_kw.size, np.nan)
    tried, _ = follow.step(state.follow, asked_kw, unknown, state.connected, dt_s, settings.follow)
    used, _ = wear.step(state.wear, power_kw, dt_s, settings.wear)
    return structs.replace(state, at_s=now_s, wear=used, follow=tried)


def _slow(state: Slow, told: Floats, came: Bools, now_s: float, hold_s: float) -> Slow:
    """Follow `told` (n,) down at once and up after `hold_s`; what is not a number changes nothing."""
    falls = told <= state.low
    if np.count_nonzero(falls) == falls.size:
        return Slow(told, np.full(told.size, now_s))
    take = came | falls | ((told > state.low) & (now_s - state.since_s >= hold_s))
    low = np.where(take, np.fmin(told, np.inf), state.low)
    return Slow(low, np.where(take, now_s, state.since_s))


def _held(slow: Slow, told: Floats) -> Floats:
    """The lower of both; nan stays nan, because the guard knows what that means."""
    return np.minimum(told, slow.low)


def _contactors(state: OpenState, fleet: FleetSample, now_s: float, settings: TrustSettings) -> tuple[OpenState, Bools]:
    """Latched welds, and rows through which power flows now although they are open (FT28)."""
    opened_s = np.where(fleet.connected, np.inf, np.minimum(state.opened_s, now_s))
    flows = ~fleet.connected & (np.abs(fleet.power_kw) > settings.weld_kw)
    if not np.count_nonzero(flows):
        return OpenState(opened_s, np.full(opened_s.size, np.inf), state.welded), flows
    heard_s = now_s - fleet.age_s
    flows &= (fleet.age_s >= 0.0) & (fleet.age_s <= settings.fresh_s) & (heard_s > opened_s)
    flows &= np.isfinite(fleet.power_kw)
    first_s = np.where(flows, np.minimum(state.first_s, heard_s), np.inf)
    # Right after opening one sample tells it all; later, a second one has to confirm the first.
    since_s = np.where(first_s - opened_s <= settings.fresh_s, opened_s, first_s)
    lasts = flows & (heard_s - since_s >= settings.weld_s)
    return OpenState(opened_s, first_s, state.welded | lasts), flows


def _notes(before: TrustState, after: TrustState, fleet: FleetSample) -> tuple[Note, ...]:
    """What is new in this cycle."""
    found: list[Note] = []
    for row in _new(after.open.welded, before.open.welded):
        text = f"{fleet.power_kw[row]:.1f} kW flow although it is open."
        found.append(Note("contactor_welded", row, text))
    for row in _new(after.soc.fault, before.soc.fault):
        text = f"It tells {fleet.soc[row]:.0%}; by its energy it has {after.soc.own[row]:.0%}."
        found.append(Note("soc_implausible", row, text))
    for row in _new(after.energy.fault, before.energy.fault):
        found.append(Note("energy_mismatch", row, f"{after.energy.own_kwh[row]:+.2f} kWh by its power."))
    for row in _new(after.wear.used_up, before.wear.used_up):
        text = f"{after.wear.operations[row]} closings and {after.wear.turns[row]} turns today."
        found.append(Note("contactor_limit", row, text))
    for row in (after.follow.rest_s > before.follow.rest_s).nonzero()[0].tolist():
        text = "It was asked to give for a minute and gave nothing. Others give instead; it is tried again in half an hour."
        found.append(Note("vehicle_not_following", row, text))
    return tuple(found)


def _new(after: Bools, before: Bools) -> list[int]:
    """Rows that are marked (n,) and were not."""
    return (after & ~before).nonzero()[0].tolist() if np.count_nonzero(after) else []


# --- what people are told and do ------------------------------------------------------------------------------------
def words(state: TrustState, row: int) -> str:
    """Why a row is not called upon to give, in the manager's words; empty where nothing speaks against it."""
    if state.open.welded[row]:
        return "Out of use: its contactor seems welded, power flowed although it was open."
    if not state.connected[row]:
        return ""
    if state.soc.fault[row]:
        return "Does not give until it leaves: the level it tells does not fit the energy it took and gave."
    if math.isfinite(float(state.soc.doubt_s[row])):
        return "Does not give for now: the level it tells is being checked."
    if state.energy.fault[row]:
        return "Does not give until it leaves: its station's energy register and power do not agree."
    if state.follow.rest_s[row] > 0.0:
        return "Does not give for half an hour: it was asked to and gave nothing."
    if state.wear.used_up[row] and not (state.wear.flowing[row] and state.wear.direction[row] < 0.0):
        return "Does not give any more today: its contactor has switched often enough."
    return ""


def with_welds(state: TrustState, welded: Bools) -> TrustState:
    """The state with these rows latched, as they were before a restart, or as a person cleared them."""
    return structs.replace(state, open=structs.replace(state.open, welded=welded))
