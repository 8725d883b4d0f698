"""The store keeps what it acknowledged, tells doubles, refuses nonsense and never forgets in silence."""

import asyncio
import sqlite3
import stat
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from gridtide.run.simloop import run_sim
from gridtide.run.store import (
    AuditEntry,
    EventType,
    MemoryStore,
    SqliteStore,
    Store,
    StoredEvent,
    StoreError,
    StoreRangeError,
    TransactionEvent,
)
from gridtide.run.store.file import MIGRATIONS, schema_version
from gridtide.run.store.rows import FIRST_HASH

T = TypeVar("T")
NOW_S = 1_767_268_800.0
"""2026-01-01T12:00:00Z"""


def transaction(number: int, kind: EventType = "Updated", **changes: object) -> TransactionEvent:
    event = TransactionEvent(
        station_id="cs-1",
        transaction_id="tx-1",
        seq_no=number,
        event_type=kind,
        at_s=NOW_S + number,
        evse_id=1,
        payload_json=b'{"kwh":%d}' % number,
    )
    return msgspec.structs.replace(event, **changes)


def event(**changes: object) -> StoredEvent:
    plain = StoredEvent(
        at_s=NOW_S, code="meter_lost", title="Meter lost", text="No sample", severity="alarm", source="meter"
    )
    return msgspec.structs.replace(plain, **changes)


def on_disk(path: Path, use: Callable[[SqliteStore], Awaitable[T]]) -> T:
    """Open the store at `path`, run `use` with it, close it."""

    async def main() -> T:
        store = SqliteStore.open(path, NOW_S)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(main())


def in_memory(use: Callable[[MemoryStore], Awaitable[T]]) -> T:
    """Run `use` with a memory store on virtual time."""

    async def main() -> T:
        store = MemoryStore()
        try:
            return await use(store)
        finally:
            await store.close()

    return run_sim(main())


@pytest.fixture(params=["disk", "memory"])
def with_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[Store], Awaitable[None]]], None]:
    """Run a test with either store; both are the same to their users."""
    if request.param == "memory":
        return in_memory
    return lambda use: on_disk(tmp_path / "site.db", use)


WithStore = Callable[[Callable[[Store], Awaitable[None]]], None]


def test_transaction_event_counts_once(with_store: WithStore) -> None:
    async def use(store: Store) -> None:
        assert await store.add_transaction_event(transaction(0, "Started"))
        assert await store.add_transaction_event(transaction(3))
        assert not await store.add_transaction_event(transaction(3, payload_json=b'"other"'))
        assert await store.add_transaction_event(transaction(3, station_id="cs-2"))
        assert store.transaction_events("cs-1", "tx-1") == [transaction(0, "Started"), transaction(3)]
        first, second = store.open_transactions()
        assert (first.station_id, first.started_s, first.last_s, first.last_seq_no, first.events) == (
            *("cs-1", NOW_S, NOW_S + 3),
            *(3, 2),
        )
        assert second.station_id == "cs-2"

    with_store(use)


@pytest.mark.parametrize(
    "changes",
    [
        {"payload_json": b'"' + b"x" * 1_000_000 + b'"'},
        {"transaction_id": ""},
        {"seq_no": -1},
        {"at_s": 0.0},
        {"evse_id": -1},
    ],
)
def test_a_posted_event_is_checked_but_for_the_syntax_of_its_message(
    with_store: WithStore, changes: dict[str, object]
) -> None:
    async def use(store: Store) -> None:
        told = asyncio.Event()
        results = list[object]()

        def done(new: bool | None, error: Exception | None) -> None:
            results.append((new, error))
            told.set()

        with pytest.raises(StoreRangeError):
            store.post_transaction_event(msgspec.structs.replace(transaction(0), **changes), done)
        store.post_transaction_event(transaction(0), done)
        await told.wait()
        assert results == [(True, None)]
        assert store.transaction_events("cs-1", "tx-1") == [transaction(0)]

    with_store(use)


