"""The store's statements: plain functions on a connection, the same for the threaded and the in-memory store.

Writers run inside a transaction of the caller's; every value is a bound parameter and was checked before.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final

import msgspec

from gridtide.run.store.rows import (
    FIRST_HASH,
    AuditCheck,
    AuditEntry,
    OpenTransaction,
    StoredEvent,
    TransactionEvent,
    audit_hash,
)

TelemetryRow = tuple[float, str, float]
"""(t_s, series, value)"""

_UPSERT_EVENT: Final = """
INSERT INTO events (at_s, code, title, text, severity, source, count, seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (code, source) WHERE seen = 0 DO UPDATE SET at_s = max(at_s, excluded.at_s), title = excluded.title,
  text = excluded.text, severity = excluded.severity, count = count + excluded.count
RETURNING id"""
_INSERT_TRANSACTION: Final = """
INSERT INTO transactions (station_id, transaction_id, seq_no, event_type, at_s, evse_id, payload_json)
VALUES {rows} ON CONFLICT (station_id, transaction_id, seq_no) DO NOTHING"""
_EVENT_ROW: Final = "(?, ?, ?, ?, ?, ?, ?)"
_UPSERT_HEAD: Final = """
INSERT INTO transaction_heads
  (station_id, transaction_id, evse_id, started_s, last_s, last_seq_no, events, ended) VALUES {rows}
ON CONFLICT (station_id, transaction_id) DO UPDATE SET evse_id = coalesce(excluded.evse_id, evse_id),
  started_s = min(started_s, excluded.started_s), last_s = max(last_s, excluded.last_s),
  last_seq_no = max(last_seq_no, excluded.last_seq_no), events = events + 1, ended = max(ended, excluded.ended)"""
_HEAD_ROW: Final = "(?, ?, ?, ?, ?, ?, 1, ?)"
_PUT_TELEMETRY: Final = """
INSERT OR REPLACE INTO telemetry (series, t_s, value) SELECT id, ?, ? FROM series WHERE name = ?"""
_AUDIT_COLUMNS: Final = "id, at_s, actor, action, detail_json, prev_hash, hash"


def add_event(connection: sqlite3.Connection, event: StoredEvent) -> int:
    """Add an event, or count it onto the unseen one of the same code and source; returns the row's id."""
    values = (
        *(event.at_s, event.code, event.title, event.text, event.severity, event.source),
        *(event.count, int(event.seen)),
    )
    (row_id,) = connection.execute(_UPSERT_EVENT, values).fetchone()
    return int(row_id)


def mark_event_seen(connection: sqlite3.Connection, event_id: int, actor: str, at_s: float) -> bool:
    """Mark one event seen and audit it; False if there is no such event or it was seen before."""
    cursor = connection.execute("UPDATE events SET seen = 1 WHERE id = ? AND seen = 0", (event_id,))
    if cursor.rowcount == 0:
        return False
    append_audit(connection, at_s, actor, "event.seen", msgspec.json.encode({"id": event_id}).decode())
    return True


def read_events(connection: sqlite3.Connection, limit: int) -> tuple[StoredEvent, ...]:
    """The newest `limit` events, newest first."""
    rows = connection.execute(
        "SELECT at_s, code, title, text, severity, source, count, seen, id FROM events ORDER BY at_s DESC, id DESC "
        "LIMIT ?",
        (limit,),
    )
    names = ("at_s", "code", "title", "text", "severity", "source", "count", "seen", "id")
    # SQLite has no truth values: 0 and 1 become False and True here.
    return tuple(msgspec.convert(dict(zip(names, row, strict=True)), StoredEvent, strict=False) for row in rows)


class AddTransactionEvent:
    """The write of one transaction event, which the writer may join with its neighbours'."""

    __slots__ = ("event",)

    def __init__(self, event: TransactionEvent) -> None:
        self.event = event

    def __call__(self, connection: sqlite3.Connection) -> bool:
        return add_transaction_event(connection, self.event)


def add_transaction_event(connection: sqlite3.Connection, event: TransactionEvent) -> bool:
    """Add a transaction event once; False if station, transaction and sequence number are there already."""
    if connection.execute(_insert(1), _event_row(event)).rowcount == 0:
        return False
    connection.execute(_upsert(1), _head_row(event))
    return True


class KnownEventError(Exception):
    """One of several events was there already, or must not be stored."""


def add_new_transaction_events(connection: sqlite3.Connection, events: Sequence[TransactionEvent]) -> None:
    """Add events with two statements; raises KnownEventError if one was there already or fails: the caller must then undo all."""
    try:
        added = connection.execute(_insert(len(events)), [value for event in events for value in _event_row(event)])
        if added.rowcount < len(events):
            raise KnownEventError
        connection.execute(_upsert(len(events)), [value for event in events for value in _head_row(event)])
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, ValueError, OverflowError) as error:
        raise KnownEventError from error


@cache
def _insert(rows: int) -> str:
    return _INSERT_TRANSACTION.format(rows=", ".join([_EVENT_ROW] * rows))


@cache
def _upsert(rows: int) -> str:
    return _UPSERT_HEAD.format(rows=", ".join([_HEAD_ROW] * rows))


def _event_row(event: TransactionEvent) -> tuple[object, ...]:
    return (
        event.station_id, event.transaction_id, event.seq_no, event.event_type, event.at_s, event.evse_id,
        event.payload_json.decode(),
    )  # fmt: skip


def _head_row(event: TransactionEvent) -> tuple[object, ...]:
    return (
        event.station_id, event.transaction_id, event.evse_id, event.at_s, event.at_s, event.seq_no,
        int(event.event_type == "Ended"),
    )  # fmt: skip


