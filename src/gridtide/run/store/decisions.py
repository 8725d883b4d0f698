"""The decision log's place in the store: blocks of control cycles, each linked into the audit chain by its SHA-256.

A block and its audit entry are committed together. Blocks go oldest first, and what went is audited too, so that a block that is
missing for any other reason is noticed.
"""

import hashlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from gridtide.run.store import file as store_file
from gridtide.run.store import sql as store_sql
from gridtide.run.store.rows import AuditCheck, AuditEntry, StoreError, StoreRangeError, check_at, check_count

T = TypeVar("T")
BLOCK: Final = "decisions.block"
FORGET: Final = "decisions.forget"
ACTOR: Final = "gridtide"
BLOCK_LIMIT: Final = 64 * 2**20
"""Bytes of one block."""
_COLUMNS: Final = "id, start_s, end_s, cycles, sha256, length(data)"
_OVERLAP: Final = "end_s >= ? AND start_s < ?"


class BlockRow(Struct, frozen=True):
    """One stored block: instants are UTC epoch seconds of its earliest and latest cycle."""

    id: int
    start_s: float
    end_s: float
    cycles: int
    sha256: str
    size_bytes: int


class _Linked(Struct, frozen=True):
    """What the audit entry of a block says."""

    block: int
    start_s: float
    end_s: float
    cycles: int
    sha256: str


class _Forgotten(Struct, frozen=True):
    """What the audit entry of a deletion says: all blocks up to this one."""

    through: int


class BlockCheck(Struct, frozen=True, kw_only=True):
    """Result of comparing the stored blocks with the audit chain."""

    intact: bool
    blocks: int
    """Blocks that are there and as they were linked."""
    first_bad_block: int | None
    why: str = ""


