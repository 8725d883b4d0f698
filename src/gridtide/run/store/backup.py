"""Copies of the store: made while it runs, checked, kept by number, put back.

A copy is one file without companions, mode 0600. Its name tells when it was made (UTC), and the generation of the log at that
moment: as long as the log has not begun anew, copy and log together are the store as it was last (`recovery`).
"""

import os
import re
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from gridtide.run.store import file as store_file
from gridtide.run.store import sql as store_sql
from gridtide.run.store import wal
from gridtide.run.store.rows import StoreError

STAMP: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(r"\.backup-(\d{8}T\d{6}Z)(?:-([0-9a-f]{16}))?$")


class Finding(Struct, frozen=True, kw_only=True):
    """What a look at a store or a copy of it found."""

    path: str
    problem: str | None
    """Why it must not be used, or None."""
    schema: int = 0
    bytes: int = 0
    log_bytes: int = 0
    audit_entries: int = 0
    transactions: int = 0
    transaction_events: int = 0


def examine(path: Path) -> Finding:
    """Check everything that can be checked: pages, indices, audit chain, log. Takes some 10 ms a MB; changes nothing in it."""
    try:
        size = path.stat().st_size
        log = wal.beside(path)
        log_size = log.stat().st_size if log.exists() else 0
        found = Finding(path=str(path), problem=None, bytes=size, log_bytes=log_size)
        if size < store_file.SMALLEST_BYTES:
            return _with(found, f"has only {size} bytes")
        if wal.look(path).state == "broken":
            return _with(found, "its log (-wal) is damaged: committed rows in it cannot be read")
        with closing(store_file.connect_to_read(path)) as connection:
            return _examined(connection, found)
    except (sqlite3.Error, UnicodeDecodeError, OSError, StoreError) as error:
        return Finding(path=str(path), problem=str(error))


def _with(found: Finding, problem: str) -> Finding:
    return Finding(path=found.path, problem=problem, bytes=found.bytes, log_bytes=found.log_bytes)


def _examined(connection: sqlite3.Connection, found: Finding) -> Finding:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if "schema_version" not in tables:
        return _with(found, "not a gridtide store")
    schema = store_file.schema_version(connection)
    if not 1 <= schema <= len(store_file.MIGRATIONS):
        return _with(found, f"has schema {schema}, this gridtide knows 1 to {len(store_file.MIGRATIONS)}")
    verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        return _with(found, str(verdict))
    audit = store_sql.verify_audit(connection)
    counts = [
        int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - constant names
        for table in ("transaction_heads", "transactions")
    ]
    return Finding(
        path=found.path, bytes=found.bytes, log_bytes=found.log_bytes, schema=schema, audit_entries=audit.entries,
        transactions=counts[0], transaction_events=counts[1],
        problem=None if audit.intact else f"the audit chain breaks at entry {audit.first_bad_id}",
    )  # fmt: skip


def copy(source: Path, target: Path) -> None:
    """A consistent copy of the store at `source`, which may be in use, as a single file at `target`; it replaces what lies there
    only when it is whole and on disk. Raises OSError and sqlite3.Error."""
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with closing(store_file.connect(str(source))) as reading, closing(sqlite3.connect(part)) as writing:
            # All pages in one step: a log is written meanwhile, and the copy is of one instant.
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode = DELETE")
        os.fsync(descriptor)
        part.replace(target)
        sync_folder(target.parent)
    finally:
        os.close(descriptor)
        for left in (part, wal.beside(part), part.with_name(f"{part.name}-journal")):
            left.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Names in `folder` are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def back_up(store: Path, folder: Path, now_s: float, keep: int) -> Path:
    """One more copy of `store` in `folder`, dated by `now_s` (UTC epoch seconds); of the sound ones the newest `keep` stay.

    Raises StoreError when it cannot be made or is not sound; older copies stay then.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = datetime.fromtimestamp(now_s, UTC).strftime(STAMP)
    begun = wal.salts(store)
    target = folder / f"{store.name}.backup-{stamp}"
    try:
        copy(store, target)
        with closing(store_file.connect(str(target))) as connection:
            verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            target.unlink()
            raise StoreError(f"the copy {target.name} is not sound: {verdict}")
        if begun and wal.salts(store) == begun:
            target = target.rename(f"{target}-{begun}")
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"no backup of {store.name}: {error}") from error
    for old in backups(store, folder)[max(keep, 1) :]:
        old.unlink(missing_ok=True)
    return target


def backups(store: Path, folder: Path) -> list[Path]:
    """Automatic copies of `store` in `folder`, newest first."""
    found = [one for one in folder.glob(f"{store.name}.backup-*") if _NAME.search(one.name)]
    return sorted(found, key=lambda one: one.name, reverse=True)


def made_at(backup: Path) -> str:
    """When an automatic copy was made, in words."""
    named = _NAME.search(backup.name)
    made = datetime.strptime(named[1], STAMP).replace(tzinfo=UTC) if named else None
    return f"{made:%Y-%m-%d %H:%M:%S} UTC" if made else "an unknown time"


def generation(backup: Path) -> str:
    """Salts of the log when an automatic copy was made; empty where none is known."""
    named = _NAME.search(backup.name)
    return named[2] or "" if named else ""


def restore(store: Path, source: Path, now_s: float, actor: str) -> Path | None:
    """Put the copy `source` in the place of `store`; where the present file went, which is moved aside, not deleted.

    No site may run on it: hold `file.held_by_site`. Raises ValueError for a copy that is not sound.
    """
    found = examine(source)
    if found.problem is not None:
        raise ValueError(f"{source} cannot be restored: {found.problem}; the present store is as it was")
    fresh = store.with_name(f"{store.name}.restoring")
    try:
        copy(source, fresh)
        moved = store_file.move_aside(store, now_s, "replaced") if store.exists() else None
        fresh.replace(store)
        sync_folder(store.parent)
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
    connection, _ = store_file.open_file(store, now_s)
    with closing(connection):
        detail = msgspec.json.encode({"file": source.name, "replaced": moved.name if moved else ""}).decode()
        connection.execute("BEGIN IMMEDIATE")
        store_sql.append_audit(connection, now_s, actor, "store.restore", detail)
        connection.execute("COMMIT")
    return moved
