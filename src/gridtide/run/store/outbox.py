"""Alarms that stand and messages that wait to be delivered, kept together: a restart neither loses a message nor says it twice."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from gridtide.run.store.rows import check_at, check_count, check_text

T = TypeVar("T")
BODY_LIMIT = 16_384
"""Characters of one message."""


class Alarm(Struct, frozen=True):
    """A condition that was told and has not been told to be over."""

    code: str
    source: str
    uuid: str
    """Of the message that told it."""
    raised_s: float
    latest_s: float
    """UTC epoch seconds of its latest repetition."""


class Message(Struct, frozen=True):
    """One message for the receiver: `uuid` is its idempotency key."""

    uuid: str
    at_s: float
    body: str
    """JSON, signed as it stands here."""


class Outbox(ABC):
    """See `Store`; a part of every store."""

    @abstractmethod
    async def _write(self, write: Callable[[sqlite3.Connection], T]) -> T:
        """Run `write` in a transaction and return its result after the commit."""

    @abstractmethod
    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Run `read` on committed data."""

    async def raise_alarm(self, alarm: Alarm, message: Message, most: int) -> bool:
        """Note an alarm and queue its message; committed. False, and nothing is queued, if it stands already."""
        _check(alarm, message, most)
        return await self._write(lambda connection: _raise(connection, alarm, message, most))

    async def clear_alarm(self, alarm: Alarm, message: Message | None, most: int) -> bool:
        """End an alarm and queue the message that says so, if any; committed. False if it does not stand."""
        if message is not None:
            _check(alarm, message, most)
        return await self._write(lambda connection: _clear(connection, alarm, message, most))

    async def delivered(self, uuid: str) -> None:
        """The receiver has it: forget the message; committed."""
        await self._write(lambda connection: connection.execute("DELETE FROM outbox WHERE uuid = ?", (uuid,)))

    def alarms(self) -> tuple[Alarm, ...]:
        """Alarms that stand, oldest first."""
        return self._read(_alarms)

    def outbox(self, limit: int = 1) -> tuple[Message, ...]:
        """Messages that wait, oldest first."""
        check_count(limit, "limit")
        return self._read(lambda connection: _outbox(connection, limit))

    def outbox_size(self) -> int:
        """How many messages wait."""
        return self._read(lambda connection: int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0]))


def _check(alarm: Alarm, message: Message, most: int) -> None:
    check_text(alarm.code, "code")
    check_text(alarm.source, "source")
    check_at(alarm.latest_s, "latest_s")
    check_text(message.uuid, "uuid")
    check_text(message.body, "body", BODY_LIMIT)
    check_at(message.at_s)
    check_count(most, "most")


def _raise(connection: sqlite3.Connection, alarm: Alarm, message: Message, most: int) -> bool:
    standing = connection.execute(
        "UPDATE alarms SET latest_s = max(latest_s, ?) WHERE code = ? AND source = ?",
        (alarm.latest_s, alarm.code, alarm.source),
    )
    if standing.rowcount:
        return False
    connection.execute(
        "INSERT INTO alarms (code, source, uuid, raised_s, latest_s) VALUES (?, ?, ?, ?, ?)",
        (alarm.code, alarm.source, alarm.uuid, alarm.raised_s, alarm.latest_s),
    )
    _queue(connection, message, most)
    return True


def _clear(connection: sqlite3.Connection, alarm: Alarm, message: Message | None, most: int) -> bool:
    gone = connection.execute("DELETE FROM alarms WHERE uuid = ?", (alarm.uuid,)).rowcount
    if gone and message is not None:
        _queue(connection, message, most)
    return bool(gone)


def _queue(connection: sqlite3.Connection, message: Message, most: int) -> None:
    """The oldest make room: what stands now matters more than what stood."""
    connection.execute(
        "INSERT INTO outbox (uuid, at_s, body) VALUES (?, ?, ?)", (message.uuid, message.at_s, message.body)
    )
    connection.execute(
        "DELETE FROM outbox WHERE id <= (SELECT id FROM outbox ORDER BY id DESC LIMIT 1 OFFSET ?)", (most,)
    )


def _alarms(connection: sqlite3.Connection) -> tuple[Alarm, ...]:
    rows = connection.execute("SELECT code, source, uuid, raised_s, latest_s FROM alarms ORDER BY raised_s, uuid")
    return tuple(Alarm(*row) for row in rows)


def _outbox(connection: sqlite3.Connection, limit: int) -> tuple[Message, ...]:
    return tuple(
        Message(*row) for row in connection.execute("SELECT uuid, at_s, body FROM outbox ORDER BY id LIMIT ?", (limit,))
    )
