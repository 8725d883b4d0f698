"""Group commit: each waiter its own result, one wake-up a commit, and events written together as if one by one."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.run.store import EventType, StoreError, TransactionEvent
from gridtide.run.store import file as store_file
from gridtide.run.store.transactions_sql import AddTransactionEvent, add_transaction_event, forget_transactions
from gridtide.run.store.writer import GroupCommit

NOW_S = 1_767_268_800.0


def event(number: int, station: str = "cs-1", kind: EventType = "Updated", payload: bytes = b"{}") -> TransactionEvent:
    return TransactionEvent(
        station_id=station, transaction_id="tx-1", seq_no=number, event_type=kind, at_s=NOW_S + number, evse_id=1,
        payload_json=payload,
    )  # fmt: skip


class Held:
    """A writer whose thread is held in one write, so that what is put meanwhile becomes one batch."""

    def __init__(self, path: Path) -> None:
        connection, _ = store_file.open_file(path, NOW_S)
        self.writer = GroupCommit(connection)
        self.gate = threading.Event()
        holding = threading.Event()
        self.told: list[tuple[object, Any, Exception | None]] = []

        def hold(_connection: sqlite3.Connection) -> bool:
            holding.set()
            return self.gate.wait(30.0)

        self.writer.submit(hold)
        holding.wait(30.0)

    def put(self, name: object, write: Any) -> None:
        loop = asyncio.get_running_loop()
        self.writer.put(write, lambda result, error: self.told.append((name, result, error)), loop)

    async def release(self, count: int) -> None:
        """Let it go on, wait for `count` answers, close."""
        await asyncio.sleep(0)
        self.gate.set()
        async with asyncio.timeout(30.0):
            while len(self.told) < count:
                await asyncio.sleep(0.001)
        await asyncio.to_thread(self.writer.close().join)


def fails(_connection: sqlite3.Connection) -> None:
    raise KeyError("mine alone")


def test_each_waiter_of_a_batch_gets_its_own_result_with_one_wake_up(tmp_path: Path) -> None:
    async def main() -> None:
        held, loop = Held(tmp_path / "a.db"), asyncio.get_running_loop()
        wakes, wake = [], loop.call_soon_threadsafe

        def count(callback: Any, *args: Any, **context: Any) -> asyncio.Handle:
            wakes.append(callback)
            return wake(callback, *args, **context)

        loop.call_soon_threadsafe = count  # type: ignore[method-assign, assignment]
        for number in range(4):
            held.put(number, AddTransactionEvent(event(number)))
        held.put("again", AddTransactionEvent(event(2)))
        held.put("bad", fails)
        held.put("last", AddTransactionEvent(event(9)))
        await held.release(7)
        assert [(name, result) for name, result, error in held.told if error is None] == [
            *((number, True) for number in range(4)), ("again", False), ("last", True),
        ]  # fmt: skip
        assert [(name, str(error)) for name, _, error in held.told if error] == [("bad", "'mine alone'")]
        assert [callback.__name__ for callback in wakes].count("_tell") == 1

    asyncio.run(main())


def test_one_who_fails_at_its_answer_keeps_nobody_else_from_it(tmp_path: Path) -> None:
    async def main() -> None:
        held, heard = Held(tmp_path / "a.db"), []
        structlog.configure(processors=[lambda _log, _name, _words: (_ for _ in ()).throw(structlog.DropEvent)])

        def stumble(_result: object, _error: Exception | None) -> None:
            heard.append("stumbled")
            raise ValueError("at the answer")

        held.writer.put(AddTransactionEvent(event(0)), stumble, asyncio.get_running_loop())
        held.put("next", AddTransactionEvent(event(1)))
        await held.release(1)
        assert (heard, held.told) == (["stumbled"], [("next", True, None)])

    try:
        asyncio.run(main())
    finally:
        structlog.reset_defaults()


def test_a_failed_commit_fails_everybody_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        held = Held(tmp_path / "a.db")

        def end_transaction(connection: sqlite3.Connection) -> None:
            connection.execute("ROLLBACK")
            raise sqlite3.OperationalError("disk full (rehearsed)")

        for number in range(3):
            held.put(number, AddTransactionEvent(event(number)))
        held.put("end", end_transaction)
        await held.release(4)
        assert [type(error) for _, _, error in held.told] == [StoreError] * 4
        with sqlite3.connect(tmp_path / "a.db") as reader:
            assert reader.execute("SELECT count(*) FROM transactions").fetchone() == (0,)

    asyncio.run(main())


def test_nothing_is_taken_after_close_and_what_was_put_before_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        held = Held(tmp_path / "a.db")
        held.put(0, AddTransactionEvent(event(0)))
        thread = held.writer.close()
        with pytest.raises(StoreError, match="closed"):
            held.put(1, AddTransactionEvent(event(1)))
        held.gate.set()
        await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)
        assert held.told == [(0, True, None)]

    asyncio.run(main())


EVENTS = st.lists(
    st.builds(
        event, st.integers(0, 6), st.sampled_from(["cs-1", "cs-2"]), st.sampled_from(["Started", "Updated", "Ended"]),
        st.sampled_from([b"{}", b'{"a":1}']),
    ),
    max_size=40,
)  # fmt: skip


def rows(connection: sqlite3.Connection) -> list[Any]:
    tables = ("transactions", "transaction_heads", "transaction_gaps")
    return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


@settings(max_examples=40, deadline=None)
@given(EVENTS)
def test_events_written_together_are_as_if_written_one_by_one(events: list[TransactionEvent]) -> None:
    async def together(path: Path) -> tuple[list[Any], list[Any]]:
        held = Held(path)
        for place, item in enumerate(events):
            held.put(place, AddTransactionEvent(item))
        await held.release(len(events))
        with sqlite3.connect(path) as reader:
            return [result for _, result, _ in held.told], rows(reader)

    alone = store_file.connect(":memory:")
    store_file.migrate(alone)
    results = [add_transaction_event(alone, item) for item in events]
    with TemporaryDirectory() as folder:
        assert asyncio.run(together(Path(folder) / "a.db")) == (results, rows(alone))
    alone.close()


@asynccontextmanager
async def writing(path: Path) -> AsyncIterator[GroupCommit]:
    connection, _ = store_file.open_file(path, NOW_S)
    writer = GroupCommit(connection)
    yield writer
    await asyncio.to_thread(writer.close().join)


async def added(writer: GroupCommit, *events: TransactionEvent) -> list[Any]:
    """Written together: whether each is new, or why it is not stored."""
    return await asyncio.gather(*(writer.written(AddTransactionEvent(one)) for one in events), return_exceptions=True)


def test_events_of_a_commit_that_failed_are_new_when_they_come_again(tmp_path: Path) -> None:
    """The writer remembers the newest of each transaction, which is right only for what was committed."""

    fails = True

    def rehearse(connection: sqlite3.Connection) -> None:
        def authorised(action: int, what: str | None, *_: str | None) -> int:
            is_commit = action == sqlite3.SQLITE_TRANSACTION and what == "COMMIT"
            return sqlite3.SQLITE_DENY if is_commit and fails else sqlite3.SQLITE_OK

        connection.set_authorizer(authorised)

    async def main() -> None:
        nonlocal fails
        async with writing(tmp_path / "a.db") as writer:
            assert await added(writer, event(0), event(1)) == [True, True]
            with pytest.raises(StoreError, match="not authorized"):
                await writer.written(rehearse)
            assert [type(told) for told in await added(writer, event(2), event(3))] == [StoreError] * 2
            fails = False
            assert await added(writer, event(2), event(3), event(1)) == [True, True, False]

    asyncio.run(main())


def test_a_transaction_that_was_forgotten_begins_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with writing(tmp_path / "a.db") as writer:
            assert await added(writer, event(0), event(1), event(2, kind="Ended")) == [True] * 3
            assert await writer.written(lambda one: forget_transactions(one, NOW_S + 100.0)) == 1
            assert await added(writer, event(2)) == [True]

    asyncio.run(main())


def test_an_event_that_does_not_fit_leaves_what_is_known_right(tmp_path: Path) -> None:
    async def main() -> None:
        async with writing(tmp_path / "a.db") as writer:
            told = await added(writer, event(0), event(1, payload=b"\xff"))
            assert (told[0], type(told[1])) == (True, UnicodeDecodeError)
            assert await added(writer, event(0), event(1)) == [False, True]

    asyncio.run(main())
