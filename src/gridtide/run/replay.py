"""Stored cycles decided again by the code at hand: do they come to the same setpoints, and why was each one given?"""

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import Struct, structs

from gridtide.control import site as control
from gridtide.control import words
from gridtide.control.site import Settings, State
from gridtide.model.decision import Decision, Reason, Snapshot
from gridtide.run.decision_codec import (
    Block,
    Cycle,
    DecisionLogError,
    MadeBy,
    decode_block,
    exact,
    made_here,
    settings_sha256,
)
from gridtide.run.store.decisions import BlockRow

Step = Callable[[State, Snapshot, Settings], tuple[State, Decision]]
Clock = Callable[[float], str]


class Blocks(Protocol):
    """Where blocks are read: a store, or a file of one."""

    def decision_blocks(self, start_s: float, end_s: float) -> tuple[BlockRow, ...]:
        """Blocks that touch [start_s, end_s), in the order they were made."""

    def decision_block(self, block_id: int) -> bytes | None:
        """The bytes of one block."""


class Replayed(Struct, frozen=True, eq=False, kw_only=True):
    """One cycle, as stored and decided again."""

    block_id: int
    index: int
    """Of the cycle in its block."""
    cycle: Cycle
    settings: Settings
    after: State
    decision: Decision

    @property
    def id(self) -> str:
        """`block:index`, by which everything that went into the cycle is found."""
        return f"{self.block_id}:{self.index}"


class Change(Struct, frozen=True, kw_only=True):
    """One setpoint that became another: why, and from which inputs."""

    at_s: float
    cycle: str
    evse: str
    old_kw: float
    new_kw: float
    reason: str
    words: str
    inputs: tuple[str, ...]
    """Ids of the inputs: meter sample, the station's last message, settings."""


class Difference(Struct, frozen=True, kw_only=True):
    """The first cycle that came out otherwise."""

    at_s: float
    cycle: str
    evse: str
    """Empty where setpoints and reasons agree but events or the site's state do not."""
    stored_kw: float
    replayed_kw: float
    stored_reason: str
    replayed_reason: str
    stored_events: tuple[str, ...]
    replayed_events: tuple[str, ...]
    inputs: dict[str, float | str | bool | None]


class Report(Struct, frozen=True, kw_only=True):
    """What a replay found."""

    from_s: float
    to_s: float
    blocks: int
    cycles: int
    equal: int
    first_difference: Difference | None
    restarts: int
    """Blocks that begin anew: the program was started."""
    missing_blocks: int
    """Between blocks of one run: lost, or deleted."""
    broken_checkpoints: int
    """Blocks that begin with another state than the replay of the one before ended with."""
    other_code: tuple[MadeBy, ...]
    """Programs other than this one that made some of the blocks."""
    settings_sha256: tuple[str, ...]
    """Of all settings in force, in their order."""

    @property
    def same(self) -> bool:
        """Whether everything came out as stored."""
        return self.equal == self.cycles and not self.broken_checkpoints


class _Tally:
    """Counts while the blocks go by."""

    def __init__(self) -> None:
        self.blocks = self.cycles = self.equal = self.restarts = self.missing = self.broken = 0
        self.first: Difference | None = None
        self.others: dict[MadeBy, None] = {}
        self.settings: dict[str, None] = {}
        self._last: tuple[Block, State] | None = None

    def begin(self, block: Block, replaced: bool) -> None:
        """What a block's beginning tells: restart, gap, checkpoint."""
        self.blocks += 1
        if block.made_by != made_here():
            self.others[block.made_by] = None
        if self._last is None:
            return
        before, state = self._last
        if block.run != before.run:
            self.restarts += 1
        elif block.number != before.number + 1:
            self.missing += max(block.number - before.number - 1, 0)
        elif block.continues and not replaced and exact(state) != exact(block.state):
            self.broken += 1

    def end(self, block: Block, state: State) -> None:
        """The state in which the replay left the block."""
        self._last = (block, state)

    def add(self, item: Replayed) -> None:
        """One cycle of the period."""
        self.cycles += 1
        if differs(item):
            self.first = self.first or difference(item)
        else:
            self.equal += 1


