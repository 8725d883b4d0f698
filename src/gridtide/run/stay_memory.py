"""What is known of vehicles while they stay and outlives a restart of the program: their counted charge, and what was latched.

A stay is its transaction: another one is another vehicle. After a restart a stay goes on once its station has spoken of it, and the
time since its power was last known counts as time without metered power (FT26, FT33). That time is the wall clock's: one that was
set back in between lets the count doubt more, one that was set forward less, never more than full power could move in that time.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct, structs

from gridtide.control.trust import TrustState
from gridtide.model.fleet import Bools, FleetSample, Floats
from gridtide.run.clock import Clock
from gridtide.run.store import Store

STATE: Final = "stays/"
BLOCK: Final = 500
"""Rows in one entry of the store."""
KEEP_S: Final = 10.0
"""Counts are stored so often; latches and transactions as they change. What moved since is within what is allowed for a gap."""
LEAST_AWAY_S: Final = 1.0
"""Also by a clock that was set back."""

Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class KeptStay(Struct, frozen=True, kw_only=True):
    """One vehicle's stay, as stored; None is unknown. Charges are shares of the capacity."""

    bay: str
    transaction_id: str
    seen_at_s: float
    """UTC epoch s at which its power was last known."""
    own: Share | None
    """Counted charge."""
    told: float | None = None
    budget: Share = 0.0
    capacity_kwh: Annotated[float, Meta(gt=0.0)] | None = None
    soc_fault: bool = False
    energy_fault: bool = False


class StayMemory:
    """Keeps stays in the store; those of before a restart wait here until they are seen again."""

    def __init__(
        self,
        ids: tuple[str, ...],
        store: Store,
        clock: Clock,
        transactions: Callable[[], Mapping[int, str]],
        spoken: Callable[[], set[int]],
    ) -> None:
        """`ids`: of the bays, by row; `transactions`: the open transaction of each row that has one; `spoken`: rows whose
        transaction has spoken on the present connection."""
        self._ids, self._store, self._clock = ids, store, clock
        self._transactions, self._spoken = transactions, spoken
        self._open = dict(transactions())
        self._waiting: dict[int, KeptStay] = {}
        self._latched, self._kept_s = b"", -math.inf

    def restore(self) -> str:
        """Take what was stored before the restart; of bays that are no more, nothing. What cannot be read is told in a sentence."""
        rows, told = {bay: row for row, bay in enumerate(self._ids)}, ""
        for first in range(0, len(self._ids), BLOCK):
            data = self._store.get_state(f"{STATE}{first}")
            if not data:
                continue
            try:
                stays = msgspec.json.decode(data, type=tuple[KeptStay, ...])
            except (msgspec.DecodeError, ValueError) as error:
                told = f"What was stored of vehicles' charges cannot be read ({error}): their counts begin afresh."
                continue
            self._waiting |= {rows[stay.bay]: stay for stay in stays if stay.bay in rows}
        return told

    def resume(self, state: TrustState, fleet: FleetSample) -> TrustState:
        """The state from which to believe `fleet`, sampled now: who came in another transaction is somebody else, and counts and
        latches of stays that are seen again go on."""
        transactions, before = self._transactions(), self._open
        if transactions != before:
            self._open, self._kept_s = dict(transactions), -math.inf
            changed = [row for row, name in transactions.items() if before.get(row, name) != name]
            if changed:
                state = structs.replace(state, connected=state.connected & ~_rows(state, changed))
        if not self._waiting:
            return state
        spoken = self._spoken()
        for row, stay in list(self._waiting.items()):
            # Until its station has spoken, what the store holds for open may be an older one.
            if row not in transactions or (row in spoken and transactions[row] != stay.transaction_id):
                del self._waiting[row]
            elif row in spoken and fleet.connected[row]:
                del self._waiting[row]
                departs_s = self._clock.monotonic() + float(fleet.left_s[row])
                away_s = max(self._clock.wall() - stay.seen_at_s, LEAST_AWAY_S)
                state = _resumed(state, row, stay, departs_s, away_s)
        return state

    def keep(self, state: TrustState) -> None:
        """Store what is known of the stays, where that is due."""
        now_s = self._clock.monotonic()
        latched = np.packbits(state.soc.fault | state.energy.fault).tobytes()
        if now_s - self._kept_s < KEEP_S and latched == self._latched:
            return
        if not self._open and self._kept_s > -math.inf:
            return
        self._latched, self._kept_s = latched, now_s
        found = self._found(state)
        for first in range(0, len(self._ids), BLOCK):
            block = [stay for row, stay in found.items() if first <= row < first + BLOCK]
            self._store.put_state(f"{STATE}{first}", msgspec.json.encode(block))

    def _found(self, state: TrustState) -> dict[int, KeptStay]:
        soc, energy, wall_s = state.soc, state.energy, self._clock.wall()
        own, budget = _known(soc.own.clip(0.0, 1.0)), _known(soc.budget.clip(0.0, 1.0))
        told, capacity = _known(soc.told), _known(np.where(soc.capacity_kwh > 0.0, soc.capacity_kwh, np.nan))
        found = dict(self._waiting)
        for row, transaction in self._open.items():
            if row in found:
                continue
            soc_fault, energy_fault = soc.fault.item(row), energy.fault.item(row)
            if own[row] is None and not soc_fault and not energy_fault:
                continue
            found[row] = KeptStay(
                bay=self._ids[row], transaction_id=transaction, seen_at_s=round(wall_s - soc.blind_s.item(row), 1),
                own=own[row], told=told[row], budget=budget[row] or 0.0, capacity_kwh=capacity[row],
                soc_fault=soc_fault, energy_fault=energy_fault,
            )  # fmt: skip
        return found


def _resumed(state: TrustState, row: int, stay: KeptStay, departs_s: float, away_s: float) -> TrustState:
    soc, energy, here = state.soc, state.energy, _rows(state, [row])
    soc = structs.replace(
        soc, own=_with(soc.own, row, stay.own), told=_with(soc.told, row, stay.told),
        budget=_with(soc.budget, row, stay.budget), capacity_kwh=_with(soc.capacity_kwh, row, stay.capacity_kwh),
        departs_s=_with(soc.departs_s, row, departs_s), blind_s=_with(soc.blind_s, row, away_s),
        fault=soc.fault | (here & stay.soc_fault),
    )  # fmt: skip
    energy = structs.replace(energy, fault=energy.fault | (here & stay.energy_fault))
    return structs.replace(state, connected=state.connected | here, soc=soc, energy=energy)


def _with(column: Floats, row: int, value: float | None) -> Floats:
    changed = column.copy()
    changed[row] = math.nan if value is None else value
    return changed


def _rows(state: TrustState, rows: list[int]) -> Bools:
    marked = np.zeros(state.connected.size, dtype=np.bool_)
    marked[rows] = True
    return marked


def _known(column: Floats) -> list[float | None]:
    """JSON has no NaN and no infinity. To the last bit: a capacity that differs is another vehicle's."""
    return [value if math.isfinite(value) else None for value in column.tolist()]
