"""The calls both stores share: check the values, then run the statements wherever the store at hand runs them."""

import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from gridtide.run.store import sql as store_sql
from gridtide.run.store import transactions_sql
from gridtide.run.store.decisions import Decisions
from gridtide.run.store.ledger import Ledger
from gridtide.run.store.outbox import Outbox
from gridtide.run.store.rows import (
    AuditCheck,
    AuditEntry,
    OpenTransaction,
    StoredEvent,
    StoreRangeError,
    TransactionEvent,
    check_at,
    check_count,
    check_event,
    check_finite,
    check_json,
    check_text,
    check_transaction_event,
)

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], T]
"""One write: statements on a connection inside a transaction."""
TELEMETRY_READ_LIMIT: Final = 20_000
"""Points one telemetry read returns at most, unless told otherwise."""


class SqlStore(Ledger, Decisions, Outbox):
    """What `Store` promises, but for where statements run, queues and closing."""

    @abstractmethod
    async def _write(self, write: Write[T]) -> T:
        """Run `write` in a transaction and return its result after the commit."""

    @abstractmethod
    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Run `read` on committed data."""

    @abstractmethod
    def _put_rows(self, rows: list[store_sql.TelemetryRow], refused: int) -> None:
        """Take checked telemetry."""

    @abstractmethod
    def _post(self, write: Write[T], done: Callable[[T | None, Exception | None], None]) -> None:
        """`_write` without a task: `done` gets the result or the error, on the running loop, after the commit."""

    async def add_transaction_event(self, event: TransactionEvent) -> bool:
        """See `Store`."""
        check_transaction_event(event)
        return await self._write(transactions_sql.AddTransactionEvent(event))

    def post_transaction_event(
        self, event: TransactionEvent, done: Callable[[bool | None, Exception | None], None]
    ) -> None:
        """See `Store`."""
        check_transaction_event(event, is_json=True)
        self._post(transactions_sql.AddTransactionEvent(event), done)

    async def add_event(self, event: StoredEvent) -> int:
        """See `Store`."""
        check_event(event)
        return await self._write(lambda connection: store_sql.add_event(connection, event))

    async def mark_event_seen(self, event_id: int, actor: str, at_s: float) -> bool:
        """See `Store`."""
        check_count(event_id, "event_id")
        at_s = _check_act(actor, at_s)
        return await self._write(lambda connection: store_sql.mark_event_seen(connection, event_id, actor, at_s))

    async def put_setting(self, key: str, value_json: bytes, actor: str, at_s: float) -> None:
        """See `Store`."""
        check_text(key, "key")
        value = check_json(value_json, "value_json")
        at_s = _check_act(actor, at_s)
        await self._write(lambda connection: store_sql.put_setting(connection, key, value, actor, at_s))

    async def append_audit(self, at_s: float, actor: str, action: str, detail_json: bytes) -> int:
        """See `Store`."""
        at_s = _check_act(actor, at_s)
        check_text(action, "action")
        detail = check_json(detail_json, "detail_json")
        return await self._write(lambda connection: store_sql.append_audit(connection, at_s, actor, action, detail))

    async def forget_telemetry(self, before_s: float) -> int:
        """See `Store`."""
        before_s = check_at(before_s, "before_s")
        return await self._write(lambda connection: store_sql.forget_telemetry(connection, before_s))

    def put_telemetry(self, t_s: float, rows: Mapping[str, float]) -> None:
        """See `Store`."""
        t_s = check_at(t_s, "t_s")
        good: list[store_sql.TelemetryRow] = []
        for series, value in rows.items():
            check_text(series, "series")
            try:
                good.append((t_s, series, check_finite(value, series)))
            except StoreRangeError:
                # A meter's fault, not the caller's: it must not end a control cycle. Counted as refused.
                continue
        self._put_rows(good, len(rows) - len(good))

    def get_state(self, name: str) -> bytes | None:
        """See `Store`."""
        return self._read(lambda connection: store_sql.read_state(connection, name))

    def settings(self) -> dict[str, bytes]:
        """See `Store`."""
        return self._read(store_sql.read_settings)

    def events(self, limit: int = 100) -> tuple[StoredEvent, ...]:
        """See `Store`."""
        check_count(limit, "limit")
        return self._read(lambda connection: store_sql.read_events(connection, limit))

    def audit(self, limit: int = 100) -> tuple[AuditEntry, ...]:
        """See `Store`."""
        check_count(limit, "limit")
        return self._read(lambda connection: store_sql.read_audit(connection, limit))

    def verify_audit(self) -> AuditCheck:
        """See `Store`."""
        return self._read(store_sql.verify_audit)

    def open_transactions(self) -> tuple[OpenTransaction, ...]:
        """See `Store`."""
        return self._read(transactions_sql.read_open_transactions)

    def transaction_events(
        self, station_id: str, transaction_id: str, first_seq_no: int = 0, limit: int | None = None
    ) -> list[TransactionEvent]:
        """See `Store`."""
        most = -1 if limit is None else check_count(limit, "limit")
        return self._read(
            lambda connection: transactions_sql.read_transaction(
                connection, station_id, transaction_id, first_seq_no, most
            )
        )

    def telemetry(
        self, series: str, start_s: float, end_s: float, limit: int = TELEMETRY_READ_LIMIT
    ) -> list[tuple[float, float]]:
        """See `Store`."""
        check_finite(start_s, "start_s")
        check_finite(end_s, "end_s")
        check_count(limit, "limit")
        return self._read(lambda connection: store_sql.read_telemetry(connection, series, start_s, end_s, limit))


def _check_act(actor: str, at_s: float) -> float:
    check_text(actor, "actor")
    return check_at(at_s)
