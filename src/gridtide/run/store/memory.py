"""The store in memory, for virtual time: the same SQL on the calling thread, no thread, no waiting, deterministic."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from gridtide.run.store import file as store_file
from gridtide.run.store import sql as store_sql
from gridtide.run.store.calls import SqlStore, Write
from gridtide.run.store.rows import StoreError, StoreHealth, check_blob, check_text

T = TypeVar("T")


class MemoryStore(SqlStore):
    """A `Store` whose awaited writes are done when called; can rehearse a broken disk."""

    def __init__(self, fails: Callable[[int], bool] = lambda _: False) -> None:
        """`fails`: told the number of each write, from 1 on; True makes that write fail, to rehearse a broken disk."""
        self._connection = store_file.connect(":memory:")
        store_file.migrate(self._connection)
        self._fails = fails
        self._writes = 0
        self._closed = self._is_lean = False
        self._dropped = 0
        self._refused = 0
        self._failed_commits = 0
        self._failure: str | None = None

    def put_state(self, name: str, data: bytes) -> None:
        """See `Store`."""
        check_text(name, "name")
        check_blob(data, "data")
        try:
            self._commit(lambda connection: store_sql.put_state(connection, name, bytes(data)))
        except StoreError:
            # Nobody waits for a snapshot: `health` tells, as with the real store.
            if self._closed:
                raise

    def health(self) -> StoreHealth:
        """See `Store`."""
        return StoreHealth(
            pending=0,
            telemetry_waiting=0,
            telemetry_dropped=self._dropped,
            telemetry_refused=self._refused,
            failed_commits=self._failed_commits,
            failure=self._failure,
        )

    def write_only_needed(self, is_lean: bool) -> None:
        """See `Store`."""
        self._is_lean = is_lean

    async def flush(self) -> None:
        """See `Store`; everything is committed already."""

    async def close(self) -> None:
        """See `Store`."""
        self._closed = True
        self._connection.close()

    async def _write(self, write: Write[T]) -> T:
        return self._commit(write)

    def _post(self, write: Write[T], done: Callable[[T | None, Exception | None], None]) -> None:
        try:
            result = self._commit(write)
        except Exception as error:
            done(None, error)
        else:
            done(result, None)

    def _commit(self, write: Write[T]) -> T:
        if self._closed:
            raise StoreError("the store is closed")
        self._writes += 1
        self._connection.execute("BEGIN")
        try:
            if self._fails(self._writes):
                raise sqlite3.OperationalError("disk I/O error (rehearsed)")
            result = write(self._connection)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._failed_commits += 1
            self._failure = str(error)
            raise StoreError(f"not stored: {error}") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._failure = None
        return result

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise StoreError("the store is closed")
        return read(self._connection)

    def _put_rows(self, rows: list[store_sql.TelemetryRow], refused: int) -> None:
        self._refused += refused
        if self._is_lean:
            self._dropped += len(rows)
            return
        try:
            self._commit(lambda connection: store_sql.put_telemetry(connection, rows))
        except StoreError:
            self._dropped += len(rows)