def test_ended_transaction_is_not_open_even_if_a_late_event_follows(with_store: WithStore) -> None:
    async def use(store: Store) -> None:
        await store.add_transaction_event(transaction(0, "Started"))
        await store.add_transaction_event(transaction(2, "Ended"))
        await store.add_transaction_event(transaction(1))
        await store.add_transaction_event(transaction(0, "Started", transaction_id="tx-2", evse_id=None))
        assert [(row.transaction_id, row.evse_id) for row in store.open_transactions()] == [("tx-2", None)]
        await store.add_transaction_event(transaction(1, transaction_id="tx-2", evse_id=4))
        assert [(row.transaction_id, row.evse_id) for row in store.open_transactions()] == [("tx-2", 4)]

    with_store(use)


def test_repeated_event_is_one_row_until_seen(with_store: WithStore) -> None:
    async def use(store: Store) -> None:
        first = await store.add_event(event())
        assert await store.add_event(event(at_s=NOW_S + 60, text="Still none", severity="warning")) == first
        assert await store.add_event(event(source="meter-2", at_s=NOW_S + 90)) != first
        newest, older = store.events()
        assert newest.source == "meter-2"
        assert older == event(at_s=NOW_S + 60, text="Still none", severity="warning", count=2, id=first)
        assert await store.mark_event_seen(first, "ana", NOW_S + 100)
        assert not await store.mark_event_seen(first, "ana", NOW_S + 101)
        assert not await store.mark_event_seen(999, "ana", NOW_S + 101)
        assert await store.add_event(event(at_s=NOW_S + 120)) != first
        assert [(row.id == first, row.seen) for row in store.events()] == [(False, False), (False, False), (True, True)]
        assert len(store.events(limit=1)) == 1
        assert [entry.action for entry in store.audit()] == ["event.seen"]

    with_store(use)


def test_setting_and_its_audit_go_together(with_store: WithStore) -> None:
    async def use(store: Store) -> None:
        await store.put_setting("limit_kw", b"500", "ana", NOW_S)
        await store.put_setting("limit_kw", b"450.5", "bo", NOW_S + 1)
        await store.put_setting("buffer_kw", b'{"kw":50}', "bo", NOW_S + 2)
        assert store.settings() == {"buffer_kw": b'{"kw":50}', "limit_kw": b"450.5"}
        details = [msgspec.json.decode(entry.detail_json) for entry in store.audit()]
        assert details[1] == {"key": "limit_kw", "old": 500, "new": 450.5}
        assert details[2]["old"] is None
        assert [entry.actor for entry in store.audit(2)] == ["bo", "bo"]
        assert store.verify_audit().intact

    with_store(use)


def test_telemetry_and_states(with_store: WithStore) -> None:
    async def use(store: Store) -> None:
        for step in range(5):
            store.put_telemetry(NOW_S + step, {"pcc_kw": float(step), "soc": 0.5})
        store.put_telemetry(NOW_S + 4, {"pcc_kw": 40.0})
        store.put_telemetry(NOW_S + 5, {"pcc_kw": float("nan"), "soc": float("inf")})
        store.put_state("demand", b"old")
        store.put_state("demand", b"\x00new")
        await store.flush()
        assert store.telemetry("pcc_kw", NOW_S + 1, NOW_S + 3) == [(NOW_S + 1, 1.0), (NOW_S + 2, 2.0)]
        assert store.telemetry("pcc_kw", NOW_S, NOW_S + 99, limit=2) == [(NOW_S + 3, 3.0), (NOW_S + 4, 40.0)]
        assert store.telemetry("unknown", NOW_S, NOW_S + 99) == []
        assert store.get_state("demand") == b"\x00new"
        assert store.get_state("unknown") is None
        assert store.health().telemetry_refused == 2
        assert await store.forget_telemetry(NOW_S + 3) == 6
        assert store.telemetry("soc", NOW_S, NOW_S + 99) == [(NOW_S + 3, 0.5), (NOW_S + 4, 0.5)]

    with_store(use)


