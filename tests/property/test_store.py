"""Whatever is written in whatever batches: doubles are ignored, and a reopened store holds all it acknowledged."""

import asyncio
import contextlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.run.simloop import run_sim
from gridtide.run.store import (
    MemoryStore,
    SqliteStore,
    Store,
    StoredEvent,
    StoreError,
    StoreRangeError,
    TransactionEvent,
)

NOW_S = 1_767_268_800.0
instants = st.floats(946_684_800.0, 4_102_444_800.0, exclude_max=True)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
transactions = st.builds(
    TransactionEvent,
    station_id=st.sampled_from(["cs-1", "cs-2"]),
    transaction_id=st.sampled_from(["a", "b", "ü"]),
    seq_no=st.integers(0, 6) | st.just(2**63 - 1),
    event_type=st.sampled_from(["Started", "Updated", "Ended"]),
    at_s=instants,
    evse_id=st.none() | st.integers(0, 4),
    payload_json=st.binary(max_size=20).map(msgspec.json.encode),
)
events = st.builds(
    StoredEvent,
    at_s=instants,
    code=st.sampled_from(["x", "y"]),
    title=names,
    text=names,
    severity=st.sampled_from(["info", "warning", "alarm"]),
    source=st.sampled_from(["m", "n"]),
)
put_settings = st.tuples(names, st.floats(allow_nan=False, allow_infinity=False).map(msgspec.json.encode), instants)
batches = st.lists(st.lists(transactions | events | put_settings, max_size=12), max_size=8)
Item = TransactionEvent | StoredEvent | tuple[str, bytes, float]


async def write(store: Store, item: Item) -> bool | int | None:
    if isinstance(item, TransactionEvent):
        return await store.add_transaction_event(item)
    if isinstance(item, StoredEvent):
        return await store.add_event(item)
    await store.put_setting(item[0], item[1], "ana", item[2])
    return None


def check_against(store: Store, items: list[Item], answers: list[Any]) -> None:
    """The store holds exactly what `items`, written in that order and answered by `answers`, must leave."""
    kept: dict[tuple[str, str, int], TransactionEvent] = {}
    for item, answer in zip(items, answers, strict=True):
        if isinstance(item, TransactionEvent):
            key = (item.station_id, item.transaction_id, item.seq_no)
            assert answer is (key not in kept)
            kept.setdefault(key, item)
    for station, transaction in {key[:2] for key in kept}:
        expected = [kept[key] for key in sorted(kept) if key[:2] == (station, transaction)]
        assert store.transaction_events(station, transaction) == expected
    ended = {key[:2] for key, row in kept.items() if row.event_type == "Ended"}
    open_now = store.open_transactions()
    assert {(row.station_id, row.transaction_id) for row in open_now} == {key[:2] for key in kept} - ended
    for row in open_now:
        own = [event for key, event in kept.items() if key[:2] == (row.station_id, row.transaction_id)]
        assert (row.events, row.last_seq_no) == (len(own), max(event.seq_no for event in own))
        assert (row.started_s, row.last_s) == (min(event.at_s for event in own), max(event.at_s for event in own))
    counts = Counter((item.code, item.source) for item in items if isinstance(item, StoredEvent))
    assert {(row.code, row.source): row.count for row in store.events()} == counts
    settings_written = [item for item in items if isinstance(item, tuple)]
    assert store.settings() == {key: value for key, value, _ in settings_written}
    check = store.verify_audit()
    assert (check.intact, check.entries) == (True, len(settings_written))


@given(batches)
@settings(max_examples=60, deadline=None)
def test_memory_store_is_exact(written: list[list[Item]]) -> None:
    async def main() -> None:
        store = MemoryStore()
        items = [item for batch in written for item in batch]
        check_against(store, items, [await write(store, item) for item in items])

    run_sim(main())


@given(batches, st.data())
@settings(max_examples=25, deadline=None)
def test_reopened_store_holds_all_that_was_acknowledged(written: list[list[Item]], data: st.DataObject) -> None:
    async def main(path: Path) -> None:
        store = SqliteStore.open(path, NOW_S)
        items: list[Item] = []
        answers: list[Any] = []
        try:
            for batch in written:
                items += batch
                answers += await asyncio.gather(*(write(store, item) for item in batch))
                if data.draw(st.booleans()):
                    await store.close()
                    store = SqliteStore.open(path, NOW_S)
            check_against(store, items, answers)
            await store.close()
            store = SqliteStore.open(path, NOW_S)
            assert store.moved_to is None
            check_against(store, items, answers)
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder) / "site.db"))


@given(st.dictionaries(names, st.floats(), max_size=6), instants)
@settings(max_examples=60, deadline=None)
def test_finite_telemetry_comes_back_exactly_and_the_rest_is_counted(rows: dict[str, float], t_s: float) -> None:
    async def main() -> None:
        store = MemoryStore()
        store.put_telemetry(t_s, rows)
        kept = {name: store.telemetry(name, t_s, t_s + 1.0) for name in rows}
        finite = {name: value for name, value in rows.items() if abs(value) < float("inf")}
        assert {name: points for name, points in kept.items() if points} == {
            name: [(t_s, value)] for name, value in finite.items()
        }
        assert store.health().telemetry_refused == len(rows) - len(finite)

    run_sim(main())


@given(st.binary(max_size=60) | st.text(max_size=30).map(str.encode), st.text(max_size=300), st.floats())
@settings(max_examples=150, deadline=None)
def test_any_input_is_stored_whole_or_refused_with_the_field(value: bytes, key: str, at_s: float) -> None:
    async def main() -> None:
        store = MemoryStore()
        refused = None
        try:
            await store.put_setting(key, value, key, at_s)
        except StoreRangeError as error:
            refused = str(error).split()[0]
        assert refused in {None, "key", "value_json", "actor", "at_s"}
        assert store.settings() == ({} if refused else {key: value})
        assert len(store.audit()) == (0 if refused else 1)
        assert store.verify_audit().intact

    run_sim(main())


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_damaged_bytes_never_pass_for_an_empty_store(data: st.DataObject) -> None:
    """Cut or overwritten anywhere: the rows are all there, or the file was moved aside and an event says so."""

    async def fill(path: Path) -> None:
        store = SqliteStore.open(path, NOW_S)
        await asyncio.gather(*(store.put_setting(f"k{n}", b'"' + b"x" * 300 + b'"', "ana", NOW_S) for n in range(30)))
        await store.close()

    async def look(path: Path) -> None:
        store = SqliteStore.open(path, NOW_S)
        try:
            told = [event.code for event in store.events()]
            if store.moved_to is None:
                assert len(store.settings()) == 30
            else:
                assert store.moved_to.exists()
                assert told == ["store_damaged"]
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "site.db"
        asyncio.run(fill(path))
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        else:
            start = data.draw(st.integers(0, len(content) - 1))
            junk = data.draw(st.binary(min_size=1, max_size=64)) * data.draw(st.integers(1, 100))
            content[start : start + len(junk)] = junk
        path.write_bytes(content)
        # Refusing to start with a clear word is allowed (a flipped schema looks foreign or newer); silence is not.
        with contextlib.suppress(StoreError):
            asyncio.run(look(path))
