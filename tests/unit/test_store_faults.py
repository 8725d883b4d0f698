"""The store under a failing disk: whatever statement fails, how and when, acknowledged is what is stored."""

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gridtide.run.store import SqliteStore, StoreError, TransactionEvent, wal
from gridtide.run.store import file as store_file
from gridtide.run.store.transactions_sql import AddTransactionEvent
from gridtide.run.store.writer import GroupCommit

NOW_S = 1_767_268_800.0
FAULTS = ("disk I/O error", "database or disk is full", "database is locked", "attempt to write a readonly database")


def event(number: int) -> TransactionEvent:
    return TransactionEvent(
        station_id="cs", transaction_id="tx", seq_no=number, event_type="Updated", at_s=NOW_S, evse_id=1, payload_json=b"{}"
    )  # fmt: skip


class Faulty(sqlite3.Connection):
    """A connection whose n-th statement from now on fails as a disk would make it fail; `ends`: the transaction is gone with it."""

    fault: str = ""
    at = -1
    ends = False
    seen = 0

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self.seen += 1
        if self.seen == self.at:
            if self.ends and self.in_transaction:
                super().execute("ROLLBACK")
            raise sqlite3.OperationalError(self.fault)
        return super().execute(sql, *parameters)


def faulty(path: Path) -> Faulty:
    store_file.open_file(path, NOW_S)[0].close()
    connection = sqlite3.connect(path, timeout=0.1, isolation_level=None, check_same_thread=False, factory=Faulty)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def kept(path: Path) -> set[int]:
    with contextlib.closing(sqlite3.connect(path)) as reader:
        rows = {number for (number,) in reader.execute("SELECT seq_no FROM transactions")}
        assert reader.execute("SELECT coalesce(sum(events), 0) FROM transaction_heads").fetchone()[0] == len(rows)
        return rows


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("ends", [False, True], ids=["transaction stays", "transaction gone"])
def test_whichever_statement_fails_acknowledged_is_stored_and_refused_is_not(
    tmp_path: Path, fault: str, ends: bool
) -> None:
    """Every statement of a batch of four events once: BEGIN, SAVEPOINT, INSERT, ..., COMMIT."""
    path = tmp_path / "site.db"
    connection = faulty(path)
    writer = GroupCommit(connection)
    number, refusals, statements = 0, 0, 0
    while True:
        connection.fault, connection.ends = fault, ends
        connection.seen, connection.at = 0, statements + 1
        batch = range(number, number + 4)
        futures = [writer.submit(AddTransactionEvent(event(one))) for one in batch]
        errors = [future.exception(timeout=5.0) for future in futures]
        assert all(error is None or isinstance(error, StoreError) for error in errors)
        acknowledged = {one for one, error in zip(batch, errors, strict=True) if error is None}
        assert kept(path) & set(batch) == acknowledged
        number, refusals = number + 4, refusals + (len(acknowledged) < 4)
        if connection.seen < connection.at:
            break
        statements += 1
    writer.close().join()
    assert statements >= 4, "begin, insert, head, commit at least"
    assert refusals >= 2


def test_a_commit_that_fails_is_followed_by_one_that_does_not(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    connection = faulty(path)
    writer = GroupCommit(connection)
    connection.fault, connection.at = FAULTS[0], connection.seen + 2
    with pytest.raises(StoreError):
        writer.submit(AddTransactionEvent(event(1))).result(5.0)
    assert FAULTS[0] in str(writer.health().failure)
    assert writer.submit(AddTransactionEvent(event(1))).result(5.0) is True
    assert writer.health().failure is None
    writer.close().join()
    assert kept(path) == {1}


KILLED_IN_COMMIT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.unit.test_store_faults import faulty, event
from gridtide.run.store import transactions_sql
connection = faulty(Path(sys.argv[1]))
for number in range(3):
    connection.execute("BEGIN IMMEDIATE")
    transactions_sql.add_transaction_event(connection, event(number))
    if number == 2 and sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    connection.execute("COMMIT")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("when", "rows"), [("before", {0, 1}), ("after", {0, 1, 2})])
def test_killed_between_write_and_commit(tmp_path: Path, when: str, rows: set[int]) -> None:
    path = tmp_path / "site.db"
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", KILLED_IN_COMMIT, str(path), when, root], check=False)
    assert done.returncode == -signal.SIGKILL
    assert wal.look(path).state == "sound"
    store_file.open_file(path, NOW_S)[0].close()
    assert kept(path) == rows


def test_locked_by_another_process_nothing_is_acknowledged_until_it_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    holding = (
        "import sqlite3, sys; lock = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "lock.execute('BEGIN EXCLUSIVE'); print(1, flush=True); input()"
    )

    async def main() -> None:
        store = SqliteStore.open(path, NOW_S)
        other = subprocess.Popen(
            [sys.executable, "-c", holding, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert other.stdout is not None
        assert other.stdout.readline() == b"1\n"
        try:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            with pytest.raises(StoreError, match="locked"):
                await store.add_transaction_event(event(1))
            assert loop.time() - began_s < 2.0, "told within 2 s"
            assert "locked" in str(store.health().failure)
        finally:
            other.communicate(b"\n")
        assert await store.add_transaction_event(event(1))
        await store.close()

    asyncio.run(main())
    assert kept(path) == {1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = shutil.which("mount")
    done = None
    if command is not None and os.geteuid() == 0:
        done = subprocess.run(
            [command, "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False
        )
    if done is None or done.returncode:
        pytest.skip(
            "a tmpfs cannot be mounted here" + (f": {done.stderr.decode().strip()}" if done is not None else "")
        )
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    path, ballast = small_disk / "site.db", small_disk / "ballast"

    async def main() -> set[int]:
        store = SqliteStore.open(path, NOW_S)
        acknowledged: set[int] = set()
        refused = 0
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 65_536)
                file.flush()
        for number in range(200):
            try:
                await store.add_transaction_event(event(number))
                acknowledged.add(number)
            except StoreError:
                refused += 1
        assert refused > 0
        assert "full" in str(store.health().failure)
        assert {one.seq_no for one in store.transaction_events("cs", "tx")} == acknowledged, "it can still be read"
        ballast.unlink()
        assert await store.add_transaction_event(event(1_000))
        await store.close()
        return acknowledged | {1_000}

    acknowledged = asyncio.run(main())
    assert kept(path) == acknowledged


def test_a_log_that_cannot_be_written_costs_lines_and_no_exception() -> None:
    from gridtide.app.logs import LogSink

    class Full:
        def __init__(self) -> None:
            self.is_full, self.lines = True, list[str]()

        def write(self, text: str) -> int:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.lines.append(text)
            return len(text)

        def flush(self) -> None:
            return None

    stream = Full()
    sink = LogSink(stream)  # type: ignore[arg-type]
    for number in range(3):
        sink.write(f"line {number}\n")
    wait_until(lambda: sink.dropped == 3)
    stream.is_full = False
    sink.write("line 3\n")
    sink.close()
    assert stream.lines == ["3 log lines could not be written\n", "line 3\n"]


def test_a_log_whose_reader_hangs_never_makes_the_writer_wait() -> None:
    from gridtide.app.logs import WAITING, LogSink

    reading, writing = os.pipe()
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w") as stream:
        sink = LogSink(stream)
        for _ in range(WAITING + 500):
            sink.write("x" * 1_000)
        assert sink.dropped > 0
        os.close(reading)
        sink.close()


def wait_until(is_so: Callable[[], bool]) -> None:
    import time

    ends_s = time.monotonic() + 5.0
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.01)
