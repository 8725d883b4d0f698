"""What is known of vehicles and outlives a restart of the program while they stay: their counted charge, and what was latched until
they leave.

A stay is known again by its transaction. The time in which nobody ran counts as time without metered power (FT26, FT33).
"""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from msgspec import Struct, structs

from gridtide.control.trust import TrustState
from gridtide.model.fleet import Bools, FleetSample, Floats


class KeptStay(Struct, frozen=True, kw_only=True):
    """One vehicle's stay, as stored; None is unknown. Charges are shares of the capacity."""

    bay: str
    transaction_id: str
    seen_at_s: float
    """UTC epoch s at which its power was last known."""
    own: float | None
    """Counted charge."""
    told: float | None = None
    budget: float = 0.0
    capacity_kwh: float | None = None
    soc_fault: bool = False
    energy_fault: bool = False


class StayMemory:
    """Stays of before a restart wait here until their vehicle tells its charge; then the count goes on where it was."""

    def __init__(self, ids: tuple[str, ...], transactions: Callable[[], Mapping[int, str]]) -> None:
        """`ids`: of the bays, by row; `transactions`: the open transaction of each row that has one."""
        self._ids, self._transactions = ids, transactions
        self._waiting: dict[int, KeptStay] = {}

    def begin(self, stays: Iterable[KeptStay]) -> None:
        """Take what was stored before the restart; of bays that are no more, nothing."""
        rows = {bay: row for row, bay in enumerate(self._ids)}
        self._waiting = {rows[stay.bay]: stay for stay in stays if stay.bay in rows}

    def kept(self, state: TrustState, wall_s: float) -> tuple[KeptStay, ...]:
        """What is to be stored now, at UTC epoch `wall_s`."""
        transactions = self._transactions()
        if not transactions:
            return ()
        soc, energy = state.soc, state.energy
        own, told, budget, capacity = (_known(c) for c in (soc.own, soc.told, soc.budget, soc.capacity_kwh))
        found = []
        for row, transaction in transactions.items():
            if (waiting := self._waiting.get(row)) is not None and waiting.transaction_id == transaction:
                found.append(waiting)
                continue
            soc_fault, energy_fault = soc.fault.item(row), energy.fault.item(row)
            if own[row] is None and not soc_fault and not energy_fault:
                continue
            stay = KeptStay(
                bay=self._ids[row], transaction_id=transaction, seen_at_s=round(wall_s - soc.blind_s.item(row), 1),
                own=own[row], told=told[row], budget=budget[row] or 0.0, capacity_kwh=capacity[row],
                soc_fault=soc_fault, energy_fault=energy_fault,
            )  # fmt: skip
            found.append(stay)
        return tuple(found)

    def resume(self, state: TrustState, fleet: FleetSample, mono_s: float, wall_s: float) -> TrustState:
        """The state from which to believe `fleet`, sampled at `mono_s`: counts and latches of stays that are seen again go on."""
        if not self._waiting:
            return state
        transactions = self._transactions()
        for row, stay in list(self._waiting.items()):
            if transactions.get(row) != stay.transaction_id:
                del self._waiting[row]
            elif fleet.connected[row] and (stay.own is None or math.isfinite(fleet.soc[row])):
                del self._waiting[row]
                state = _resumed(state, row, stay, mono_s + float(fleet.left_s[row]), wall_s)
        return state


def _resumed(state: TrustState, row: int, stay: KeptStay, departs_s: float, wall_s: float) -> TrustState:
    soc = structs.replace(
        state.soc,
        own=_with(state.soc.own, row, stay.own),
        told=_with(state.soc.told, row, stay.told),
        budget=_with(state.soc.budget, row, stay.budget),
        capacity_kwh=_with(state.soc.capacity_kwh, row, stay.capacity_kwh),
        departs_s=_with(state.soc.departs_s, row, departs_s),
        blind_s=_with(state.soc.blind_s, row, max(wall_s - stay.seen_at_s, 0.0)),
        fault=state.soc.fault | _only(state, row, stay.soc_fault),
    )
    energy = structs.replace(state.energy, fault=state.energy.fault | _only(state, row, stay.energy_fault))
    return structs.replace(state, connected=state.connected | _only(state, row, True), soc=soc, energy=energy)


def _with(column: Floats, row: int, value: float | None) -> Floats:
    changed = column.copy()
    changed[row] = math.nan if value is None else value
    return changed


def _only(state: TrustState, row: int, value: bool) -> Bools:
    marked: Bools = (np.arange(state.connected.size) == row) & value
    return marked


def _known(column: Floats) -> list[float | None]:
    """JSON has no NaN and no infinity. To the last bit: a capacity that differs is another vehicle's."""
    return [value if math.isfinite(value) else None for value in column.tolist()]