BAD_TIMES = [float("nan"), float("inf"), -1.0, 946_684_799.0, 4_102_444_800.0, 10**400]


@pytest.mark.parametrize("bad_s", BAD_TIMES)
def test_instants_outside_the_century_are_refused(with_store: WithStore, bad_s: float) -> None:
    async def use(store: Store) -> None:
        for write in (
            store.add_event(event(at_s=bad_s)),
            store.add_transaction_event(transaction(0, at_s=bad_s)),
            store.put_setting("a", b"1", "ana", bad_s),
            store.append_audit(bad_s, "ana", "x", b"{}"),
            store.mark_event_seen(1, "ana", bad_s),
        ):
            with pytest.raises(StoreRangeError, match="at_s"):
                await write
        with pytest.raises(StoreRangeError, match="t_s"):
            store.put_telemetry(bad_s, {"a": 1.0})
        assert (store.events(), store.audit(), store.settings()) == ((), (), {})

    with_store(use)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seq_no", -1),
        ("seq_no", 2**63),
        ("evse_id", 2**63),
        ("payload_json", b"NaN"),
        ("payload_json", b"{"),
        ("payload_json", b'"\xff"'),
        ("payload_json", b"[" * 100_000),
        ("payload_json", b'"' + b"x" * 1_000_000 + b'"'),
        ("station_id", ""),
        ("station_id", "x" * 257),
        ("transaction_id", "a\0b"),
        ("transaction_id", "\ud800"),
        ("event_type", "Paused"),
    ],
)
def test_transaction_fields_are_checked(field: str, value: object) -> None:
    async def use(store: Store) -> None:
        with pytest.raises(StoreRangeError, match=field):
            await store.add_transaction_event(msgspec.structs.replace(transaction(0), **{field: value}))
        assert store.open_transactions() == ()

    in_memory(use)


@pytest.mark.parametrize(
    ("field", "value"),
    [("severity", "bad"), ("count", 0), ("count", 2**40), ("title", ""), ("text", "x" * 4_097), ("code", "\0")],
)
def test_event_fields_are_checked(field: str, value: object) -> None:
    async def use(store: Store) -> None:
        with pytest.raises(StoreRangeError, match=field):
            await store.add_event(event(**{field: value}))

    in_memory(use)


def test_values_are_parameters_never_sql(with_store: WithStore) -> None:
    async def use(store: Store) -> None:
        nasty = "'); DROP TABLE events; --"
        await store.add_event(event(code=nasty, title=nasty))
        await store.put_setting(nasty, b"1", nasty, NOW_S)
        store.put_telemetry(NOW_S, {nasty: 1.0})
        await store.flush()
        assert store.events()[0].code == nasty
        assert store.telemetry(nasty, NOW_S, NOW_S + 1) == [(NOW_S, 1.0)]
        assert store.settings() == {nasty: b"1"}

    with_store(use)


def test_audit_is_a_chain(with_store: WithStore) -> None:
    async def use(store: Store) -> None:
        empty = store.verify_audit()
        assert (empty.intact, empty.entries, empty.head) == (True, 0, FIRST_HASH)
        for number in range(4):
            assert await store.append_audit(NOW_S + number, "ana", "x", b'{"n":%d}' % number) == number + 1
        newest_first: tuple[AuditEntry, ...] = store.audit()
        chain = newest_first[::-1]
        assert [entry.prev_hash for entry in chain] == [FIRST_HASH, *(entry.hash for entry in chain[:-1])]
        check = store.verify_audit()
        assert (check.intact, check.entries, check.head) == (True, 4, chain[-1].hash)

    with_store(use)


