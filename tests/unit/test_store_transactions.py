"""Events in a chain and numbers in gaps: as an older store becomes one, what is forgotten, how a damaged chain ends."""

import random
import sqlite3
from collections.abc import Iterator

import pytest
from msgspec import structs

from gridtide.run.store import EventType, TransactionEvent
from gridtide.run.store import file as store_file
from gridtide.run.store.transactions_sql import (
    UnfitEventError,
    add_transaction_event,
    add_transaction_events,
    forget_transactions,
    read_transaction,
)

NOW_S = 1_767_268_800.0
BEFORE_CHAINS = 3
"""Schema whose events had an index over station, transaction and number."""
TABLES = ("transactions", "transaction_heads", "transaction_gaps")


def event(station: str, transaction: str, seq_no: int, kind: EventType = "Updated") -> TransactionEvent:
    return TransactionEvent(
        station_id=station, transaction_id=transaction, seq_no=seq_no, event_type=kind, at_s=NOW_S + seq_no, evse_id=1,
        payload_json=b"{}",
    )  # fmt: skip


@pytest.fixture
def store() -> Iterator[sqlite3.Connection]:
    connection = store_file.connect(":memory:")
    store_file.migrate(connection)
    yield connection
    connection.close()


def rows(connection: sqlite3.Connection) -> list[list[object]]:
    return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]


def some(seed: int) -> list[TransactionEvent]:
    """Three transactions whose events came in any order, with numbers that never came; each once."""
    luck = random.Random(seed)
    events = [
        event(station, transaction, seq_no, "Started" if seq_no == 0 else "Updated")
        for station, transaction in (("a", "t"), ("a", "u"), ("b", "t")) for seq_no in range(40) if luck.random() < 0.7
    ]  # fmt: skip
    luck.shuffle(events)
    return events


@pytest.mark.parametrize("seed", range(5))
def test_an_older_store_becomes_what_it_would_have_been(
    seed: int, store: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store_file.connect(":memory:")
    with monkeypatch.context() as patch:
        patch.setattr(store_file, "MIGRATIONS", store_file.MIGRATIONS[:BEFORE_CHAINS])
        store_file.migrate(old)
    for item in some(seed):
        old.execute(
            "INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?)",
            (item.station_id, item.transaction_id, item.seq_no, item.event_type, item.at_s, item.evse_id, "{}"),
        )
        old.execute(
            "INSERT INTO transaction_heads VALUES (?, ?, 1, ?, ?, ?, 1, 0) ON CONFLICT DO UPDATE SET events = events + 1, "
            "started_s = min(started_s, excluded.started_s), last_s = max(last_s, excluded.last_s), "
            "last_seq_no = max(last_seq_no, excluded.last_seq_no)",
            (item.station_id, item.transaction_id, item.at_s, item.at_s, item.seq_no),
        )
        add_transaction_event(store, item)
    store_file.migrate(old)
    columns = "station_id, transaction_id, evse_id, started_s, last_s, last_seq_no, events, ended, last_id"
    heads = [found.execute(f"SELECT {columns} FROM transaction_heads").fetchall() for found in (old, store)]
    assert heads[0] == heads[1]
    assert rows(old)[0] == rows(store)[0]
    assert rows(old)[2] == rows(store)[2] != []
    again = add_transaction_events(old, some(seed))
    assert not any(again), "what it held is known"
    there = {item.seq_no for item in read_transaction(old, "a", "t")}
    missing = event("a", "t", min(set(range(max(there))) - there))
    assert add_transaction_events(old, [missing, missing]) == [True, False]
    old.close()


def test_what_is_forgotten_takes_its_events_and_gaps_and_nothing_else(store: sqlite3.Connection) -> None:
    for seq_no in (0, 1, 5):
        for transaction in ("old", "open", "new"):
            item = event("a", transaction, seq_no, "Ended" if seq_no == 5 and transaction != "open" else "Updated")
            add_transaction_event(store, item)
    store.execute("UPDATE transaction_heads SET last_s = last_s + 1000 WHERE transaction_id = 'new'")
    assert forget_transactions(store, NOW_S + 100.0) == 1
    assert read_transaction(store, "a", "old") == []
    for transaction in ("open", "new"):
        assert [item.seq_no for item in read_transaction(store, "a", transaction)] == [0, 1, 5]
    assert {row[1] for row in store.execute("SELECT * FROM transaction_gaps")} == {"open", "new"}
    assert add_transaction_event(store, event("a", "old", 1)), "as if it had never been"


def test_an_event_that_does_not_fit_leaves_the_others_to_be_written_alone(store: sqlite3.Connection) -> None:
    unfit = structs.replace(event("a", "t", 1), payload_json=b"\xff")
    store.execute("BEGIN")
    with pytest.raises(UnfitEventError):
        add_transaction_events(store, [event("a", "t", 0), unfit])
    store.execute("ROLLBACK")
    assert rows(store) == [[], [], []]


def test_no_event_can_follow_itself(store: sqlite3.Connection) -> None:
    add_transaction_event(store, event("a", "t", 0))
    with pytest.raises(sqlite3.IntegrityError):
        store.execute("UPDATE transactions SET prev_id = id")
