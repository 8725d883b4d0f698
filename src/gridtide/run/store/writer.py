"""Group commit: one thread that owns the write connection and gathers what is waiting into one transaction.

Rules: whoever waits for a commit is served first and at once, and what arrived meanwhile goes into the next commit, at
most 50 rows in one; telemetry alone gathers for up to 20 ms. An answer is given after the commit. A write that fails
by itself is undone alone (savepoint); a commit that fails takes all of its batch with it. Nothing that is awaited is
ever dropped.
"""

import sqlite3
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from gridtide.run.store import sql as store_sql
from gridtide.run.store.calls import Write
from gridtide.run.store.rows import StoreError, StoreHealth

T = TypeVar("T")

BATCH_ROWS: Final = 50
LINGER_S: Final = 0.02
RETRY_S: Final = 1.0
"""Pause between tries of what nobody waits for, while writing fails."""
BACKLOG_LIMIT: Final = 20_000
TELEMETRY_LIMIT: Final = 10_000
"""Rows of telemetry that wait; the oldest make room."""

_Job = tuple[Write[Any], "Future[Any]"]


class GroupCommit:
    """The writer thread and its queues; every public method may be called from any thread."""

    def __init__(self, connection: sqlite3.Connection, telemetry_limit: int = TELEMETRY_LIMIT) -> None:
        """Takes over `connection` and closes it at the end."""
        self._connection = connection
        self._telemetry_limit = telemetry_limit
        self._jobs: deque[_Job] = deque()
        self._rows: deque[store_sql.TelemetryRow] = deque()
        self._states: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._rows_taken = 0
        self._rows_finished = 0
        self._dropped = 0
        self._refused = 0
        self._failed_commits = 0
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="gridtide-store", daemon=True)
        self._thread.start()

    def submit(self, write: Write[T]) -> "Future[T]":
        """Queue one awaited write; its future is done after the commit. `StoreError` if closed or overloaded."""
        future: Future[T] = Future()
        with self._changed:
            if self._closing:
                raise StoreError("the store is closed")
            if len(self._jobs) >= BACKLOG_LIMIT:
                raise StoreError(f"{BACKLOG_LIMIT} writes are waiting for the disk already: do not acknowledge")
            self._jobs.append((write, future))
            self._changed.notify()
        return future

    def put_rows(self, rows: list[store_sql.TelemetryRow], refused: int) -> None:
        """Queue telemetry nobody waits for; makes room by dropping the oldest. `refused`: values not even queued."""
        with self._changed:
            self._refused += refused
            self._rows_taken += len(rows)
            if self._closing:
                self._drop(len(rows))
                return
            self._rows.extend(rows)
            while len(self._rows) > self._telemetry_limit:
                self._rows.popleft()
                self._drop(1)
            self._changed.notify()

    def put_state(self, name: str, data: bytes) -> None:
        """Queue a snapshot nobody waits for; one per name, the latest. `StoreError` if closed."""
        with self._changed:
            if self._closing:
                raise StoreError("the store is closed")
            self._states[name] = data
            self._changed.notify()

    def rows_taken(self) -> int:
        """Telemetry rows given to this writer since the start."""
        with self._changed:
            return self._rows_taken

    def rows_finished(self) -> int:
        """Of those, rows that are committed or dropped."""
        with self._changed:
            return self._rows_finished

    def health(self) -> StoreHealth:
        """Queues and failures now."""
        with self._changed:
            return StoreHealth(
                pending=len(self._jobs),
                telemetry_waiting=len(self._rows),
                telemetry_dropped=self._dropped,
                telemetry_refused=self._refused,
                failed_commits=self._failed_commits,
                failure=self._failure,
            )

    def close(self) -> "threading.Thread":
        """Take nothing more; the thread returned ends when everything queued is written."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        return self._thread

    def _run(self) -> None:
        try:
            while self._wait():
                jobs, rows, states = self._take()
                self._commit(jobs, rows, states)
        finally:
            self._abandon()
            self._connection.close()

    def _abandon(self) -> None:
        """Nobody may wait for a thread that has ended; after an orderly close there is nobody."""
        with self._changed:
            self._closing = True
            jobs, self._jobs = self._jobs, deque()
        for _, future in jobs:
            if future.set_running_or_notify_cancel():
                future.set_exception(StoreError("not stored: the store's writer has ended"))

    def _wait(self) -> bool:
        """Until there is work; False when closing and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._jobs or self._rows or self._states)
            if not self._jobs and not self._closing:
                full = BATCH_ROWS if self._failure is None else self._telemetry_limit
                self._changed.wait_for(
                    lambda: self._closing or self._jobs or len(self._rows) >= full,
                    timeout=LINGER_S if self._failure is None else RETRY_S,
                )
            return bool(self._jobs or self._rows or self._states)

    def _take(self) -> tuple[list[_Job], list[store_sql.TelemetryRow], dict[str, bytes]]:
        with self._changed:
            jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), BATCH_ROWS))]
            # A cancelled wait has nobody to acknowledge to; after this mark it can no longer be cancelled.
            jobs = [job for job in jobs if job[1].set_running_or_notify_cancel()]
            rows = [self._rows.popleft() for _ in range(min(len(self._rows), BATCH_ROWS - len(jobs)))]
            states, self._states = self._states, {}
        return jobs, rows, states

    def _commit(self, jobs: list[_Job], rows: list[store_sql.TelemetryRow], states: dict[str, bytes]) -> None:
        answers: list[tuple[Future[Any], Any, Exception | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for write, future in jobs:
                result, error = self._attempt(write)
                answers.append((future, result, error))
            _, lost = self._attempt(lambda connection: _put_unawaited(connection, rows, states))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._note_failure(error, len(rows), states)
            for _, future in jobs:
                future.set_exception(StoreError(f"not stored: {error}"))
            return
        if lost is None:
            self._note_success(len(rows))
        else:
            self._note_failure(lost, len(rows), states)
        for future, result, failed in answers:
            if failed is None:
                future.set_result(result)
            else:
                future.set_exception(failed)

    def _attempt(self, write: Write[T]) -> tuple[T | None, Exception | None]:
        """Run one write; undo it alone if it fails, raise `sqlite3.Error` if the whole transaction is gone."""
        self._connection.execute("SAVEPOINT one")
        try:
            result = write(self._connection)
        except Exception as error:  # whatever it is goes to the one who waits
            # A full disk or an I/O error ends the transaction, and all writes before this one with it.
            if not self._connection.in_transaction:
                raise sqlite3.OperationalError(str(error)) from error
            self._connection.execute("ROLLBACK TO one")
            self._connection.execute("RELEASE one")
            return None, StoreError(f"not stored: {error}") if isinstance(error, sqlite3.Error) else error
        self._connection.execute("RELEASE one")
        return result, None

    def _note_success(self, rows: int) -> None:
        with self._changed:
            self._rows_finished += rows
            self._failure = None

    def _note_failure(self, error: Exception, rows: int, states: dict[str, bytes]) -> None:
        with self._changed:
            self._failed_commits += 1
            self._failure = str(error)
            self._drop(rows)
            # A snapshot may have no successor: try again with the next batch, unless closing for good.
            if not self._closing:
                self._states = states | self._states

    def _drop(self, rows: int) -> None:
        self._dropped += rows
        self._rows_finished += rows


def _put_unawaited(
    connection: sqlite3.Connection, rows: list[store_sql.TelemetryRow], states: dict[str, bytes]
) -> None:
    store_sql.put_telemetry(connection, rows)
    for name, data in states.items():
        store_sql.put_state(connection, name, data)
