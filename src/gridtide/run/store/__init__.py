"""The site's memory as a port: transactions, settings, audit, events, telemetry, snapshots.

An awaited write returns when it is committed to disk (that is when a station may be answered); `put_telemetry` and
`put_state` return at once and never hold up a control cycle. `SqliteStore` is the real one, `MemoryStore` runs the same
SQL in memory on the calling thread, for virtual time. Every instant is given by the caller.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from gridtide.run.store import file as store_file
from gridtide.run.store import sql as store_sql
from gridtide.run.store import wal
from gridtide.run.store.calls import TELEMETRY_READ_LIMIT, SqlStore, Write
from gridtide.run.store.decisions import BlockRow
from gridtide.run.store.memory import MemoryStore
from gridtide.run.store.outbox import Alarm, Message
from gridtide.run.store.recovery import Recovery, cut_event, damage_event
from gridtide.run.store.rows import (
    AuditCheck,
    AuditEntry,
    EventType,
    JournalEntry,
    OpenTransaction,
    RegistryEntry,
    StationRecord,
    StoredEvent,
    StoreError,
    StoreHealth,
    StoreRangeError,
    TransactionEvent,
    TransactionHead,
    check_at,
    check_blob,
    check_text,
)
from gridtide.run.store.writer import TELEMETRY_LIMIT, GroupCommit

__all__ = [
    "AuditCheck",
    "AuditEntry",
    "EventType",
    "MemoryStore",
    "OpenTransaction",
    "SqliteStore",
    "Store",
    "StoreError",
    "StoreHealth",
    "StoreRangeError",
    "StoredEvent",
    "TransactionEvent",
]

T = TypeVar("T")


class Store(Protocol):
    """What services may ask of the store. All raise `StoreRangeError` for a value that must not be kept and
    `StoreError` when the disk refuses: then nothing may be acknowledged."""

    async def add_transaction_event(self, event: TransactionEvent) -> bool:
        """Committed; False if station, transaction and sequence number were there before (nothing changed)."""

    def post_transaction_event(
        self, event: TransactionEvent, done: Callable[[bool | None, Exception | None], None]
    ) -> None:
        """`add_transaction_event` without a task: `done` gets its result or its error, on this loop, after the commit.

        The payload must be a message's as received and decoded: valid JSON in UTF-8, which is not looked at again. Raises
        StoreRangeError and, when nothing can be taken, StoreError.
        """

    async def add_event(self, event: StoredEvent) -> int:
        """Committed; the id of the row, which is an older one if the same code and source is still unseen."""

    async def mark_event_seen(self, event_id: int, actor: str, at_s: float) -> bool:
        """Committed with an audit entry; False if there is no such unseen event."""

    async def put_setting(self, key: str, value_json: bytes, actor: str, at_s: float) -> None:
        """Committed together with an audit entry holding old and new value."""

    async def append_audit(self, at_s: float, actor: str, action: str, detail_json: bytes) -> int:
        """Committed; the id of the new link of the chain."""

    async def forget_telemetry(self, before_s: float) -> int:
        """Delete telemetry older than `before_s`; committed; how many rows went."""

    async def flush(self) -> None:
        """Return when everything put so far is committed (telemetry possibly dropped, see `health`)."""

    async def close(self) -> None:
        """Write what is queued and close; a second close does nothing."""

    def put_telemetry(self, t_s: float, rows: Mapping[str, float]) -> None:
        """Queue values by series name at `t_s`; the oldest are dropped when the disk is too slow. Values that are not
        finite are left out and counted."""

    def put_state(self, name: str, data: bytes) -> None:
        """Queue a snapshot under `name`; the latest wins."""

    def get_state(self, name: str) -> bytes | None:
        """The latest committed snapshot, or None."""

    def settings(self) -> dict[str, bytes]:
        """All settings as JSON by key."""

    def events(self, limit: int = 100) -> tuple[StoredEvent, ...]:
        """The newest events, newest first."""

    def audit(self, limit: int = 100) -> tuple[AuditEntry, ...]:
        """The newest audit entries, newest first."""

    def verify_audit(self) -> AuditCheck:
        """Walk the whole hash chain; takes time in proportion to its length."""

    def open_transactions(self) -> tuple[OpenTransaction, ...]:
        """Transactions without an `Ended` event, oldest first."""

    def transaction_events(
        self, station_id: str, transaction_id: str, first_seq_no: int = 0, limit: int | None = None
    ) -> list[TransactionEvent]:
        """Events of one transaction by sequence number: `limit` of them from `first_seq_no` on, or all."""

    def telemetry(
        self, series: str, start_s: float, end_s: float, limit: int = TELEMETRY_READ_LIMIT
    ) -> list[tuple[float, float]]:
        """(t_s, value) in [start_s, end_s), ascending; of more than `limit` the newest."""

    async def put_entry(self, kind: str, key: str, value_json: bytes, actor: str, at_s: float) -> None:
        """Register or replace an entry; committed together with an audit entry."""

    async def remove_entry(self, kind: str, key: str, actor: str, at_s: float) -> bool:
        """Remove an entry; committed with an audit entry. False if there is none."""

    def registry(self, kind: str) -> tuple[RegistryEntry, ...]:
        """All entries of a kind by key."""

    async def put_records(
        self, station_id: str, kind: str, rows: Mapping[str, bytes], at_s: float, *, is_whole: bool = False
    ) -> None:
        """Keep the latest JSON of each key of a station; `is_whole`: keys not given are forgotten. Committed."""

    async def remove_records(self, station_id: str, kind: str, keys: tuple[str, ...] | None = None) -> int:
        """Forget a station's records of a kind, or those of some keys; committed; how many went."""

    def records(self, station_id: str, kind: str) -> tuple[StationRecord, ...]:
        """A station's records of a kind by key."""

    async def add_journal(self, station_id: str, kind: str, at_s: float, value_json: bytes) -> int:
        """Add what a station told once; committed; of each kind and station the newest thousand are kept."""

    def journal(
        self, station_id: str | None = None, kind: str | None = None, limit: int = 100
    ) -> tuple[JournalEntry, ...]:
        """What stations told, newest first."""

    def transactions(
        self, start_s: float, end_s: float, station_id: str | None = None, limit: int = 1_000
    ) -> tuple[TransactionHead, ...]:
        """Transactions that began in [start_s, end_s), newest first."""

    def transaction_head(self, station_id: str, transaction_id: str) -> TransactionHead | None:
        """One transaction in short, or None."""

    def owner_of_transaction(self, transaction_id: str, asking: str) -> str | None:
        """The station that has a transaction of this id, `asking` itself before any other; or None."""

    async def erase_token(self, id_token: str, actor: str, at_s: float) -> int:
        """Make all transactions and journal entries of a token anonymous; committed with an audit entry; how many changed."""

    async def forget_transactions(self, before_s: float) -> int:
        """Delete ended transactions whose last event is older; committed; how many went."""

    async def add_decisions(self, start_s: float, end_s: float, cycles: int, data: bytes, at_s: float) -> int:
        """Keep a block of the decision log, linked into the audit chain; committed; its id."""

    async def forget_decisions(self, before_s: float, most_bytes: int, at_s: float) -> int:
        """Delete blocks that ended before `before_s`, and the oldest beyond `most_bytes`; audited; how many went."""

    def decision_blocks(self, start_s: float, end_s: float) -> tuple[BlockRow, ...]:
        """Blocks of the decision log that touch [start_s, end_s), in the order they were made."""

    def decision_block(self, block_id: int) -> bytes | None:
        """The bytes of one block, or None."""

    def acts(self, limit: int = 100) -> tuple[AuditEntry, ...]:
        """The newest audit entries without those of blocks, newest first."""

    async def raise_alarm(self, alarm: Alarm, message: Message, most: int) -> bool:
        """Note an alarm and queue its message, at most `most` of them; committed. False if it stands already."""

    async def clear_alarm(self, alarm: Alarm, message: Message | None, most: int) -> bool:
        """End an alarm and queue the message that says so; committed. False if it does not stand."""

    async def delivered(self, uuid: str) -> None:
        """Forget a message that the receiver has; committed."""

    def alarms(self) -> tuple[Alarm, ...]:
        """Alarms that stand, oldest first."""

    def outbox(self, limit: int = 1) -> tuple[Message, ...]:
        """Messages that wait for their receiver, oldest first."""

    def outbox_size(self) -> int:
        """How many messages wait."""

    def write_only_needed(self, is_lean: bool) -> None:
        """On a full disk: measured values are dropped and counted, everything else is written."""

    def health(self) -> StoreHealth:
        """Queues and failures now."""


