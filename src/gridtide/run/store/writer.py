"""Group commit: one thread that owns the write connection and gathers what is waiting into one transaction.

Rules: whoever waits for a commit is served first and, unless many are waiting, at once; what arrived meanwhile goes into
the next commit, at most 50 rows in one; telemetry alone gathers for up to 20 ms. An answer is given after the commit, all
answers of a commit with one wake-up of each loop that waits. A write that fails by itself is undone alone (savepoint); a
commit that fails takes all of its batch with it. Nothing that is awaited is ever dropped.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from itertools import groupby
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any, Final, TypeVar

import structlog

from gridtide.run.store import sql as store_sql
from gridtide.run.store.calls import Write
from gridtide.run.store.rows import StoreError, StoreHealth
from gridtide.run.store.transactions_sql import (
    AddTransactionEvent,
    KnownHeads,
    UnfitEventError,
    add_transaction_events,
)

T = TypeVar("T")
log = structlog.get_logger(__name__)

BATCH_ROWS: Final = 50
MANY_ROWS: Final = 5
GATHER_S: Final = 0.002
"""After a commit of many the next one gathers so long: a commit costs more than its rows."""
LINGER_S: Final = 0.02
RETRY_S: Final = 1.0
"""Pause between tries of what nobody waits for, while writing fails."""
BACKLOG_LIMIT: Final = 20_000
TELEMETRY_LIMIT: Final = 10_000
"""Rows of telemetry that wait; the oldest make room."""
Done = Callable[[Any, Exception | None], None]
"""Told the result of a write after its commit, or why it is not stored."""


class _Job:
    """One awaited write; `loop` is where `done` is called, None: on the writer's thread."""

    __slots__ = ("done", "error", "is_wanted", "loop", "result", "write")

    def __init__(
        self,
        write: Any,
        done: Done,
        loop: asyncio.AbstractEventLoop | None,
        is_wanted: Callable[[], bool] | None = None,
    ) -> None:
        self.write, self.done, self.loop, self.is_wanted = write, done, loop, is_wanted
        self.result: Any = None
        self.error: Exception | None = None


