"""Statements about transaction events. A message costs little here because nothing has to be found or kept in order by it.

Events lie one after another as they came; each names the one before it of the same transaction (`prev_id`), and the head the newest
(`last_id`), so a transaction is read backwards from there. Which sequence numbers are there needs no index either: all up to the
head's newest but for those in `transaction_gaps`. An index over station, transaction and number cost three times as much as the
events themselves, for each event fell into another of its pages.
"""

import math
import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Final

import msgspec
from msgspec import Struct

from gridtide.run.store.rows import OpenTransaction, TransactionEvent

KNOWN_HEADS: Final = 20_000
"""Transactions that a writer knows without looking, at most."""
_READ: Final = """
WITH RECURSIVE chain (id) AS (
  SELECT last_id FROM transaction_heads WHERE station_id = ? AND transaction_id = ?
  UNION ALL SELECT prev_id FROM chain JOIN transactions USING (id) WHERE prev_id IS NOT NULL)
SELECT seq_no, event_type, at_s, evse_id, payload_json FROM chain JOIN transactions USING (id)
WHERE seq_no >= ? ORDER BY seq_no LIMIT ?"""
_FORGET: Final = (
    """
WITH RECURSIVE chain (id) AS (
  SELECT last_id FROM transaction_heads WHERE ended = 1 AND last_s < ?
  UNION ALL SELECT prev_id FROM chain JOIN transactions USING (id) WHERE prev_id IS NOT NULL)
DELETE FROM transactions WHERE id IN (SELECT id FROM chain)""",
    """
DELETE FROM transaction_gaps WHERE (station_id, transaction_id) IN
  (SELECT station_id, transaction_id FROM transaction_heads WHERE ended = 1 AND last_s < ?)""",
    "DELETE FROM transaction_heads WHERE ended = 1 AND last_s < ?",
)
_HEADS: Final = """
SELECT coalesce((SELECT max(id) FROM transactions), 0), json_group_array(json_array(v.column1, last_seq_no, last_id, started_s))
FROM (VALUES {rows}) AS v JOIN transaction_heads ON station_id = v.column2 AND transaction_id = v.column3"""
_INSERT_EVENTS: Final = """
INSERT INTO transactions (id, station_id, transaction_id, seq_no, event_type, at_s, evse_id, payload_json, prev_id) VALUES {rows}"""
_UPSERT_HEADS: Final = """
INSERT INTO transaction_heads
  (station_id, transaction_id, evse_id, started_s, last_s, last_seq_no, events, last_id, ended) VALUES {rows}
ON CONFLICT (station_id, transaction_id) DO UPDATE SET evse_id = coalesce(excluded.evse_id, evse_id),
  started_s = min(started_s, excluded.started_s), last_s = max(last_s, excluded.last_s), last_seq_no = excluded.last_seq_no,
  events = events + excluded.events, last_id = excluded.last_id, ended = max(ended, excluded.ended)"""
# The same for heads that are there and whose indexed columns stay as they are.
_UPDATE_HEADS: Final = """
UPDATE transaction_heads SET evse_id = coalesce(v.column3, evse_id), last_s = max(last_s, v.column5), last_seq_no = v.column6,
  events = events + v.column7, last_id = v.column8
FROM (VALUES {rows}) AS v WHERE station_id = v.column1 AND transaction_id = v.column2"""


class AddTransactionEvent:
    """The write of one transaction event, which the writer may join with its neighbours'."""

    __slots__ = ("event",)

    def __init__(self, event: TransactionEvent) -> None:
        self.event = event

    def __call__(self, connection: sqlite3.Connection) -> bool:
        return add_transaction_event(connection, self.event)


class UnfitEventError(Exception):
    """One of several events cannot be stored: the caller must undo all of them."""


class _Head(Struct):
    """A transaction as these events leave it."""

    evse_id: int | None
    started_s: float
    last_s: float
    last_seq_no: int
    events: int
    last_id: int | None
    ended: bool
    is_lean: bool
    """It is there, and neither its start nor its end changes."""


