"""The store's calls about the registry, station records, the journal and past transactions; checked, then run as SQL."""

import hashlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from gridtide.run.store import ledger_sql, transactions_sql
from gridtide.run.store.rows import (
    JournalEntry,
    RegistryEntry,
    StationRecord,
    TransactionHead,
    check_at,
    check_count,
    check_finite,
    check_json,
    check_text,
)

T = TypeVar("T")
PERSONAL = frozenset({"token", "driver_link"})
"""Kinds of entries about people."""
KEY_LIMIT = 512
"""Characters of a record's key: component, instance, EVSE and variable make one."""


class Ledger(ABC):
    """See `Store`; a part of every store."""

    @abstractmethod
    async def _write(self, write: Callable[[sqlite3.Connection], T]) -> T:
        """Run `write` in a transaction and return its result after the commit."""

    @abstractmethod
    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Run `read` on committed data."""

    async def put_entry(self, kind: str, key: str, value_json: bytes, actor: str, at_s: float) -> None:
        """Register or replace an entry; committed together with an audit entry."""
        check_text(kind, "kind")
        check_text(key, "key", KEY_LIMIT)
        check_json(value_json, "value_json")
        audit = check_json(_audited(kind, key, value_json), "value_json")
        check_text(actor, "actor")
        entry = RegistryEntry(kind=kind, key=key, value_json=value_json, changed_s=check_at(at_s), by=actor)
        await self._write(lambda connection: ledger_sql.put_entry(connection, entry, audit))

    async def remove_entry(self, kind: str, key: str, actor: str, at_s: float) -> bool:
        """Remove an entry; committed with an audit entry. False if there is none."""
        check_text(actor, "actor")
        at_s = check_at(at_s)
        audit = check_json(_audited(kind, key), "key")
        return await self._write(lambda connection: ledger_sql.remove_entry(connection, kind, key, actor, at_s, audit))

    def registry(self, kind: str) -> tuple[RegistryEntry, ...]:
        """All entries of a kind by key."""
        return self._read(lambda connection: ledger_sql.read_registry(connection, kind))

    async def put_records(
        self, station_id: str, kind: str, rows: Mapping[str, bytes], at_s: float, *, is_whole: bool = False
    ) -> None:
        """Keep the latest JSON of each key of a station; `is_whole`: keys not given are forgotten. Committed."""
        check_text(station_id, "station_id")
        check_text(kind, "kind")
        at_s = check_at(at_s)
        checked = {check_text(key, "key", KEY_LIMIT): check_json(value, key[:40]) for key, value in rows.items()}
        await self._write(
            lambda connection: ledger_sql.put_records(connection, station_id, kind, checked, at_s, is_whole)
        )

    async def remove_records(self, station_id: str, kind: str, keys: tuple[str, ...] | None = None) -> int:
        """Forget a station's records of a kind, or those of some keys; committed; how many went."""
        return await self._write(lambda connection: ledger_sql.remove_records(connection, station_id, kind, keys))

    def records(self, station_id: str, kind: str) -> tuple[StationRecord, ...]:
        """A station's records of a kind by key."""
        return self._read(lambda connection: ledger_sql.read_records(connection, station_id, kind))

    async def add_journal(self, station_id: str, kind: str, at_s: float, value_json: bytes) -> int:
        """Add what a station told once; committed; of each kind and station the newest thousand are kept."""
        check_text(station_id, "station_id")
        check_text(kind, "kind")
        at_s, value = check_at(at_s), check_json(value_json, "value_json")
        return await self._write(lambda connection: ledger_sql.add_journal(connection, station_id, kind, at_s, value))

    def journal(
        self, station_id: str | None = None, kind: str | None = None, limit: int = 100
    ) -> tuple[JournalEntry, ...]:
        """What stations told, newest first."""
        check_count(limit, "limit")
        return self._read(lambda connection: ledger_sql.read_journal(connection, station_id, kind, limit))

    def transactions(
        self, start_s: float, end_s: float, station_id: str | None = None, limit: int = 1_000
    ) -> tuple[TransactionHead, ...]:
        """Transactions that began in [start_s, end_s), newest first."""
        check_finite(start_s, "start_s")
        check_finite(end_s, "end_s")
        check_count(limit, "limit")
        return self._read(
            lambda connection: ledger_sql.read_transactions(connection, start_s, end_s, station_id, limit)
        )

    def transaction_head(self, station_id: str, transaction_id: str) -> TransactionHead | None:
        """One transaction in short, or None."""
        return self._read(lambda connection: ledger_sql.read_head(connection, station_id, transaction_id))

    def owner_of_transaction(self, transaction_id: str, asking: str) -> str | None:
        """The station that has a transaction of this id, `asking` itself before any other; or None."""
        return self._read(lambda connection: ledger_sql.owner_of_transaction(connection, transaction_id, asking))

    async def erase_token(self, id_token: str, actor: str, at_s: float) -> int:
        """Make all transactions and journal entries of a token anonymous; committed with an audit entry; how many changed."""
        check_text(id_token, "id_token")
        check_text(actor, "actor")
        at_s = check_at(at_s)
        return await self._write(lambda connection: ledger_sql.erase_token(connection, id_token, actor, at_s))

    async def forget_transactions(self, before_s: float) -> int:
        """Delete ended transactions whose last event is older; committed; how many went."""
        before_s = check_at(before_s, "before_s")
        return await self._write(lambda connection: transactions_sql.forget_transactions(connection, before_s))


def _audited(kind: str, key: str, value_json: bytes = b"") -> bytes:
    """What the audit says of a change. The chain cannot forget: of what may have to be forgotten it holds a digest alone."""
    if kind in PERSONAL:
        return msgspec.json.encode({"key_sha256": hashlib.sha256(key.encode()).hexdigest()})
    return msgspec.json.encode({"key": key, **({"new": msgspec.Raw(value_json)} if value_json else {})})
