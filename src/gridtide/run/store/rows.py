"""What the store keeps, as typed rows, and the checks every value passes before it gets there.

Instants are UTC epoch seconds given by the caller; the store has no clock.
"""

import hashlib
import math
import struct
from typing import Final, Literal

import msgspec
from msgspec import Struct

from gridtide.model.view import Severity

EARLIEST_S: Final = 946_684_800.0
"""2000-01-01T00:00:00Z."""
LATEST_S: Final = 4_102_444_800.0
"""2100-01-01T00:00:00Z, the first instant too late."""
INT64_MAX: Final = 2**63 - 1
NAME_LIMIT: Final = 256
"""Characters of a name, key or code."""
TEXT_LIMIT: Final = 4_096
"""Characters of a title or sentence."""
BLOB_LIMIT: Final = 1_000_000
"""Bytes of a JSON value or a state snapshot."""
_syntax: Final = msgspec.json.Decoder(msgspec.Raw)
FIRST_HASH: Final = "0" * 64
"""What stands before the first audit entry."""

EventType = Literal["Started", "Updated", "Ended"]


class StoreError(RuntimeError):
    """The store could not write or read: do not acknowledge; the other side sends again, doubles are told apart."""


class StoreRangeError(ValueError):
    """A value that must not be stored; the message names field, value and cure."""


class StoredEvent(Struct, frozen=True, kw_only=True):
    """Something people should know; repeated while unseen it stays one row with a count."""

    at_s: float
    """Latest occurrence."""
    code: str
    title: str
    text: str
    severity: Severity
    source: str
    count: int = 1
    seen: bool = False
    id: int = 0
    """Given by the store."""


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One link of the audit chain: `hash` covers `prev_hash` and everything else."""

    id: int
    at_s: float
    actor: str
    action: str
    detail_json: bytes
    prev_hash: str
    hash: str


class AuditCheck(Struct, frozen=True, kw_only=True):
    """Result of walking the audit chain."""

    intact: bool
    entries: int
    """Entries that verified, from the first on."""
    first_bad_id: int | None
    """Where the chain breaks; an id without a row means that row is missing."""
    head: str
    """Hash of the last entry that verified; kept elsewhere it proves the chain was not rewritten."""


class TransactionEvent(Struct, frozen=True, kw_only=True):
    """One transaction event of a station, unique by station, transaction and sequence number."""

    station_id: str
    transaction_id: str
    seq_no: int
    event_type: EventType
    at_s: float
    evse_id: int | None
    payload_json: bytes


class OpenTransaction(Struct, frozen=True, kw_only=True):
    """A transaction without its end; more than `events` up to `last_seq_no` means some are missing."""

    station_id: str
    transaction_id: str
    evse_id: int | None
    started_s: float
    """Earliest event."""
    last_s: float
    last_seq_no: int
    events: int


class TransactionHead(OpenTransaction, frozen=True, kw_only=True):
    """A transaction in short."""

    ended: bool


class RegistryEntry(Struct, frozen=True, kw_only=True):
    """Something people registered here: a station, a token."""

    kind: str
    key: str
    value_json: bytes
    changed_s: float
    by: str


class StationRecord(Struct, frozen=True, kw_only=True):
    """The latest a station told under one key."""

    station_id: str
    kind: str
    key: str
    at_s: float
    value_json: bytes


class JournalEntry(Struct, frozen=True, kw_only=True):
    """One thing a station told, in the order of arrival."""

    id: int
    station_id: str
    kind: str
    at_s: float
    value_json: bytes


class StoreHealth(Struct, frozen=True, kw_only=True):
    """How the store is doing, for the page and the metrics."""

    pending: int
    """Acknowledged writes waiting for their commit."""
    telemetry_waiting: int
    telemetry_dropped: int
    """Telemetry rows lost since the start: queue full or not writable."""
    telemetry_refused: int
    """Telemetry values that were not finite."""
    failed_commits: int
    failure: str | None
    """Why the latest write failed, or None after a good one."""
    stuck_s: float = 0.0
    """How long the present commit has taken so far."""


def check_at(at_s: float, field: str = "at_s") -> float:
    """`at_s` as a float in the years 2000 to 2099, or `StoreRangeError`."""
    if type(at_s) is float and EARLIEST_S <= at_s < LATEST_S:
        return at_s
    at_s = check_finite(at_s, field)
    if not EARLIEST_S <= at_s < LATEST_S:
        raise StoreRangeError(f"{field} is {at_s}: give UTC epoch seconds in the years 2000 to 2099")
    return at_s


def check_finite(value: float, field: str) -> float:
    """`value` as a finite float, or `StoreRangeError`."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise StoreRangeError(f"{field} is {value}: give a finite number")
    return number