class KnownHeads:
    """What a connection that alone writes knows of the newest transactions, so that it need not look. Whoever undoes a write, or
    writes to transactions by another way, says `forget`."""

    __slots__ = ("last_id", "of")

    def __init__(self) -> None:
        self.last_id: int | None = None
        """Of the newest event in the file."""
        self.of: dict[tuple[str, str], tuple[int, int | None, float]] = {}
        """Newest sequence number, newest event, start (UTC epoch s)."""

    def forget(self) -> None:
        """Look anew."""
        self.last_id = None
        self.of.clear()

    def look(self, connection: sqlite3.Connection, events: Sequence[TransactionEvent]) -> int:
        """Know the transactions of these events; the newest event's id."""
        keys = {(event.station_id, event.transaction_id) for event in events}
        keys.difference_update(self.of)
        if not keys and self.last_id is not None:
            return self.last_id
        if len(self.of) > KNOWN_HEADS:
            self.of.clear()
            keys = {(event.station_id, event.transaction_id) for event in events}
        wanted = list(keys) or [("", "")]
        values = [value for place, key in enumerate(wanted) for value in (place, *key)]
        last_id, told = connection.execute(_spelt(_HEADS, 3, len(wanted)), values).fetchone()
        self.of.update(dict.fromkeys(keys, (-1, None, math.inf)))
        for place, seq_no, newest_id, started_s in msgspec.json.decode(told):
            self.of[wanted[place]] = (seq_no, newest_id, started_s)
        self.last_id = int(last_id)
        return self.last_id


def add_transaction_event(connection: sqlite3.Connection, event: TransactionEvent) -> bool:
    """Add one event; False if station, transaction and sequence number are there already."""
    return _add(connection, (event,), KnownHeads())[0]


def add_transaction_events(
    connection: sqlite3.Connection, events: Sequence[TransactionEvent], known: KnownHeads | None = None
) -> list[bool]:
    """Add events with a few statements; for each whether it is new. Raises UnfitEventError if one cannot be stored: then, and if
    the transaction is rolled back for another reason, `known` must forget."""
    try:
        return _add(connection, events, known or KnownHeads())
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, ValueError, OverflowError) as error:
        raise UnfitEventError from error


