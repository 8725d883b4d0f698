"""What is done about a damaged store: the best of what is left takes its place, and people are told what that is.

The damaged file has been moved aside before and is only read. In this order: the newest copy together with the log, where the log
still belongs to it (nothing is lost); the file itself with the sound part of a damaged log; the newest sound copy, and what
can still be read of later transactions; nothing at all, which is told too.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gridtide.model.view import Severity
from gridtide.run.store import backup, transactions_sql, wal
from gridtide.run.store import file as store_file
from gridtide.run.store.rows import TEXT_LIMIT, StoredEvent, StoreRangeError, TransactionEvent, check_transaction_event

MODE_OFFSET, LOG_MODE = 18, b"\x02\x02"
"""Bytes of a database's header that say that it has a write-ahead log."""
_COLUMNS: Final = "rowid, station_id, transaction_id, seq_no, event_type, at_s, evse_id, payload_json"


class Recovery:
    """Fills the place of one damaged store; afterwards `text` says with what."""

    def __init__(self, folder: Path | None) -> None:
        """`folder`: where automatic copies lie; None: beside the store."""
        self._folder = folder
        self.text = ""
        self.title = "The store was damaged and starts empty"

    def __call__(self, path: Path, moved: Path) -> None:
        """Put something at `path` in the place of the file that went to `moved`, or leave the place empty."""
        copies = backup.backups(path, self._folder or path.parent)
        found = _best(path, moved, copies)
        if found is None:
            self.text = (
                f"No sound backup was found beside it ({len(copies)} looked at): settings, open transactions and history start "
                "empty. Restore a backup, or keep the file and check settings and running transactions."
            )
            return
        self.title = "The store was damaged; a copy took its place"
        self.text = found


def _best(path: Path, moved: Path, copies: list[Path]) -> str | None:
    log = wal.look(moved)
    for one in copies[:1]:
        if log.state == "sound" and log.salts and backup.generation(one) == log.salts and _place(path, one, moved):
            return (
                f"The backup {one.name} and the log of that time took its place: nothing that was committed is missing."
            )
    if log.state == "broken" and log.frames and _place(path, moved, moved):
        return (
            "Its log was damaged: everything up to that point is there, what was committed afterwards is not. Look at the "
            "running transactions and settings."
        )
    for one in copies:
        if _place(path, one, None):
            more = _salvage(path, moved)
            return (
                f"The backup {one.name} took its place, as of {backup.made_at(one)}. Of later transactions {more} events could "
                "still be read and were added. Settings, people's acts and measured values since then are missing."
            )
    return None


def _place(path: Path, base: Path, log_of: Path | None) -> bool:
    """Copy `base` to `path`, the sound part of the log of `log_of` beside it, and keep them if the result is sound; else leave
    nothing there."""
    # A copy that cannot be read is as good as none.
    with suppress(OSError):
        _copy_private(base, path)
        if log_of is not None:
            _copy_private(wal.beside(log_of), wal.beside(path))
            _expect_log(path)
        if backup.examine(path).problem is None:
            return True
    _clear(path)
    return False


def _copy_private(source: Path, target: Path) -> None:
    target.touch(mode=0o600)
    shutil.copyfile(source, target)


def _expect_log(path: Path) -> None:
    """Cut the log where it ceases to be sound, and say in the file's header that there is one."""
    log = wal.look(path)
    with wal.beside(path).open("r+b") as file:
        file.truncate(log.bytes)
    with path.open("r+b") as file:
        file.seek(MODE_OFFSET)
        file.write(LOG_MODE)


def _clear(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _salvage(path: Path, moved: Path) -> int:
    """Add transaction events that can still be read of the damaged file to the store at `path`; how many were missing there."""
    spare = path.with_name(f"{path.name}.salvage")
    added = 0
    try:
        with suppress(OSError, sqlite3.Error):
            _copy_private(moved, spare)
            if wal.beside(moved).exists():
                _copy_private(wal.beside(moved), wal.beside(spare))
            with closing(store_file.connect(str(spare))) as damaged, closing(store_file.connect(str(path))) as target:
                target.execute("BEGIN IMMEDIATE")
                for event in _readable(damaged):
                    added += transactions_sql.add_transaction_event(target, event)
                target.execute("COMMIT")
        return added
    finally:
        _clear(spare)


def _readable(damaged: sqlite3.Connection) -> Iterator[TransactionEvent]:
    """Rows from the first on up to the damage, then from the last back to it."""
    for direction in ("ASC", "DESC"):
        # What is missing is told by how many were found.
        with suppress(sqlite3.Error, UnicodeDecodeError):
            # By row: the index may be what is damaged.
            query = f"SELECT {_COLUMNS} FROM transactions NOT INDEXED ORDER BY rowid {direction}"  # noqa: S608 - constants
            for _, station, transaction, seq_no, kind, at_s, evse_id, payload in damaged.execute(query):
                # A flipped bit in a value makes a row that must not be kept.
                with suppress(StoreRangeError, TypeError, AttributeError):
                    yield check_transaction_event(
                        TransactionEvent(
                            station_id=station, transaction_id=transaction, seq_no=seq_no, event_type=kind, at_s=at_s,
                            evse_id=evse_id, payload_json=payload.encode(),
                        )
                    )  # fmt: skip


def damage_event(moved: Path, recovery: Recovery, now_s: float) -> StoredEvent:
    """The alarm a store begins with that took the place of a damaged one."""
    when = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = (
        f"At {when} the store could not be read and was moved to {moved.name}. {recovery.text} The emergency stop is latched, "
        "for it may have been pressed after the copy."
    )
    return _event("store_damaged", recovery.title, text, now_s, "alarm")


def cut_event(now_s: float) -> StoredEvent:
    """The log's last entry did not verify."""
    text = (
        "The last entry of the log does not verify, as when power fails while it is written; it was left out. Nothing that was "
        "acknowledged is missing, unless the disk damaged it: check the last transaction of each station."
    )
    return _event("store_log_cut", "Store's last entry left out", text, now_s, "warning")


def _event(code: str, title: str, text: str, now_s: float, severity: Severity) -> StoredEvent:
    return StoredEvent(at_s=now_s, code=code, title=title, text=text[:TEXT_LIMIT], severity=severity, source="store")
