"""Opening the store's file: its schema and migrations, its mode, who holds it, and what happens when it is damaged.

A damaged file is never deleted and never silently replaced: it is moved aside under a dated name and the caller told.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gridtide.run.store import wal
from gridtide.run.store.rows import StoreError

BUSY_S: Final = 1.0
"""How long a write waits for another process's lock; half of the 2 s within which a broken store must be told."""
CHECK_LIMIT_BYTES: Final = 64 * 2**20
"""Files up to this size are checked whole when opened (some 10 ms a MB); larger ones would delay the restart."""
CHECKPOINT_PAGES: Final = 4_000
"""Pages of log (16 MB) before they are folded back: pages written often are then written back once."""
SMALLEST_BYTES: Final = 512
"""The smallest page a database can have."""
PID_BYTES: Final = 20
"""More than any process id has digits."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE series (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
        """CREATE TABLE telemetry (series INTEGER NOT NULL REFERENCES series, t_s REAL NOT NULL, value REAL NOT NULL,
           PRIMARY KEY (series, t_s)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE transactions (station_id TEXT NOT NULL, transaction_id TEXT NOT NULL, seq_no INTEGER NOT NULL,
           event_type TEXT NOT NULL, at_s REAL NOT NULL, evse_id INTEGER, payload_json TEXT NOT NULL,
           PRIMARY KEY (station_id, transaction_id, seq_no)) STRICT""",
        """CREATE TABLE transaction_heads (station_id TEXT NOT NULL, transaction_id TEXT NOT NULL, evse_id INTEGER,
           started_s REAL NOT NULL, last_s REAL NOT NULL, last_seq_no INTEGER NOT NULL, events INTEGER NOT NULL,
           ended INTEGER NOT NULL, PRIMARY KEY (station_id, transaction_id)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX transactions_open ON transaction_heads (started_s) WHERE ended = 0",
        """CREATE TABLE settings (key TEXT PRIMARY KEY, value_json TEXT NOT NULL, changed_at REAL NOT NULL,
           "by" TEXT NOT NULL) STRICT""",
        """CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, actor TEXT NOT NULL,
           action TEXT NOT NULL, detail_json TEXT NOT NULL, prev_hash TEXT NOT NULL, hash TEXT NOT NULL) STRICT""",
        """CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, code TEXT NOT NULL,
           title TEXT NOT NULL, text TEXT NOT NULL, severity TEXT NOT NULL, source TEXT NOT NULL,
           count INTEGER NOT NULL, seen INTEGER NOT NULL) STRICT""",
        "CREATE INDEX events_by_time ON events (at_s, id)",
        "CREATE UNIQUE INDEX events_unseen ON events (code, source) WHERE seen = 0",
        "CREATE TABLE states (name TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT",
    ),
    (
        """CREATE TABLE registry (kind TEXT NOT NULL, key TEXT NOT NULL, value_json TEXT NOT NULL, changed_s REAL NOT NULL,
           "by" TEXT NOT NULL, PRIMARY KEY (kind, key)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE records (station_id TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, at_s REAL NOT NULL,
           value_json TEXT NOT NULL, PRIMARY KEY (station_id, kind, key)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE journal (id INTEGER PRIMARY KEY AUTOINCREMENT, station_id TEXT NOT NULL, kind TEXT NOT NULL,
           at_s REAL NOT NULL, value_json TEXT NOT NULL) STRICT""",
        "CREATE INDEX journal_by_station ON journal (station_id, kind, id)",
        "CREATE INDEX transactions_by_id ON transaction_heads (transaction_id)",
        "CREATE INDEX transactions_by_start ON transaction_heads (started_s)",
    ),
    (
        """CREATE TABLE decisions (id INTEGER PRIMARY KEY AUTOINCREMENT, start_s REAL NOT NULL, end_s REAL NOT NULL,
           cycles INTEGER NOT NULL, sha256 TEXT NOT NULL, data BLOB NOT NULL) STRICT""",
        "CREATE INDEX decisions_by_end ON decisions (end_s)",
        "CREATE INDEX audit_acts ON audit (id) WHERE action != 'decisions.block'",
        "CREATE INDEX audit_by_action ON audit (action, id)",
        """CREATE TABLE alarms (code TEXT NOT NULL, source TEXT NOT NULL, uuid TEXT NOT NULL UNIQUE, raised_s REAL NOT NULL,
           latest_s REAL NOT NULL, PRIMARY KEY (code, source)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, at_s REAL NOT NULL,
           body TEXT NOT NULL) STRICT""",
    ),
    (
        # Events as they came, each naming the one before it: see `transactions_sql`.
        """CREATE TABLE events_in_order (id INTEGER PRIMARY KEY, station_id TEXT NOT NULL, transaction_id TEXT NOT NULL,
           seq_no INTEGER NOT NULL, event_type TEXT NOT NULL, at_s REAL NOT NULL, evse_id INTEGER, payload_json TEXT NOT NULL,
           prev_id INTEGER CHECK (prev_id < id)) STRICT""",
        """INSERT INTO events_in_order SELECT rowid, station_id, transaction_id, seq_no, event_type, at_s, evse_id, payload_json,
           lag(rowid) OVER (PARTITION BY station_id, transaction_id ORDER BY rowid) FROM transactions ORDER BY rowid""",
        """CREATE TABLE transaction_gaps (station_id TEXT NOT NULL, transaction_id TEXT NOT NULL, first_seq_no INTEGER NOT NULL,
           last_seq_no INTEGER NOT NULL, PRIMARY KEY (station_id, transaction_id, first_seq_no)) STRICT, WITHOUT ROWID""",
        """INSERT INTO transaction_gaps SELECT station_id, transaction_id, before + 1, seq_no - 1 FROM
           (SELECT station_id, transaction_id, seq_no, lag(seq_no, 1, -1) OVER
            (PARTITION BY station_id, transaction_id ORDER BY seq_no) AS before FROM transactions) WHERE seq_no > before + 1""",
        "ALTER TABLE transaction_heads ADD COLUMN last_id INTEGER NOT NULL DEFAULT 0",
        """UPDATE transaction_heads SET last_id = newest.id FROM (SELECT station_id, transaction_id, max(rowid) AS id
           FROM transactions GROUP BY station_id, transaction_id) AS newest
           WHERE transaction_heads.station_id = newest.station_id AND transaction_heads.transaction_id = newest.transaction_id""",
        "DROP TABLE transactions",
        "ALTER TABLE events_in_order RENAME TO transactions",
    ),
)
"""Statements that lead from schema version n to n + 1; only ever append."""