def replay(
    store: Blocks,
    from_s: float,
    to_s: float,
    *,
    step: Step = control.step,
    settings: Callable[[Settings], Settings] | None = None,
) -> Report:
    """Decide every stored cycle in [from_s, to_s) again and compare; `settings` puts others in place of the stored ones.

    Raises DecisionLogError for a block that cannot be read.
    """
    tally = _Tally()
    for row in store.decision_blocks(from_s, to_s):
        block = read_block(store, row)
        tally.begin(block, settings is not None)
        state, digest = block.state, ""
        for item in decide_again(block, row.id, step, settings):
            state = item.after
            if item.index == 0 or item.cycle.settings:
                digest = settings_sha256(item.settings)
            if from_s <= item.cycle.snapshot.now_s < to_s:
                tally.settings[digest] = None
                tally.add(item)
        tally.end(block, state)
    return Report(
        from_s=from_s, to_s=to_s, blocks=tally.blocks, cycles=tally.cycles, equal=tally.equal,
        first_difference=tally.first, restarts=tally.restarts, missing_blocks=tally.missing,
        broken_checkpoints=tally.broken, other_code=tuple(tally.others), settings_sha256=tuple(tally.settings),
    )  # fmt: skip


def read_block(store: Blocks, row: BlockRow) -> Block:
    """One block, its bytes compared with their digest."""
    data = store.decision_block(row.id)
    if data is None:
        raise DecisionLogError(f"block {row.id} was deleted meanwhile")
    if hashlib.sha256(data).hexdigest() != row.sha256:
        raise DecisionLogError(f"block {row.id} is not what was stored: `gridtide audit verify` tells more")
    try:
        return decode_block(data)
    except DecisionLogError as error:
        raise DecisionLogError(f"block {row.id}: {error}") from error


def decide_again(
    block: Block,
    block_id: int,
    step: Step = control.step,
    replace: Callable[[Settings], Settings] | None = None,
) -> Iterator[Replayed]:
    """Every cycle of a block, from the state and the settings it begins with. Raises DecisionLogError where `replace` gives
    settings for another number of EVSEs."""
    state, stored = block.state, block.settings
    settings = _replaced(stored, replace)
    for index, cycle in enumerate(block.cycles):
        if cycle.settings:
            stored = structs.replace(stored, **cycle.settings)
            settings = _replaced(stored, replace)
        state = structs.replace(state, **cycle.before) if cycle.before else state
        state, decision = step(state, cycle.snapshot, settings)
        yield Replayed(block_id=block_id, index=index, cycle=cycle, settings=settings, after=state, decision=decision)


def _replaced(stored: Settings, replace: Callable[[Settings], Settings] | None) -> Settings:
    if replace is None:
        return stored
    other = replace(stored)
    if other.table.ids != stored.table.ids:
        raise DecisionLogError("the site file has other EVSEs than the stored cycles: they cannot be compared")
    return other


def differs(item: Replayed) -> bool:
    """Whether a single bit of setpoints or reasons, the state or an event came out otherwise."""
    stored, found = item.cycle, item.decision
    return (
        stored.setpoint_kw.tobytes() != found.setpoint_kw.tobytes()
        or stored.reason.tobytes() != found.reason.tobytes()
        or (stored.state, stored.events) != (found.state, found.events)
    )


def difference(item: Replayed) -> Difference:
    """What is different, at the first row that is."""
    stored, found, ids = item.cycle, item.decision, item.settings.table.ids
    row = next(
        (
            k for k in range(len(ids))
            if stored.setpoint_kw[k].tobytes() != found.setpoint_kw[k].tobytes() or stored.reason[k] != found.reason[k]
        ), None,
    )  # fmt: skip
    at = row if row is not None else 0
    return Difference(
        at_s=stored.snapshot.now_s, cycle=item.id, evse="" if row is None else ids[row],
        stored_kw=float(stored.setpoint_kw[at]), replayed_kw=float(found.setpoint_kw[at]),
        stored_reason=reason_name(int(stored.reason[at])), replayed_reason=reason_name(int(found.reason[at])),
        stored_events=stored.events, replayed_events=found.events, inputs=inputs(stored.snapshot, row),
    )  # fmt: skip


def reason_name(number: int) -> str:
    """`CHARGING`; a number that this program does not know is given as it is."""
    try:
        return Reason(number).name
    except ValueError:
        return str(number)


def inputs(snapshot: Snapshot, row: int | None) -> dict[str, float | str | bool | None]:
    """What a cycle was given, of the site and of one row."""
    meter, fleet = snapshot.meter, snapshot.fleet
    told: dict[str, float | str | bool | None] = {
        "meter_kw": None if meter is None else meter.power_kw,
        "meter": "none" if meter is None else meter.quality.value,
        "estop": snapshot.estop,
        "load_shed_kw": snapshot.load_shed_kw,
    }
    if row is not None:
        for name in fleet.__struct_fields__:
            value = getattr(fleet, name)[row].item()
            told[name] = value if isinstance(value, bool) or math.isfinite(value) else str(value)
    return told


