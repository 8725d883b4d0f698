"""What must be in the store at the end of a run (I9, I10), and that nobody changed its audit chain (I20)."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from gridtide.run.store import StoreError
from gridtide.run.verify.notes import Event
from gridtide.run.verify.rig import Rig

SHOWN: Final = 3
"""Events that are named."""


def wrong(rig: Rig) -> Iterator[tuple[str, str]]:
    """Invariant and words for everything in the books of a run that is not as it must be."""
    try:
        kept = _kept(rig)
        told = {event for outbox in rig.outboxes.values() for event in outbox.queued}
        acknowledged = {event for outbox in rig.outboxes.values() for _, event in outbox.acknowledged}
        yield from _once(rig, kept, told)
        if lost := acknowledged - set(kept):
            yield "I10", f"the station was told it is kept, and it is not: {_named(lost)}"
        yield from _chain(rig)
    except StoreError as error:
        yield "I10", f"the store cannot be read: {error}"


def _kept(rig: Rig) -> list[Event]:
    rows = _rows(rig, "SELECT station_id, transaction_id, seq_no, event_type FROM transactions")
    return [Event(str(a), str(b), int(c), str(d)) for a, b, c, d in rows]


def _rows(rig: Rig, query: str) -> list[tuple[Any, ...]]:
    return rig.store._read(lambda connection: connection.execute(query).fetchall())


def _once(rig: Rig, kept: list[Event], told: set[Event]) -> Iterator[tuple[str, str]]:
    """I9: nothing is kept that no station told, nothing twice, and each transaction's sums count every event once."""
    if twice := {event for event, times in Counter(kept).items() if times > 1}:
        yield "I9", f"kept more than once: {_named(twice)}"
    if made_up := set(kept) - told:
        yield "I9", f"kept although no station told it: {_named(made_up)}"
    heads = _rows(rig, "SELECT station_id, transaction_id, events, last_seq_no, ended FROM transaction_heads")
    mine: dict[tuple[str, str], list[Event]] = {}
    for event in kept:
        mine.setdefault((event.station, event.transaction), []).append(event)
    seen = set()
    for station, transaction, events, last, ended in heads:
        own = mine.get((str(station), str(transaction)), [])
        seen.add((station, transaction))
        is_right = events == len(own) and last == max((event.number for event in own), default=-1)
        if not is_right or bool(ended) != any(event.kind == "Ended" for event in own):
            yield "I9", f"{transaction} of {station} counts {events} events to number {last}, {len(own)} are kept"
    if headless := set(mine) - seen:
        yield "I9", f"events of transactions that the store does not count: {sorted(headless)[:SHOWN]}"


def _chain(rig: Rig) -> Iterator[tuple[str, str]]:
    chain, blocks = rig.store.verify_audit(), rig.store.verify_decisions()
    if not chain.intact:
        yield "I20", f"the audit chain breaks at entry {chain.first_bad_id}"
    if not blocks.intact:
        yield "I20", f"block {blocks.first_bad_block} of the decision log: {blocks.why}"


def _named(events: set[Event]) -> str:
    some = ", ".join(f"{e.kind} {e.number} of {e.transaction} at {e.station}" for e in sorted(events)[:SHOWN])
    return some + (f" and {len(events) - SHOWN} more" if len(events) > SHOWN else "")
