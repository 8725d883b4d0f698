"""What people see of stations, tokens and transactions: plain frozen rows, made on demand. None is not known."""

from typing import Any, Literal

from msgspec import Struct

Link = Literal["online", "connecting", "offline"]


class EvseRow(Struct, frozen=True, kw_only=True):
    """One EVSE of a station."""

    evse: int
    name: str | None
    """Its row of the steered fleet; None: not steered yet."""
    status: str
    """The newest ConnectorStatus, of several connectors the one in use."""
    transaction_id: str | None
    power_kw: float | None
    """+ charging, - discharging."""
    soc: float | None
    may_discharge: bool
    why_not: tuple[str, ...]
    """Why it does not discharge, in words, each with its cure."""


class StationRow(Struct, frozen=True, kw_only=True):
    """One station in short."""

    identity: str
    name: str
    link: Link
    version: str | None
    """OCPP version of the connection."""
    since_s: float | None
    """UTC epoch seconds at which the connection began."""
    security_profile: int | None
    enabled: bool
    dialect: str
    mode: str
    from_file: bool
    """Registered by the site file, which alone can change it."""
    evses: tuple[EvseRow, ...]
    last_error: str | None
    round_trip_ms: float | None = None
    """From a setpoint's leaving to its answer, smoothed; None before the first on this connection."""


class SentRow(Struct, frozen=True, kw_only=True):
    """The setpoint last sent to an EVSE."""

    evse: int
    power_kw: float
    age_s: float
    outcome: str
    """`applied`, `clamped`, `refused`, `late`, or empty while there is no answer."""
    underneath: bool
    """The non-discharging profile under it is confirmed."""


class StationDetail(Struct, frozen=True, kw_only=True):
    """One station in full."""

    station: StationRow
    about: dict[str, Any]
    """ChargingStation as its last BootNotification told it."""
    registered: dict[str, Any] | None
    """Its registration; never a secret."""
    clock_skew_s: float
    password: str
    """`none`, `set`, `offered` (a new one is on its way), `accepted` or `entered`."""
    sent: tuple[SentRow, ...]


class Record(Struct, frozen=True, kw_only=True):
    """One thing a station told under a key."""

    key: str
    at_s: float
    value: Any


class JournalRow(Struct, frozen=True, kw_only=True):
    """One thing a station told at an instant."""

    id: int
    station: str
    kind: str
    at_s: float
    value: Any


class ProfilesView(Struct, frozen=True, kw_only=True):
    """Charging profiles of a station: what was sent from here, and what it reported when asked."""

    sent: tuple[SentRow, ...]
    reported: tuple[Record, ...]


class KnockRow(Struct, frozen=True, kw_only=True):
    """An identity nobody registered, which tried to connect."""

    identity: str
    peer: str
    count: int
    first_seen_s: float
    last_seen_s: float


class TransactionRow(Struct, frozen=True, kw_only=True):
    """One stored transaction in short."""

    station: str
    transaction_id: str
    evse: int | None
    started_s: float
    last_s: float
    ended: bool
    events: int
    missing_events: int


class EventRow(Struct, frozen=True, kw_only=True):
    """One event of a transaction as the station told it."""

    seq_no: int
    kind: str
    at_s: float
    payload: Any


class TransactionDetail(Struct, frozen=True, kw_only=True):
    """A transaction with its events."""

    transaction: TransactionRow
    events: tuple[EventRow, ...]


class Issued(Struct, frozen=True, kw_only=True):
    """A registration; `password` is told this once, None where none was made."""

    identity: str
    password: str | None


class Rotated(Struct, frozen=True, kw_only=True):
    """What became of a change of password."""

    identity: str
    status: Literal["accepted", "rejected", "unanswered"]
    words: str


class Cleared(Struct, frozen=True, kw_only=True):
    """What was cleared; empty when nothing was latched."""

    meter_sign: bool
    tampered: tuple[str, ...]
    """Stations whose tamper latch was cleared."""
    words: str