class Decisions(ABC):
    """See `Store`; a part of every store."""

    @abstractmethod
    async def _write(self, write: Callable[[sqlite3.Connection], T]) -> T:
        """Run `write` in a transaction and return its result after the commit."""

    @abstractmethod
    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Run `read` on committed data."""

    async def add_decisions(self, start_s: float, end_s: float, cycles: int, data: bytes, at_s: float) -> int:
        """Keep a block and link it into the audit chain; committed; its id."""
        start_s, end_s, at_s = check_at(start_s, "start_s"), check_at(end_s, "end_s"), check_at(at_s)
        check_count(cycles, "cycles")
        if len(data) > BLOCK_LIMIT:
            raise StoreRangeError(f"data has {len(data)} bytes: give at most {BLOCK_LIMIT}")
        digest = hashlib.sha256(data).hexdigest()
        return await self._write(lambda connection: _add(connection, start_s, end_s, cycles, digest, data, at_s))

    async def forget_decisions(self, before_s: float, most_bytes: int, at_s: float) -> int:
        """Delete the oldest blocks: those that ended before `before_s`, and more until `most_bytes` are left; audited; how many."""
        before_s, at_s = check_at(before_s, "before_s"), check_at(at_s)
        check_count(most_bytes, "most_bytes")
        return await self._write(lambda connection: _forget(connection, before_s, most_bytes, at_s))

    def decision_blocks(self, start_s: float, end_s: float) -> tuple[BlockRow, ...]:
        """Blocks with a cycle in [start_s, end_s) or around it, in the order they were made."""
        return self._read(lambda connection: _blocks(connection, start_s, end_s))

    def decision_block(self, block_id: int) -> bytes | None:
        """The bytes of one block, or None."""
        return self._read(lambda connection: _data(connection, block_id))

    def verify_decisions(self) -> BlockCheck:
        """Compare every block with its audit entry; takes time in proportion to both."""
        return self._read(verify_decisions)

    def acts(self, limit: int = 100) -> tuple[AuditEntry, ...]:
        """The newest audit entries without those of blocks, newest first."""
        check_count(limit, "limit")
        return self._read(lambda connection: _acts(connection, limit))


class StoreReader(Decisions):
    """A store's log and audit chain, to be read only, also while gridtide runs on it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Use `StoreReader.open`."""
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> "StoreReader":
        """Raises StoreError for a file that is not there, not ours, or older than the decision log."""
        if not path.is_file():
            raise StoreError(f"store {path} does not exist: name the file of `store.path` with --store")
        try:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=store_file.BUSY_S)
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        except sqlite3.Error as error:
            raise StoreError(f"store {path} cannot be read: {error}") from error
        if not {"audit", "decisions"} <= tables:
            connection.close()
            raise StoreError(f"store {path} holds no decision log: it is no store, or older; `gridtide run` renews it")
        return cls(connection)

    def verify_audit(self) -> AuditCheck:
        """Walk the whole hash chain."""
        return self._read(store_sql.verify_audit)

    def close(self) -> None:
        """End reading."""
        self._connection.close()

    async def _write(self, _: Callable[[sqlite3.Connection], T]) -> T:
        raise StoreError("this store is open for reading only")

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return read(self._connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise StoreError(f"not readable: {error}") from error


def _add(
    connection: sqlite3.Connection, start_s: float, end_s: float, cycles: int, digest: str, data: bytes, at_s: float
) -> int:
    cursor = connection.execute(
        "INSERT INTO decisions (start_s, end_s, cycles, sha256, data) VALUES (?, ?, ?, ?, ?)",
        (start_s, end_s, cycles, digest, data),
    )
    block = int(cursor.lastrowid or 0)
    detail = msgspec.json.encode(_Linked(block, start_s, end_s, cycles, digest)).decode()
    store_sql.append_audit(connection, at_s, ACTOR, BLOCK, detail)
    return block


def _forget(connection: sqlite3.Connection, before_s: float, most_bytes: int, at_s: float) -> int:
    rows = connection.execute("SELECT id, end_s, length(data) FROM decisions ORDER BY id").fetchall()
    left_bytes, through = sum(size for _, _, size in rows), 0
    for block, end_s, size in rows:
        if end_s >= before_s and left_bytes <= most_bytes:
            break
        left_bytes, through = left_bytes - size, block
    if not through:
        return 0
    gone = connection.execute("DELETE FROM decisions WHERE id <= ?", (through,)).rowcount
    detail = msgspec.json.encode(_Forgotten(through)).decode()
    store_sql.append_audit(connection, at_s, ACTOR, FORGET, detail)
    return gone


def _blocks(connection: sqlite3.Connection, start_s: float, end_s: float) -> tuple[BlockRow, ...]:
    query = f"SELECT {_COLUMNS} FROM decisions WHERE {_OVERLAP} ORDER BY id"  # noqa: S608 - constants
    return tuple(BlockRow(*row) for row in connection.execute(query, (start_s, end_s)))


def _data(connection: sqlite3.Connection, block_id: int) -> bytes | None:
    row = connection.execute("SELECT data FROM decisions WHERE id = ?", (block_id,)).fetchone()
    return None if row is None else bytes(row[0])


def _acts(connection: sqlite3.Connection, limit: int) -> tuple[AuditEntry, ...]:
    query = (
        "SELECT id, at_s, actor, action, detail_json, prev_hash, hash FROM audit WHERE action != 'decisions.block' "
        "ORDER BY id DESC LIMIT ?"
    )
    return tuple(
        AuditEntry(
            id=row_id, at_s=at_s, actor=actor, action=action, detail_json=detail.encode(), prev_hash=prev_hash, hash=own
        )
        for row_id, at_s, actor, action, detail, prev_hash, own in connection.execute(query, (limit,))
    )  # fmt: skip


def verify_decisions(connection: sqlite3.Connection) -> BlockCheck:
    """Every block as it was linked, none missing but those whose deletion is audited, none that nobody linked."""
    linked = {item.block: item for item in _entries(connection, BLOCK, _Linked)}
    through = max((item.through for item in _entries(connection, FORGET, _Forgotten)), default=0)
    good = 0
    here: set[int] = set()
    for block, start_s, end_s, cycles, digest, data in connection.execute(
        "SELECT id, start_s, end_s, cycles, sha256, data FROM decisions ORDER BY id"
    ):
        found = _Linked(block, start_s, end_s, cycles, hashlib.sha256(data).hexdigest())
        if block not in linked:
            return BlockCheck(intact=False, blocks=good, first_bad_block=block, why="no audit entry names it")
        if digest != found.sha256 or linked[block] != found:
            return BlockCheck(intact=False, blocks=good, first_bad_block=block, why="it is not what was linked")
        here.add(block)
        good += 1
    missing = sorted(block for block in linked if block not in here and block > through)
    if missing:
        return BlockCheck(intact=False, blocks=good, first_bad_block=missing[0], why="it is missing")
    return BlockCheck(intact=True, blocks=good, first_bad_block=None)


def _entries(connection: sqlite3.Connection, action: str, kind: type[T]) -> Iterator[T]:
    for (detail,) in connection.execute("SELECT detail_json FROM audit WHERE action = ? ORDER BY id", (action,)):
        try:
            yield msgspec.json.decode(detail, type=kind)
        except msgspec.DecodeError:
            continue  # the chain's own walk tells of an entry that was changed