def input_ids(snapshot: Snapshot, row: int, settings_digest: str) -> tuple[str, ...]:
    """Which meter sample, which message of the station and which settings: instants are monotonic seconds of the run."""
    meter = "none" if snapshot.meter is None else repr(snapshot.meter.at_s)
    heard = snapshot.mono_s - float(snapshot.fleet.age_s[row])
    return f"meter@{meter}", f"station@{heard!r}", f"settings:{settings_digest[:12]}"


def changes(store: Blocks, from_s: float, to_s: float, clock: Clock) -> Iterator[Change]:
    """Every setpoint in [from_s, to_s) that became another, with its reason in words and the ids of its inputs."""
    last: tuple[str, Cycle] | None = None
    for row in store.decision_blocks(from_s, to_s):
        block = read_block(store, row)
        digest = ""
        for item in decide_again(block, row.id):
            if item.index == 0 or item.cycle.settings:
                digest = settings_sha256(item.settings)
            before = last[1] if last is not None and last[0] == block.run else None
            last = (block.run, item.cycle)
            if before is not None and from_s <= item.cycle.snapshot.now_s < to_s:
                yield from _changed(item, before, digest, clock)


def _changed(item: Replayed, before: Cycle, digest: str, clock: Clock) -> Iterator[Change]:
    cycle = item.cycle
    for k in (cycle.setpoint_kw != before.setpoint_kw).nonzero()[0].tolist():
        said = words.explain(k, cycle.snapshot, as_stored(item), item.after, item.settings, clock)
        yield Change(
            at_s=cycle.snapshot.now_s, cycle=item.id, evse=item.settings.table.ids[k],
            old_kw=float(before.setpoint_kw[k]), new_kw=float(cycle.setpoint_kw[k]),
            reason=reason_name(int(cycle.reason[k])), words=said.reason, inputs=input_ids(cycle.snapshot, k, digest),
        )  # fmt: skip


def as_stored(item: Replayed) -> Decision:
    """The decision as it was then: setpoints and reasons are the stored ones."""
    return structs.replace(item.decision, setpoint_kw=item.cycle.setpoint_kw, reason=item.cycle.reason)


def moment(store: Blocks, at_s: float, within_s: float = 60.0) -> Replayed | None:
    """The latest cycle at or before `at_s`, at most `within_s` earlier; None when none was stored."""
    found = None
    for row in store.decision_blocks(at_s - within_s, at_s + 1e-6):
        for item in decide_again(read_block(store, row), row.id):
            now_s = item.cycle.snapshot.now_s
            if at_s - within_s <= now_s <= at_s and (found is None or now_s >= found.cycle.snapshot.now_s):
                found = item
    return found


class Past(Struct, frozen=True, kw_only=True):
    """The decision for one EVSE at a past moment, in words and numbers."""

    at_s: float
    cycle: str
    evse: str
    state: str
    reason: str
    words: str
    setpoint_kw: float
    wish_kw: float | None
    """What was wished before the guard."""
    power_kw: float | None
    soc: float | None
    site_kw: float | None
    building_kw: float | None
    limit_kw: float
    inputs: tuple[str, ...]


def past(store: Blocks, evse: str, at_s: float, clock: Clock) -> Past | None:
    """Why `evse` had its setpoint at `at_s` (UTC epoch s); None when no cycle of that moment is stored, KeyError for an
    EVSE that was not there."""
    item = moment(store, at_s)
    if item is None:
        return None
    if evse not in item.settings.table.ids:
        raise KeyError(evse)
    row, snapshot = item.settings.table.ids.index(evse), item.cycle.snapshot
    decision = as_stored(item)
    said = words.explain(row, snapshot, decision, item.after, item.settings, clock)
    meter_kw = None if snapshot.meter is None else snapshot.meter.power_kw
    return Past(
        at_s=snapshot.now_s, cycle=item.id, evse=evse, state=said.state, reason=reason_name(int(decision.reason[row])),
        words=said.detail, setpoint_kw=float(decision.setpoint_kw[row]), wish_kw=_finite(float(decision.wish_kw[row])),
        power_kw=_finite(float(snapshot.fleet.power_kw[row])), soc=_finite(float(snapshot.fleet.soc[row])),
        site_kw=_finite(meter_kw), building_kw=_finite(decision.uncontrolled_kw), limit_kw=item.settings.peak.limit_kw,
        inputs=input_ids(snapshot, row, settings_sha256(item.settings)),
    )  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
