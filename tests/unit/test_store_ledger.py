"""The registry, station records, the journal and past transactions; the same on disk and in memory."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridtide.run.store import MemoryStore, SqliteStore, Store, StoreRangeError, TransactionEvent
from gridtide.run.store.ledger_sql import ERASED, JOURNAL_ROWS, RECORD_ROWS

NOW_S = 1_780_000_000.0


@pytest.fixture(params=["memory", "file"])
def on_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Any], None]:
    """Runs a scenario on a fresh store of either kind."""

    def run(scenario: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            store = MemoryStore() if request.param == "memory" else SqliteStore.open(tmp_path / "site.db", NOW_S)
            try:
                await scenario(store)
            finally:
                await store.close()

        asyncio.run(whole())

    return run


def started(station: str, transaction: str, seq_no: int = 0, token: str = "card", **fields: Any) -> TransactionEvent:
    payload = {"seqNo": seq_no, "idToken": {"idToken": token, "type": "ISO14443", "additionalInfo": [{"x": 1}]}}
    kind = fields.pop("event_type", "Started")
    return TransactionEvent(
        station_id=station, transaction_id=transaction, seq_no=seq_no, event_type=kind, at_s=NOW_S + seq_no, evse_id=1,
        payload_json=msgspec.json.encode(payload), **fields,
    )  # fmt: skip


def test_the_registry_keeps_and_audits(on_store: Callable[[Any], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.put_entry("token", "b", b'{"n":1}', "ann", NOW_S)
        await store.put_entry("token", "a", b'{"n":2}', "ann", NOW_S)
        await store.put_entry("token", "b", b'{"n":3}', "bob", NOW_S + 1.0)
        await store.put_entry("station", "b", b"{}", "bob", NOW_S)
        assert [(e.key, e.value_json, e.by) for e in store.registry("token")] == [
            ("a", b'{"n":2}', "ann"),
            ("b", b'{"n":3}', "bob"),
        ]
        assert await store.remove_entry("token", "b", "eve", NOW_S)
        assert not await store.remove_entry("token", "b", "eve", NOW_S)
        assert [e.key for e in store.registry("token")] == ["a"]
        assert [(e.actor, e.action) for e in store.audit()][:2] == [("eve", "token.remove"), ("bob", "station.put")]
        assert store.verify_audit().entries == 5

    on_store(scenario)


def test_records_keep_the_latest_or_the_whole(on_store: Callable[[Any], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.put_records("cs", "variable", {"a": b"1", "b": b"2"}, NOW_S)
        await store.put_records("cs", "variable", {"b": b"3"}, NOW_S + 1.0)
        assert [(r.key, r.value_json, r.at_s) for r in store.records("cs", "variable")] == [
            ("a", b"1", NOW_S),
            ("b", b"3", NOW_S + 1.0),
        ]
        await store.put_records("cs", "variable", {"c": b"4"}, NOW_S, is_whole=True)
        assert [r.key for r in store.records("cs", "variable")] == ["c"]
        assert store.records("other", "variable") == ()
        assert await store.remove_records("cs", "variable", ("x", "c")) == 1

    on_store(scenario)


def test_what_a_station_reports_is_bounded(on_store: Callable[[Any], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.put_records("cs", "v", {f"k{n}": b"1" for n in range(RECORD_ROWS)}, NOW_S)
        with pytest.raises(StoreRangeError, match=f"at most {RECORD_ROWS}"):
            await store.put_records("cs", "v", {"one more": b"1"}, NOW_S)
        assert len(store.records("cs", "v")) == RECORD_ROWS

    on_store(scenario)


def test_the_journal_keeps_the_newest_of_each_kind_and_station() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await store.add_journal("cs", "rare", NOW_S, b'"kept"')
        for number in range(JOURNAL_ROWS + 5):
            await store.add_journal("cs", "often", NOW_S, str(number).encode())
        often = store.journal("cs", "often", 10_000)
        assert len(often) == JOURNAL_ROWS
        assert (often[0].value_json, often[-1].value_json) == (str(JOURNAL_ROWS + 4).encode(), b"5")
        assert [e.value_json for e in store.journal("cs", "rare")] == [b'"kept"']
        assert len(store.journal(limit=3)) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("value", [b"", b"{", b"NaN", b'{"a":1e999}', b"\xff"])
def test_what_is_no_json_is_refused_everywhere(value: bytes) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        with pytest.raises(StoreRangeError):
            await store.put_entry("token", "a", value, "ann", NOW_S)
        with pytest.raises(StoreRangeError):
            await store.put_records("cs", "v", {"a": value}, NOW_S)
        with pytest.raises(StoreRangeError):
            await store.add_journal("cs", "v", NOW_S, value)
        assert store.audit() == ()

    asyncio.run(scenario())


def test_past_transactions_are_listed_owned_and_forgotten(on_store: Callable[[Any], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add_transaction_event(started("a", "t1"))
        await store.add_transaction_event(started("a", "t1", 1, event_type="Ended"))
        await store.add_transaction_event(started("b", "t1"))
        await store.add_transaction_event(started("b", "t2", 5))
        heads = store.transactions(NOW_S, NOW_S + 100.0)
        assert [(h.station_id, h.transaction_id, h.ended) for h in heads] == [
            ("b", "t2", False),
            ("a", "t1", True),
            ("b", "t1", False),
        ]
        assert [h.transaction_id for h in store.transactions(NOW_S, NOW_S + 1.0, "b")] == ["t1"]
        assert store.owner_of_transaction("t1", "b") == "b"
        assert store.owner_of_transaction("t1", "c") in ("a", "b")
        assert store.owner_of_transaction("t9", "a") is None
        assert await store.forget_transactions(NOW_S + 50.0) == 1
        assert store.transaction_events("a", "t1") == []
        assert len(store.transactions(0.0, 4e9)) == 2

    on_store(scenario)


def test_an_erased_token_leaves_energy_and_no_name(on_store: Callable[[Any], None]) -> None:
    async def scenario(store: Store) -> None:
        await store.add_transaction_event(started("a", "t1", token="ann's card"))
        await store.add_transaction_event(started("a", "t2", token="other"))
        assert await store.erase_token("ann's card", "admin", NOW_S) == 1
        (event,) = store.transaction_events("a", "t1")
        assert msgspec.json.decode(event.payload_json) == {
            "seqNo": 0,
            "idToken": {"idToken": ERASED, "type": "ISO14443"},
        }
        assert b"other" in store.transaction_events("a", "t2")[0].payload_json
        assert b"ann" not in b"".join(e.detail_json for e in store.audit())

    on_store(scenario)