class StoreHeldError(ValueError):
    """Another site runs on this store: two would steer the same vehicles against each other."""


@contextmanager
def held_by_site(path: Path) -> Iterator[None]:
    """Keep every other site off the store at `path` until the end; nobody else is kept from reading or writing it.

    The lock lies on `<path>.lock`, which stays; the system gives the lock back however this process ends. Raises
    `StoreHeldError` naming who holds it, OSError where no lock can be taken at all.
    """
    real = path.resolve()
    descriptor = os.open(real.with_name(f"{real.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take_lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _take_lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.pread(descriptor, PID_BYTES, 0).decode("ascii", "replace").strip()
        holder = f"process {told}" if told.isdigit() else "another process"
        raise StoreHeldError(
            f"store {path} is in use: {holder} runs a site on it; stop that one, or give this site a store of its own "
            "([store] path)"
        ) from None
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}: store {path} cannot be locked; put it on a local disk"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def connect(target: str) -> sqlite3.Connection:
    """A connection to `target` (a path or `:memory:`) that leaves every BEGIN and COMMIT to us."""
    connection = sqlite3.connect(target, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that leaves file and log as they are, also when it is closed."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None)


def open_file(
    path: Path, now_s: float, recover: Callable[[Path, Path], None] = lambda _path, _moved: None
) -> tuple[sqlite3.Connection, Path | None]:
    """The write connection to the store at `path`, made or brought up to date; second, where a damaged one went.

    Mode 0600. `now_s`: UTC epoch seconds, dates the name of a damaged file. `recover` is told the path and where the damaged file
    is now, and may put another in its place. Raises `StoreError` for a file that is
    sound but not ours (foreign tables, newer schema) and for one that cannot be opened at all.
    """
    try:
        return _open_sound(path), None
    except sqlite3.OperationalError as error:
        raise StoreError(f"store {path} cannot be opened: {error}; check its folder, owner and free space") from error
    except OSError as error:
        raise StoreError(f"store {path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError:
        # Only damage gets here: locks, permissions and full disks are OperationalError.
        try:
            moved = move_aside(path, now_s)
            recover(path, moved)
            return _open_sound(path), moved
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"store {path} is damaged and cannot be replaced: {error}") from error


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to the newest version, one transaction a step; `StoreError` if it is not ours or newer."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if tables and "schema_version" not in tables:
        raise StoreError(
            f"not a gridtide store: it holds the tables {', '.join(sorted(tables)[:5])}; name another file"
        )
    version = schema_version(connection) if tables else 0
    if version > len(MIGRATIONS):
        raise StoreError(f"store has schema {version}, this gridtide knows {len(MIGRATIONS)}: use a newer gridtide")
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL) STRICT")
            for statement in statements:
                connection.execute(statement)
            connection.execute("DELETE FROM schema_version")
            connection.execute("INSERT INTO schema_version (version) VALUES (?)", (number,))
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def schema_version(connection: sqlite3.Connection) -> int:
    """The schema version the file says it has."""
    row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    return int(row[0] or 0)


def _open_sound(path: Path) -> sqlite3.Connection:
    """Open, check and migrate; `sqlite3.DatabaseError` (not Operational) if the file is damaged."""
    # SQLite gives its -wal and -shm files the mode of the main file.
    existed = path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    size = os.fstat(descriptor).st_size
    os.close(descriptor)
    if existed and size < SMALLEST_BYTES:
        # SQLite takes such a stump for a new database and writes over it.
        raise sqlite3.DatabaseError(f"file has only {size} bytes")
    if wal.look(path).state == "broken":
        # SQLite would drop what was committed behind the damage, and say nothing.
        raise sqlite3.DatabaseError("the log is damaged")
    if size > 0:
        _check(path, size)
    connection = connect(str(path))
    try:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(f"store {path}: this file system cannot do write-ahead logging (journal mode {mode})")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(path: Path, size: int) -> None:
    """Raises `sqlite3.DatabaseError` for a damaged file. It is only read: who could write would fold the log into the damage when
    it closes, and delete the log."""
    with closing(connect_to_read(path)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if size <= CHECK_LIMIT_BYTES:
                verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict)
        except UnicodeDecodeError as error:
            # sqlite3 stumbles so over an error message that quotes a damaged schema.
            raise sqlite3.DatabaseError(f"damaged schema: {error}") from error


def move_aside(path: Path, now_s: float, why: str = "corrupt") -> Path:
    """Rename the file and its companions to a dated name that is still free; returns the new name of the file."""
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    target = path.with_name(f"{path.name}.{why}-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{why}-{stamp}-{number}")
    for companion in ("-wal", "-shm", ""):
        source = path.with_name(path.name + companion)
        if source.exists():
            source.rename(target.with_name(target.name + companion))
    return target
