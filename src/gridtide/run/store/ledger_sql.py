"""Statements on what is registered here, what stations reported last, what they reported over time, and past transactions."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from gridtide.run.store.rows import (
    JournalEntry,
    RegistryEntry,
    StationRecord,
    StoreRangeError,
    TransactionHead,
)
from gridtide.run.store.sql import append_audit

JOURNAL_ROWS: Final = 1_000
"""Entries kept of one kind and station; older ones make room."""
RECORD_ROWS: Final = 5_000
"""Records one kind and station may have: what a station can report must not grow without bound."""
ERASED: Final = "erased"
"""Stands where a person's token stood."""
HEAD: Final = ("station_id", "transaction_id", "evse_id", "started_s", "last_s", "last_seq_no", "events", "ended")
_ERASE: Final = tuple(
    f"""
UPDATE {table} SET {column} = json_remove(json_set({column}, '$.idToken.idToken', ?),
  '$.idToken.additionalInfo', '$.idToken.customData')
WHERE lower(json_extract({column}, '$.idToken.idToken')) = lower(?)"""  # noqa: S608 - constant names
    for table, column in (("transactions", "payload_json"), ("journal", "value_json"))
)


def put_entry(connection: sqlite3.Connection, entry: RegistryEntry, audit_json: str) -> None:
    """Register or replace one entry and audit it in the same transaction."""
    connection.execute(
        'INSERT OR REPLACE INTO registry (kind, key, value_json, changed_s, "by") VALUES (?, ?, ?, ?, ?)',
        (entry.kind, entry.key, entry.value_json.decode(), entry.changed_s, entry.by),
    )
    append_audit(connection, entry.changed_s, entry.by, f"{entry.kind}.put", audit_json)


def remove_entry(connection: sqlite3.Connection, kind: str, key: str, actor: str, at_s: float, audit_json: str) -> bool:
    """Remove one entry and audit it; False if there is none."""
    if connection.execute("DELETE FROM registry WHERE kind = ? AND key = ?", (kind, key)).rowcount == 0:
        return False
    append_audit(connection, at_s, actor, f"{kind}.remove", audit_json)
    return True


def read_registry(connection: sqlite3.Connection, kind: str) -> tuple[RegistryEntry, ...]:
    """All entries of a kind by key."""
    rows = connection.execute(
        'SELECT key, value_json, changed_s, "by" FROM registry WHERE kind = ? ORDER BY key', (kind,)
    )
    return tuple(
        RegistryEntry(kind=kind, key=key, value_json=value.encode(), changed_s=changed_s, by=by)
        for key, value, changed_s, by in rows
    )


def put_records(
    connection: sqlite3.Connection, station_id: str, kind: str, rows: Mapping[str, str], at_s: float, is_whole: bool
) -> None:
    """Keep the latest value of each key; `is_whole` forgets the keys not given. StoreRangeError beyond the limit."""
    if is_whole:
        connection.execute("DELETE FROM records WHERE station_id = ? AND kind = ?", (station_id, kind))
    connection.executemany(
        "INSERT OR REPLACE INTO records (station_id, kind, key, at_s, value_json) VALUES (?, ?, ?, ?, ?)",
        [(station_id, kind, key, at_s, value) for key, value in rows.items()],
    )
    (count,) = connection.execute(
        "SELECT count(*) FROM records WHERE station_id = ? AND kind = ?", (station_id, kind)
    ).fetchone()
    if count > RECORD_ROWS:
        raise StoreRangeError(f"{kind} of {station_id} would have {count} rows: give at most {RECORD_ROWS}")


def remove_records(connection: sqlite3.Connection, station_id: str, kind: str, keys: tuple[str, ...] | None) -> int:
    """Forget records of a kind, or those of some keys; how many went."""
    if keys is None:
        return connection.execute("DELETE FROM records WHERE station_id = ? AND kind = ?", (station_id, kind)).rowcount
    return sum(
        connection.execute(
            "DELETE FROM records WHERE station_id = ? AND kind = ? AND key = ?", (station_id, kind, key)
        ).rowcount
        for key in keys
    )