class SqliteStore(SqlStore):
    """The real store: a file in WAL mode with `synchronous=FULL`, a writer thread with group commit, two read connections.

    Reads run on the caller's thread and never wait for the writer; they may be called from any thread. The thread that opened
    the store has a connection of its own, so that the site's loop never waits for a long read of another thread.
    """

    def __init__(
        self, writer: GroupCommit, reader: sqlite3.Connection, others: sqlite3.Connection, moved_to: Path | None
    ) -> None:
        """Use `SqliteStore.open`."""
        self._writer = writer
        self._readers = {True: (threading.Lock(), reader), False: (threading.Lock(), others)}
        self._home = threading.get_ident()
        self._loop: tuple[asyncio.AbstractEventLoop | None, int] = (None, 0)
        """The loop that posted last, and its thread."""
        self._closed = False
        self.moved_to = moved_to
        """Where a damaged predecessor went, or None."""

    @classmethod
    def open(
        cls, path: Path, now_s: float, telemetry_limit: int = TELEMETRY_LIMIT, backups: Path | None = None
    ) -> "SqliteStore":
        """Open or make the store at `path`, mode 0600, brought to the newest schema.

        A damaged file is moved aside under a name dated by `now_s` (UTC epoch seconds), and what takes its place begins with an
        alarm event saying so: the best of copies and log (`recovery`), else an empty store. `backups`: folder of the automatic
        copies, None: beside the store. `StoreError` for a file that is not ours, newer than we are, or cannot be opened.
        """
        recovery, is_cut = Recovery(backups), _is_cut(path)
        connection, moved_to = store_file.open_file(path, check_at(now_s, "now_s"), recovery)
        try:
            if moved_to is not None:
                store_sql.add_event(connection, damage_event(moved_to, recovery, now_s))
            elif is_cut:
                store_sql.add_event(connection, cut_event(now_s))
            reader, others = store_file.connect(str(path)), store_file.connect(str(path))
            for one in (reader, others):
                one.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            connection.close()
            raise StoreError(f"store {path} cannot be opened: {error}") from error
        return cls(GroupCommit(connection, telemetry_limit), reader, others, moved_to)

    def put_state(self, name: str, data: bytes) -> None:
        """See `Store`."""
        self._writer.put_state(check_text(name, "name"), check_blob(bytes(data), "data"))

    def health(self) -> StoreHealth:
        """See `Store`."""
        return self._writer.health()

    def write_only_needed(self, is_lean: bool) -> None:
        """See `Store`."""
        self._writer.write_only_needed(is_lean)

    async def flush(self) -> None:
        """See `Store`."""
        target = self._writer.rows_taken()
        await self._write(lambda _: None)
        while self._writer.rows_finished() < target:
            await self._write(lambda _: None)

    async def close(self) -> None:
        """See `Store`."""
        if self._closed:
            return
        self._closed = True
        # The writer's connection closes last and folds the log back into the file.
        await asyncio.to_thread(self._close_readers)
        await asyncio.to_thread(self._writer.close().join)

    def _close_readers(self) -> None:
        """Wait for reads under way, which may be long."""
        for lock, reader in self._readers.values():
            with lock:
                reader.close()

    async def _write(self, write: Write[T]) -> T:
        return await self._writer.written(write)

    def _post(self, write: Write[T], done: Callable[[T | None, Exception | None], None]) -> None:
        loop, thread = self._loop
        if loop is None or thread != threading.get_ident() or not loop.is_running():
            # Asking for the running loop is a system call in Python 3.11; one that runs on this thread is the one.
            loop = asyncio.get_running_loop()
            self._loop = (loop, threading.get_ident())
        self._writer.put(write, done, loop)

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        lock, reader = self._readers[threading.get_ident() == self._home]
        with lock:
            if self._closed:
                raise StoreError("the store is closed")
            try:
                return read(reader)
            except (sqlite3.Error, UnicodeDecodeError, msgspec.ValidationError) as error:
                raise StoreError(f"not readable: {error}") from error

    def _put_rows(self, rows: list[store_sql.TelemetryRow], refused: int) -> None:
        self._writer.put_rows(rows, refused)


def _is_cut(path: Path) -> bool:
    try:
        return wal.look(path).state == "cut"
    except OSError as error:
        raise StoreError(f"store {path} cannot be opened: {error}") from error