def _add(connection: sqlite3.Connection, events: Sequence[TransactionEvent], known: KnownHeads) -> list[bool]:
    last_id = known.look(connection, events)
    heads: dict[tuple[str, str], _Head] = {}
    rows: list[object] = []
    added = []
    for event in events:
        key = (event.station_id, event.transaction_id)
        head = heads.get(key)
        seq_no, newest_id, started_s = known.of[key]
        if head is None:
            head = _Head(event.evse_id, event.at_s, event.at_s, seq_no, 0, newest_id, False, newest_id is not None)
        is_new = event.seq_no > head.last_seq_no or _fills_gap(connection, event)
        added.append(is_new)
        if not is_new:
            continue
        if event.seq_no > head.last_seq_no + 1:
            _add_gap(connection, event, head.last_seq_no + 1, event.seq_no - 1)
        last_id += 1
        rows += (
            last_id, *key, event.seq_no, event.event_type, event.at_s, event.evse_id, event.payload_json.decode(), head.last_id
        )  # fmt: skip
        _extend(head, event, last_id, is_lean=event.at_s >= started_s and event.event_type != "Ended")
        heads[key] = head
    if rows:
        connection.execute(_spelt(_INSERT_EVENTS, 9, len(rows) // 9), rows)
        _put_heads(connection, heads)
        known.last_id = last_id
        for key, head in heads.items():
            known.of[key] = (head.last_seq_no, head.last_id, min(known.of[key][2], head.started_s))
    return added


def _extend(head: _Head, event: TransactionEvent, new_id: int, *, is_lean: bool) -> None:
    head.evse_id = event.evse_id if event.evse_id is not None else head.evse_id
    head.started_s, head.last_s = min(head.started_s, event.at_s), max(head.last_s, event.at_s)
    head.last_seq_no, head.last_id = max(head.last_seq_no, event.seq_no), new_id
    head.events += 1
    head.ended |= event.event_type == "Ended"
    head.is_lean &= is_lean


def _put_heads(connection: sqlite3.Connection, heads: dict[tuple[str, str], _Head]) -> None:
    for statement, is_lean in ((_UPSERT_HEADS, False), (_UPDATE_HEADS, True)):
        values: list[object] = []
        for key, head in heads.items():
            if head.is_lean is is_lean:
                values += (
                    *key, head.evse_id, head.started_s, head.last_s, head.last_seq_no, head.events, head.last_id, int(head.ended)
                )  # fmt: skip
        if values:
            connection.execute(_spelt(statement, 9, len(values) // 9), values)


def _add_gap(connection: sqlite3.Connection, event: TransactionEvent, first: int, last: int) -> None:
    connection.execute(
        "INSERT INTO transaction_gaps (station_id, transaction_id, first_seq_no, last_seq_no) VALUES (?, ?, ?, ?)",
        (event.station_id, event.transaction_id, first, last),
    )


def _fills_gap(connection: sqlite3.Connection, event: TransactionEvent) -> bool:
    """Whether a number below the newest was missing; what of the gap lies on either side stays missing."""
    place = (event.station_id, event.transaction_id)
    gap = connection.execute(
        "SELECT first_seq_no, last_seq_no FROM transaction_gaps WHERE station_id = ? AND transaction_id = ? AND first_seq_no <= ? "
        "ORDER BY first_seq_no DESC LIMIT 1",
        (*place, event.seq_no),
    ).fetchone()
    if gap is None or gap[1] < event.seq_no:
        return False
    first, last = gap
    connection.execute(
        "DELETE FROM transaction_gaps WHERE station_id = ? AND transaction_id = ? AND first_seq_no = ?", (*place, first)
    )
    if first < event.seq_no:
        _add_gap(connection, event, first, event.seq_no - 1)
    if event.seq_no < last:
        _add_gap(connection, event, event.seq_no + 1, last)
    return True


def read_transaction(
    connection: sqlite3.Connection, station_id: str, transaction_id: str, first_seq_no: int = 0, limit: int = -1
) -> list[TransactionEvent]:
    """Events of one transaction by sequence number, from `first_seq_no` on; `limit` below 0: all of them."""
    rows = connection.execute(_READ, (station_id, transaction_id, first_seq_no, limit))
    return [
        TransactionEvent(
            station_id=station_id,
            transaction_id=transaction_id,
            seq_no=seq_no,
            event_type=event_type,
            at_s=at_s,
            evse_id=evse_id,
            payload_json=payload.encode(),
        )
        for seq_no, event_type, at_s, evse_id, payload in rows
    ]


def read_open_transactions(connection: sqlite3.Connection) -> tuple[OpenTransaction, ...]:
    """Every transaction without an `Ended` event, oldest first."""
    names = ("station_id", "transaction_id", "evse_id", "started_s", "last_s", "last_seq_no", "events")
    rows = connection.execute(
        "SELECT station_id, transaction_id, evse_id, started_s, last_s, last_seq_no, events FROM transaction_heads "
        "WHERE ended = 0 ORDER BY started_s, station_id, transaction_id"
    )
    return tuple(OpenTransaction(**dict(zip(names, row, strict=True))) for row in rows)


def forget_transactions(connection: sqlite3.Connection, before_s: float) -> int:
    """Delete ended transactions whose last event is older than `before_s`; how many went."""
    return [connection.execute(statement, (before_s,)).rowcount for statement in _FORGET][-1]


@cache
def _spelt(statement: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return statement.format(rows=", ".join([row] * rows))