def read_records(connection: sqlite3.Connection, station_id: str, kind: str) -> tuple[StationRecord, ...]:
    """All records of a kind by key."""
    rows = connection.execute(
        "SELECT key, at_s, value_json FROM records WHERE station_id = ? AND kind = ? ORDER BY key", (station_id, kind)
    )
    return tuple(
        StationRecord(station_id=station_id, kind=kind, key=key, at_s=at_s, value_json=value.encode())
        for key, at_s, value in rows
    )


def add_journal(connection: sqlite3.Connection, station_id: str, kind: str, at_s: float, value_json: str) -> int:
    """Add one entry; the oldest of the same kind and station beyond the limit goes. Returns its id."""
    row_id = connection.execute(
        "INSERT INTO journal (station_id, kind, at_s, value_json) VALUES (?, ?, ?, ?)",
        (station_id, kind, at_s, value_json),
    ).lastrowid
    connection.execute(
        "DELETE FROM journal WHERE station_id = ? AND kind = ? AND id <= (SELECT id FROM journal WHERE station_id = ? "
        "AND kind = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (station_id, kind, station_id, kind, JOURNAL_ROWS),
    )
    return int(row_id or 0)


def read_journal(
    connection: sqlite3.Connection, station_id: str | None, kind: str | None, limit: int
) -> tuple[JournalEntry, ...]:
    """The newest entries of a station and kind (None: of all), newest first."""
    rows = connection.execute(
        "SELECT id, station_id, kind, at_s, value_json FROM journal WHERE (?1 IS NULL OR station_id = ?1) "
        "AND (?2 IS NULL OR kind = ?2) ORDER BY id DESC LIMIT ?3",
        (station_id, kind, limit),
    )
    return tuple(
        JournalEntry(id=row_id, station_id=station, kind=of_kind, at_s=at_s, value_json=value.encode())
        for row_id, station, of_kind, at_s, value in rows
    )


def read_transactions(
    connection: sqlite3.Connection, start_s: float, end_s: float, station_id: str | None, limit: int
) -> tuple[TransactionHead, ...]:
    """Transactions that began in [start_s, end_s), newest first."""
    rows = connection.execute(
        f"SELECT {', '.join(HEAD)} FROM transaction_heads WHERE started_s >= ?1 AND started_s < ?2 "  # noqa: S608 - constant names
        "AND (?3 IS NULL OR station_id = ?3) ORDER BY started_s DESC, station_id, transaction_id LIMIT ?4",
        (start_s, end_s, station_id, limit),
    )
    return tuple(TransactionHead(**{**dict(zip(HEAD, row, strict=True)), "ended": bool(row[-1])}) for row in rows)


def read_head(connection: sqlite3.Connection, station_id: str, transaction_id: str) -> TransactionHead | None:
    """One transaction in short, or None."""
    row = connection.execute(
        f"SELECT {', '.join(HEAD)} FROM transaction_heads WHERE station_id = ? AND transaction_id = ?",  # noqa: S608 - constant names
        (station_id, transaction_id),
    ).fetchone()
    return None if row is None else TransactionHead(**{**dict(zip(HEAD, row, strict=True)), "ended": bool(row[-1])})


def owner_of_transaction(connection: sqlite3.Connection, transaction_id: str, asking: str) -> str | None:
    """The station that has a transaction of this id, `asking` itself before any other; or None."""
    row = connection.execute(
        "SELECT station_id FROM transaction_heads WHERE transaction_id = ? ORDER BY station_id = ? DESC, started_s LIMIT 1",
        (transaction_id, asking),
    ).fetchone()
    return None if row is None else str(row[0])


def erase_token(connection: sqlite3.Connection, id_token: str, actor: str, at_s: float) -> int:
    """Make the transactions and the journal entries of a token anonymous; the audit tells that, not of whom. Returns how many
    were changed."""
    changed = sum(connection.execute(statement, (ERASED, id_token)).rowcount for statement in _ERASE)
    append_audit(connection, at_s, actor, "token.erase", f'{{"events":{changed}}}')
    return changed