@pytest.mark.parametrize(
    ("tampering", "first_bad_id"),
    [
        ("UPDATE audit SET detail_json = '{\"n\":9}' WHERE id = 2", 2),
        ("UPDATE audit SET actor = 'eve' WHERE id = 4", 4),
        ("UPDATE audit SET at_s = at_s + 1 WHERE id = 1", 1),
        ("UPDATE audit SET hash = prev_hash WHERE id = 3", 3),
        ("DELETE FROM audit WHERE id = 2", 2),
        ("DELETE FROM audit WHERE id = 4", 4),
        ("DELETE FROM audit", 1),
        ("UPDATE audit SET id = 9 WHERE id = 4", 4),
    ],
)
def test_tampering_with_the_audit_is_found(tmp_path: Path, tampering: str, first_bad_id: int) -> None:
    async def fill(store: Store) -> None:
        for number in range(4):
            await store.append_audit(NOW_S + number, "ana", "x", b'{"n":%d}' % number)

    async def verify(store: Store) -> None:
        check = store.verify_audit()
        assert (check.intact, check.first_bad_id, check.entries) == (False, first_bad_id, first_bad_id - 1)

    path = tmp_path / "site.db"
    on_disk(path, fill)
    raw = sqlite3.connect(path, isolation_level=None)
    assert raw.execute(tampering).rowcount > 0
    raw.close()
    on_disk(path, verify)