class GroupCommit:
    """The writer thread and its queues; every public method may be called from any thread."""

    def __init__(self, connection: sqlite3.Connection, telemetry_limit: int = TELEMETRY_LIMIT) -> None:
        """Takes over `connection` and closes it at the end."""
        # What a savepoint undoes is kept in memory, not in a file.
        connection.execute("PRAGMA temp_store = MEMORY")
        self._connection = connection
        self._known = KnownHeads()
        self._telemetry_limit = telemetry_limit
        self._gathered: list[_Job] = []
        """Awaited writes of this turn of the loop."""
        self._jobs: SimpleQueue[list[_Job]] = SimpleQueue()
        """Awaited writes on their way to the writer's thread; an empty list says that there is something else to look at."""
        self._waiting_jobs = 0
        self._heard: deque[_Job] = deque()
        """Taken from the queue by the writer's thread, not yet in a commit."""
        self._rows: deque[store_sql.TelemetryRow] = deque()
        self._states: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._last_batch = 0
        self._closing = False
        self._rows_taken = 0
        self._rows_finished = 0
        self._dropped = 0
        self._refused = 0
        self._failed_commits = 0
        self._failure: str | None = None
        self._begun_s: float | None = None
        self._is_lean = False
        self._thread = threading.Thread(target=self._run, name="gridtide-store", daemon=True)
        self._thread.start()

    def put(self, write: Write[Any], done: Done, loop: asyncio.AbstractEventLoop) -> None:
        """Queue one write; `done` is called on `loop`, whose thread this is, after the commit. `StoreError` if closed or
        overloaded."""
        self._put(_Job(write, done, loop))

    async def written(self, write: Write[T]) -> T:
        """Queue one write and wait for its commit; raises what the write raised, `StoreError` if it is not stored.

        A wait that is cancelled before its commit began leaves nothing behind.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def done(result: T, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._put(_Job(write, done, loop, lambda: not future.cancelled()))
        return await future

    def submit(self, write: Write[T]) -> "Future[T]":
        """Queue one write for a caller without a loop; the future is done after the commit. `StoreError` as `put`."""
        future: Future[T] = Future()

        def done(result: T, error: Exception | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._put(_Job(write, done, None, future.set_running_or_notify_cancel))
        return future

    def put_rows(self, rows: list[store_sql.TelemetryRow], refused: int) -> None:
        """Queue telemetry nobody waits for; makes room by dropping the oldest. `refused`: values not even queued."""
        with self._lock:
            self._refused += refused
            self._rows_taken += len(rows)
            if self._closing or self._is_lean:
                self._drop(len(rows))
                return
            self._rows.extend(rows)
            while len(self._rows) > self._telemetry_limit:
                self._rows.popleft()
                self._drop(1)
        self._jobs.put([])

    def put_state(self, name: str, data: bytes) -> None:
        """Queue a snapshot nobody waits for; one per name, the latest. `StoreError` if closed."""
        with self._lock:
            if self._closing:
                raise StoreError("the store is closed")
            is_first = not self._states
            self._states[name] = data
        if is_first:
            self._jobs.put([])

    def write_only_needed(self, is_lean: bool) -> None:
        """On a full disk telemetry is dropped, so that what remains is for what somebody waits for."""
        with self._lock:
            self._is_lean = is_lean

    def rows_taken(self) -> int:
        """Telemetry rows given to this writer since the start."""
        with self._lock:
            return self._rows_taken

    def rows_finished(self) -> int:
        """Of those, rows that are committed or dropped."""
        with self._lock:
            return self._rows_finished

    def health(self) -> StoreHealth:
        """Queues and failures now."""
        with self._lock:
            return StoreHealth(
                pending=self._waiting_jobs,
                telemetry_waiting=len(self._rows),
                telemetry_dropped=self._dropped,
                telemetry_refused=self._refused,
                failed_commits=self._failed_commits,
                failure=self._failure,
                stuck_s=monotonic() - self._begun_s if self._begun_s is not None else 0.0,
            )

    def close(self) -> "threading.Thread":
        """Take nothing more; the thread returned ends when everything queued is written."""
        with self._lock:
            self._closing = True
        self._hand_over()
        self._jobs.put([])
        return self._thread

    def _put(self, job: _Job) -> None:
        """Queue a job; those of one turn of a loop go to the writer together, for waking it costs more than the rest."""
        with self._lock:
            if self._closing:
                raise StoreError("the store is closed")
            if self._waiting_jobs >= BACKLOG_LIMIT:
                raise StoreError(f"{BACKLOG_LIMIT} writes are waiting for the disk already: do not acknowledge")
            self._waiting_jobs += 1
            self._gathered.append(job)
            is_first = len(self._gathered) == 1
        if job.loop is None:
            self._hand_over()
        elif is_first:
            job.loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        with self._lock:
            gathered, self._gathered = self._gathered, []
            if gathered:
                self._jobs.put(gathered)

    def _run(self) -> None:
        try:
            while self._wait():
                jobs, rows, states = self._take()
                self._begun_s = monotonic()
                self._commit(jobs, rows, states)
                self._begun_s = None
        finally:
            self._abandon()
            self._connection.close()

    def _abandon(self) -> None:
        """Nobody may wait for a thread that has ended; after an orderly close there is nobody."""
        with self._lock:
            self._closing = True
        self._hand_over()
        self._hear(0.0)
        jobs = [job for job in self._heard if job.is_wanted is None or job.is_wanted()]
        for job in jobs:
            job.error = StoreError("not stored: the store's writer has ended")
        _answer(jobs)

    def _wait(self) -> bool:
        """Until there is work; False when closing and nothing is left."""
        self._hear(0.0)
        while not (self._heard or self._rows or self._states or self._closing):
            self._hear(None)
        if not self._heard and not self._closing:
            self._linger()
        elif self._last_batch >= MANY_ROWS and len(self._heard) < BATCH_ROWS and not self._closing:
            sleep(GATHER_S)
            self._hear(0.0)
        return bool(self._heard or self._rows or self._states)

    def _linger(self) -> None:
        """Give what nobody waits for time to gather: until somebody does wait, or enough is there."""
        is_well = self._failure is None
        full = BATCH_ROWS if is_well else self._telemetry_limit
        ends_s = monotonic() + (LINGER_S if is_well else RETRY_S)
        while not self._heard and not self._closing and len(self._rows) < full:
            left_s = ends_s - monotonic()
            if left_s <= 0.0:
                return
            self._hear(left_s)

    def _hear(self, timeout_s: float | None) -> None:
        """Take everything from the queue, waiting for the first item for up to `timeout_s` (None: for ever)."""
        try:
            item = self._jobs.get(block=timeout_s != 0.0, timeout=timeout_s)
            while True:
                self._heard.extend(item)
                item = self._jobs.get(block=False)
        except Empty:
            return

    def _take(self) -> tuple[list[_Job], list[store_sql.TelemetryRow], dict[str, bytes]]:
        self._last_batch = min(len(self._heard), BATCH_ROWS)
        jobs = [self._heard.popleft() for _ in range(min(len(self._heard), BATCH_ROWS))]
        with self._lock:
            self._waiting_jobs -= len(jobs)
            rows = [self._rows.popleft() for _ in range(min(len(self._rows), BATCH_ROWS - len(jobs)))]
            states, self._states = self._states, {}
        # A cancelled wait has nobody to acknowledge to.
        return [job for job in jobs if job.is_wanted is None or job.is_wanted()], rows, states

    def _commit(self, jobs: list[_Job], rows: list[store_sql.TelemetryRow], states: dict[str, bytes]) -> None:
        lost: Exception | None = None
        try:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._write(jobs)
            except UnfitEventError:
                self._connection.execute("ROLLBACK")
                self._connection.execute("BEGIN IMMEDIATE")
                self._write_each(jobs)
            if rows or states:
                lost = self._put_unawaited(rows, states)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._known.forget()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._note_failure(error, len(rows), states)
            for job in jobs:
                job.error = StoreError(f"not stored: {error}")
            _answer(jobs)
            return
        if lost is None:
            self._note_success(len(rows))
        else:
            self._note_failure(lost, len(rows), states)
        _answer(jobs)

    def _write(self, jobs: list[_Job]) -> None:
        """Run the writes in their order, neighbouring transaction events together; raises UnfitEventError if one of those
        cannot be stored. Few statements matter: this thread gives way to the loop at each of them."""
        for is_event, group in groupby(jobs, lambda job: isinstance(job.write, AddTransactionEvent)):
            together = list(group)
            if is_event:
                is_new = add_transaction_events(self._connection, [job.write.event for job in together], self._known)
                for job, result in zip(together, is_new, strict=True):
                    job.result = result
            else:
                self._write_each(together)

    def _write_each(self, jobs: list[_Job]) -> None:
        self._known.forget()
        for job in jobs:
            job.result, job.error = self._attempt(job.write)

    def _put_unawaited(self, rows: list[store_sql.TelemetryRow], states: dict[str, bytes]) -> Exception | None:
        _, lost = self._attempt(lambda connection: _put_unawaited(connection, rows, states))
        return lost

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
        with self._lock:
            self._rows_finished += rows
            self._failure = None

    def _note_failure(self, error: Exception, rows: int, states: dict[str, bytes]) -> None:
        with self._lock:
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


def _answer(jobs: list[_Job]) -> None:
    """Tell everybody, each loop with one wake-up; from the writer's thread."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, told in by_loop.items():
        if loop is None:
            _tell(told)
        elif not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed in this very moment: nobody waits there any more
                loop.call_soon_threadsafe(_tell, told)


def _tell(jobs: list[_Job]) -> None:
    """One who fails at what it hears keeps nobody else from hearing."""
    for job in jobs:
        try:
            job.done(job.result, job.error)
        except Exception:
            log.exception("store_answer_failed")
