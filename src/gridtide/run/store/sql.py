"""The store's statements: plain functions on a connection, the same for the threaded and the in-memory store.

Writers run inside a transaction of the caller's; every value is a bound parameter and was checked before.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from gridtide.run.store.rows import (
    FIRST_HASH,
    AuditCheck,
    AuditEntry,
    StoredEvent,
    audit_hash,
)

TelemetryRow = tuple[float, str, float]
"""(t_s, series, value)"""

_UPSERT_EVENT: Final = """
INSERT INTO events (at_s, code, title, text, severity, source, count, seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (code, source) WHERE seen = 0 DO UPDATE SET at_s = max(at_s, excluded.at_s), title = excluded.title,
  text = excluded.text, severity = excluded.severity, count = count + excluded.count
RETURNING id"""
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