def test_files_are_private_and_the_disk_is_asked_to_be_sure(tmp_path: Path) -> None:
    path = tmp_path / "site.db"

    async def use(store: SqliteStore) -> None:
        await store.append_audit(NOW_S, "ana", "x", b"{}")
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["site.db", "site.db-shm", "site.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert await store._write(lambda connection: connection.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
        assert await store._write(lambda connection: connection.execute("PRAGMA synchronous").fetchone()) == (2,)

    on_disk(path, use)
    path.chmod(0o664)
    on_disk(path, use)


async def fill_some(store: Store) -> None:
    """Enough rows for several pages."""
    for number in range(40):
        await store.add_transaction_event(transaction(number, payload_json=b'"' + b"x" * 500 + b'"'))


def damage_header(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:-4096] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_header, damage_middle, cut_short, empty])
def test_damaged_file_is_moved_aside_and_told(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "site.db"

    async def look(store: SqliteStore) -> str | None:
        if store.moved_to is None:
            return None
        (told,) = store.events()
        assert (told.code, told.severity, told.at_s) == ("store_damaged", "alarm", NOW_S)
        assert store.moved_to.name in told.text
        assert await store.add_transaction_event(transaction(0))
        return store.moved_to.name

    names = []
    for _ in range(2):
        on_disk(path, fill_some)
        damage(path)
        spoiled = path.read_bytes()
        names.append(on_disk(path, look))
        assert (tmp_path / str(names[-1])).read_bytes() == spoiled
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert on_disk(path, lambda store: asyncio.sleep(0, store.moved_to)) is None
    assert names == ["site.db.corrupt-20260101T120000Z", "site.db.corrupt-20260101T120000Z-2"]


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    raw = sqlite3.connect(foreign)
    raw.execute("CREATE TABLE theirs (a)")
    raw.close()
    with pytest.raises(StoreError, match=r"not a gridtide store.*theirs"):
        SqliteStore.open(foreign, NOW_S)

    newer = tmp_path / "newer.db"
    on_disk(newer, fill_some)
    raw = sqlite3.connect(newer, isolation_level=None)
    raw.execute("UPDATE schema_version SET version = 99")
    raw.close()
    with pytest.raises(StoreError, match="schema 99"):
        SqliteStore.open(newer, NOW_S)

    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteStore.open(tmp_path / "no" / "such" / "folder.db", NOW_S)
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteStore.open(tmp_path, NOW_S)
    assert sorted(path.name for path in tmp_path.iterdir() if "corrupt" in path.name) == []


def test_schema_is_at_the_newest_version(tmp_path: Path) -> None:
    on_disk(tmp_path / "site.db", fill_some)
    raw = sqlite3.connect(tmp_path / "site.db")
    assert schema_version(raw) == len(MIGRATIONS)
    raw.close()


def test_failed_migration_leaves_the_old_schema_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "site.db"
    on_disk(path, fill_some)
    steps = (*MIGRATIONS, ("CREATE TABLE extra (a INTEGER) STRICT", "CREATE TABLE broken (a NONSENSE) STRICT"))
    monkeypatch.setattr("gridtide.run.store.file.MIGRATIONS", steps)
    with pytest.raises(StoreError, match="NONSENSE"):
        SqliteStore.open(path, NOW_S)
    good = (*MIGRATIONS, ("CREATE TABLE extra (a INTEGER) STRICT",))
    monkeypatch.setattr("gridtide.run.store.file.MIGRATIONS", good)

    async def use(store: SqliteStore) -> None:
        assert len(store.transaction_events("cs-1", "tx-1")) == 40
        assert store._read(schema_version) == len(good)

    on_disk(path, use)


def test_concurrent_writes_share_commits_and_all_are_kept(tmp_path: Path) -> None:
    async def use(store: SqliteStore) -> None:
        commits = 0

        def count(statement: str) -> None:
            nonlocal commits
            commits += statement == "COMMIT"

        await store._write(lambda connection: connection.set_trace_callback(count))
        answers = await asyncio.gather(*(store.add_transaction_event(transaction(n % 300)) for n in range(400)))
        assert answers == [True] * 300 + [False] * 100
        # The commit of the tracing write itself is counted too.
        assert 400 / 50 <= commits < 400
        assert len(store.transaction_events("cs-1", "tx-1")) == 300

    on_disk(tmp_path / "site.db", use)


def test_one_bad_write_does_not_spoil_its_batch(tmp_path: Path) -> None:
    async def use(store: SqliteStore) -> None:
        def broken(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO states (name, data) VALUES ('half', x'00')")
            connection.execute("INSERT INTO nowhere VALUES (1)")

        answers = await asyncio.gather(
            store.add_transaction_event(transaction(0)),
            store._write(broken),
            store.add_transaction_event(transaction(1)),
            return_exceptions=True,
        )
        assert answers[0] is answers[2] is True
        assert isinstance(answers[1], StoreError)
        assert store.get_state("half") is None
        assert len(store.transaction_events("cs-1", "tx-1")) == 2

    on_disk(tmp_path / "site.db", use)


def test_locked_store_acknowledges_nothing_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "site.db"

    async def use(store: SqliteStore) -> None:
        await store._write(lambda connection: connection.execute("PRAGMA busy_timeout = 1"))
        thief = sqlite3.connect(path, isolation_level=None)
        thief.execute("BEGIN IMMEDIATE")
        store.put_state("demand", b"kept in memory")
        with pytest.raises(StoreError, match="locked"):
            await store.add_transaction_event(transaction(0))
        assert "locked" in str(store.health().failure)
        assert store.health().failed_commits > 0
        assert store.open_transactions() == ()
        thief.execute("ROLLBACK")
        thief.close()
        assert await store.add_transaction_event(transaction(0))
        await store.flush()
        assert store.get_state("demand") == b"kept in memory"
        assert store.health().failure is None

    on_disk(path, use)


def test_oldest_telemetry_makes_room_and_is_counted_transactions_never(tmp_path: Path) -> None:
    async def main() -> None:
        store = SqliteStore.open(tmp_path / "site.db", NOW_S, telemetry_limit=10)
        holding, gate = threading.Event(), threading.Event()

        def hold(_: sqlite3.Connection) -> bool:
            holding.set()
            return gate.wait(30.0)

        held = asyncio.ensure_future(store._write(hold))
        while not holding.is_set():
            await asyncio.sleep(0)
        writes = [asyncio.ensure_future(store.add_transaction_event(transaction(number))) for number in range(60)]
        for step in range(25):
            store.put_telemetry(NOW_S + step, {"a": float(step)})
        await asyncio.sleep(0)
        health = store.health()
        assert (health.telemetry_waiting, health.telemetry_dropped, health.pending) == (10, 15, 60)
        gate.set()
        assert all(await asyncio.gather(*writes))
        assert await held
        await store.flush()
        assert [value for _, value in store.telemetry("a", NOW_S, NOW_S + 99)] == [
            float(step) for step in range(15, 25)
        ]
        await store.close()

    asyncio.run(main())


def test_close_writes_what_is_queued_and_then_refuses(tmp_path: Path) -> None:
    path = tmp_path / "site.db"

    async def queue(store: SqliteStore) -> None:
        for step in range(200):
            store.put_telemetry(NOW_S + step, {"a": float(step)})
        store.put_state("demand", b"last")
        await store.close()
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.add_event(event())
        with pytest.raises(StoreError, match="closed"):
            store.put_state("demand", b"too late")
        with pytest.raises(StoreError, match="closed"):
            store.events()
        store.put_telemetry(NOW_S, {"a": 0.0})
        assert store.health().telemetry_dropped == 1

    async def look(store: SqliteStore) -> None:
        assert len(store.telemetry("a", NOW_S, NOW_S + 999)) == 200
        assert store.get_state("demand") == b"last"

    on_disk(path, queue)
    on_disk(path, look)
    assert [file.name for file in tmp_path.iterdir()] == ["site.db"]


def test_cancelled_wait_does_not_stop_the_store(tmp_path: Path) -> None:
    async def use(store: SqliteStore) -> None:
        waits = [asyncio.ensure_future(store.add_transaction_event(transaction(number))) for number in range(20)]
        await asyncio.sleep(0)
        for wait in waits[::2]:
            wait.cancel()
        assert await asyncio.gather(*waits[1::2]) == [True] * 10
        kept = {row.seq_no for row in store.transaction_events("cs-1", "tx-1")}
        assert kept >= set(range(1, 20, 2))

    on_disk(tmp_path / "site.db", use)


def test_memory_store_rehearses_a_broken_disk() -> None:
    async def main() -> None:
        store = MemoryStore(fails=lambda number: number in (2, 4, 5))
        assert await store.add_transaction_event(transaction(0))
        with pytest.raises(StoreError, match="rehearsed"):
            await store.add_transaction_event(transaction(1))
        assert store.health().failure is not None
        assert await store.add_transaction_event(transaction(1))
        assert store.health().failure is None
        store.put_telemetry(NOW_S, {"a": 1.0})
        store.put_state("demand", b"lost")
        assert (store.health().telemetry_dropped, store.health().failed_commits) == (1, 3)
        assert store.telemetry("a", NOW_S, NOW_S + 1) == []
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            store.events()

    run_sim(main())


def test_a_long_read_of_another_thread_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """The loop's reads have a connection and a lock of their own."""

    async def scenario() -> None:
        store = SqliteStore.open(tmp_path / "s.db", NOW_S)
        began, goes_on = threading.Event(), threading.Event()

        def long_read(connection: sqlite3.Connection) -> int:
            began.set()
            assert goes_on.wait(10.0)
            return int(connection.execute("SELECT 1").fetchone()[0])

        reading = asyncio.create_task(asyncio.to_thread(store._read, long_read))
        await asyncio.to_thread(began.wait, 10.0)
        beside = asyncio.create_task(asyncio.to_thread(goes_on.wait, 3.0))
        assert store.events(1) == (), "this would wait for ever"
        assert not reading.done()
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        goes_on.set()
        assert await reading == 1
        await closing
        await beside
        with pytest.raises(StoreError, match="closed"):
            store.events(1)

    asyncio.run(scenario())