def read_transaction(
    connection: sqlite3.Connection, station_id: str, transaction_id: str, first_seq_no: int = 0, limit: int = -1
) -> list[TransactionEvent]:
    """Events of one transaction by sequence number, from `first_seq_no` on; `limit` below 0: all of them."""
    rows = connection.execute(
        "SELECT seq_no, event_type, at_s, evse_id, payload_json FROM transactions "
        "WHERE station_id = ? AND transaction_id = ? AND seq_no >= ? ORDER BY seq_no LIMIT ?",
        (station_id, transaction_id, first_seq_no, limit),
    )
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


def put_setting(connection: sqlite3.Connection, key: str, value_json: str, actor: str, at_s: float) -> None:
    """Set one setting and audit the old and the new value in the same transaction."""
    row = connection.execute("SELECT value_json FROM settings WHERE key = ?", (key,)).fetchone()
    old = msgspec.Raw((row[0] if row else "null").encode())
    detail = msgspec.json.encode({"key": key, "old": old, "new": msgspec.Raw(value_json.encode())})
    connection.execute(
        'INSERT OR REPLACE INTO settings (key, value_json, changed_at, "by") VALUES (?, ?, ?, ?)',
        (key, value_json, at_s, actor),
    )
    append_audit(connection, at_s, actor, "setting.put", detail.decode())


def read_settings(connection: sqlite3.Connection) -> dict[str, bytes]:
    """All settings as JSON by key, keys sorted."""
    rows = connection.execute("SELECT key, value_json FROM settings ORDER BY key")
    return {key: value.encode() for key, value in rows}


def append_audit(connection: sqlite3.Connection, at_s: float, actor: str, action: str, detail_json: str) -> int:
    """Add one entry to the hash chain; returns its id."""
    last = connection.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchone()
    last_id, prev_hash = last or (0, FIRST_HASH)
    entry = AuditEntry(
        id=last_id + 1,
        at_s=at_s,
        actor=actor,
        action=action,
        detail_json=detail_json.encode(),
        prev_hash=prev_hash,
        hash="",
    )
    connection.execute(
        f"INSERT INTO audit ({_AUDIT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant column names
        (entry.id, at_s, actor, action, detail_json, prev_hash, audit_hash(entry)),
    )
    return entry.id


def read_audit(connection: sqlite3.Connection, limit: int) -> tuple[AuditEntry, ...]:
    """The newest `limit` entries, newest first."""
    query = f"SELECT {_AUDIT_COLUMNS} FROM audit ORDER BY id DESC LIMIT ?"  # noqa: S608 - constant column names
    return tuple(_entries(connection.execute(query, (limit,))))


def verify_audit(connection: sqlite3.Connection) -> AuditCheck:
    """Walk the chain from its first entry: no gap in the ids, each hash right, the last id given still there."""
    head, good = FIRST_HASH, 0
    query = f"SELECT {_AUDIT_COLUMNS} FROM audit ORDER BY id"  # noqa: S608 - constant column names
    for entry in _entries(connection.execute(query)):
        if entry.id != good + 1 or entry.prev_hash != head or entry.hash != audit_hash(entry):
            return AuditCheck(intact=False, entries=good, first_bad_id=good + 1, head=head)
        head, good = entry.hash, entry.id
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    if row is not None and row[0] != good:
        return AuditCheck(intact=False, entries=good, first_bad_id=good + 1, head=head)
    return AuditCheck(intact=True, entries=good, first_bad_id=None, head=head)


def put_telemetry(connection: sqlite3.Connection, rows: Iterable[TelemetryRow]) -> None:
    """Store telemetry rows; the later value of the same series and instant wins."""
    rows = list(rows)
    connection.executemany("INSERT OR IGNORE INTO series (name) VALUES (?)", [(name,) for _, name, _ in rows])
    connection.executemany(_PUT_TELEMETRY, [(t_s, value, name) for t_s, name, value in rows])


def read_telemetry(
    connection: sqlite3.Connection, series: str, start_s: float, end_s: float, limit: int
) -> list[tuple[float, float]]:
    """(t_s, value) of one series in [start_s, end_s), ascending; of more than `limit` the newest."""
    rows = connection.execute(
        "SELECT t_s, value FROM telemetry WHERE series = (SELECT id FROM series WHERE name = ?) "
        "AND t_s >= ? AND t_s < ? ORDER BY t_s DESC LIMIT ?",
        (series, start_s, end_s, limit),
    ).fetchall()
    rows.reverse()
    return rows


def forget_telemetry(connection: sqlite3.Connection, before_s: float) -> int:
    """Delete telemetry older than `before_s`; returns how many rows went."""
    return connection.execute("DELETE FROM telemetry WHERE t_s < ?", (before_s,)).rowcount


def put_state(connection: sqlite3.Connection, name: str, data: bytes) -> None:
    """Keep the latest snapshot under `name`."""
    connection.execute("INSERT OR REPLACE INTO states (name, data) VALUES (?, ?)", (name, data))


def read_state(connection: sqlite3.Connection, name: str) -> bytes | None:
    """The latest snapshot under `name`, or None."""
    row = connection.execute("SELECT data FROM states WHERE name = ?", (name,)).fetchone()
    return None if row is None else bytes(row[0])


def _entries(rows: Iterable[tuple[int, float, str, str, str, str, str]]) -> Iterator[AuditEntry]:
    for row_id, at_s, actor, action, detail, prev_hash, own_hash in rows:
        yield AuditEntry(
            id=row_id,
            at_s=at_s,
            actor=actor,
            action=action,
            detail_json=detail.encode(),
            prev_hash=prev_hash,
            hash=own_hash,
        )