def check_count(value: int, field: str) -> int:
    """`value` within 0..2^63-1, or `StoreRangeError`."""
    if not 0 <= value <= INT64_MAX:
        raise StoreRangeError(f"{field} is {value}: give a whole number from 0 to {INT64_MAX}")
    return value


def check_text(value: str, field: str, limit: int = NAME_LIMIT, empty: bool = False) -> str:
    """`value` as storable text of at most `limit` characters, or `StoreRangeError`."""
    if 0 < len(value) <= limit and value.isascii() and "\0" not in value:
        return value
    if not value and not empty:
        raise StoreRangeError(f"{field} is empty: give a text")
    if len(value) > limit:
        raise StoreRangeError(f"{field} has {len(value)} characters ({value[:20]!r}...): give at most {limit}")
    if "\0" in value or (not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)):
        raise StoreRangeError(f"{field} is {value!r}: give text without NUL and lone surrogates")
    return value


def check_blob(value: bytes, field: str) -> bytes:
    """`value` of at most `BLOB_LIMIT` bytes, or `StoreRangeError`."""
    if len(value) > BLOB_LIMIT:
        raise StoreRangeError(f"{field} has {len(value)} bytes: give at most {BLOB_LIMIT}")
    return value


def check_json(value: bytes, field: str) -> str:
    """`value` as the text of one JSON document with finite numbers, or `StoreRangeError`."""
    try:
        msgspec.json.decode(check_blob(value, field))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreRangeError(f"{field} is {value[:40]!r}: give one JSON document ({error})") from error
    return value.decode()


def _check_payload(value: bytes) -> None:
    """A payload that the session has decoded and found valid: its syntax is looked at, not its values again."""
    try:
        _syntax.decode(check_blob(value, "payload_json"))
        value.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreRangeError(f"payload_json is {value[:40]!r}: give one JSON document ({error})") from error


def check_event(event: StoredEvent) -> StoredEvent:
    """The event if every field may be stored, else `StoreRangeError`."""
    check_at(event.at_s)
    check_text(event.code, "code")
    check_text(event.title, "title", TEXT_LIMIT)
    check_text(event.text, "text", TEXT_LIMIT, empty=True)
    check_text(event.source, "source")
    if event.severity not in ("info", "warning", "alarm"):
        raise StoreRangeError(f"severity is {event.severity!r}: give info, warning or alarm")
    # A count is added to the stored one: keep far from the edge.
    if not 1 <= event.count <= 2**31:
        raise StoreRangeError(f"count is {event.count}: give a whole number from 1 to {2**31}")
    return event


def check_transaction_event(event: TransactionEvent, *, is_json: bool = False) -> TransactionEvent:
    """The event if every field may be stored, else `StoreRangeError`; `is_json`: its payload was read and found valid, so
    only its length is looked at."""
    check_text(event.station_id, "station_id")
    check_text(event.transaction_id, "transaction_id")
    check_count(event.seq_no, "seq_no")
    check_at(event.at_s)
    if is_json:
        check_blob(event.payload_json, "payload_json")
    else:
        _check_payload(event.payload_json)
    if event.evse_id is not None:
        check_count(event.evse_id, "evse_id")
    if event.event_type not in ("Started", "Updated", "Ended"):
        raise StoreRangeError(f"event_type is {event.event_type!r}: give Started, Updated or Ended")
    return event


def audit_hash(entry: AuditEntry) -> str:
    """SHA-256 that `entry` must carry: over the previous hash and its parts, each packed with its length."""
    digest = hashlib.sha256(struct.pack(">qd", entry.id, entry.at_s))
    for part in (entry.prev_hash.encode(), entry.actor.encode(), entry.action.encode(), entry.detail_json):
        digest.update(struct.pack(">Q", len(part)))
        digest.update(part)
    return digest.hexdigest()
