"""Charging sessions out of stored transaction events: energy by the station's registers, never invented, and what is missing said.

A register that was not told leaves the energy unknown; one that fell (a meter was changed) counts only what it rose. Offline
events count like any other: they carry their own instants.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gridtide.run.store import Store, TransactionEvent
from gridtide.run.store.rows import TransactionHead
from gridtide.wire.ocpp.generated import v21
from gridtide.wire.ocpp.meter import read_meter_values

MOST_SESSIONS = 10_000
"""Sessions of one export."""
MOST_EVENTS = 20_000
"""Events of one transaction that are looked at: its first and its last ones."""
PAGE = 500
"""Events of one read, so that others can read in between."""
OCPI_TOKEN = {"ISO14443": "RFID", "ISO15693": "RFID", "NoAuthorization": "AD_HOC_USER", "DirectPayment": "AD_HOC_USER"}
"""OCPI 2.2.1 TokenType of an IdTokenEnumType; every other one is OTHER."""
SPREADSHEET_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so is run as a formula by spreadsheets."""


class Session(Struct, frozen=True, kw_only=True):
    """One stay with energy. None is not known."""

    station: str
    evse: int | None
    connector: int | None
    transaction_id: str
    id_token: str = ""
    token_type: str = ""
    remote_start: bool = False
    started_s: float
    """UTC epoch seconds of the first event that was told."""
    ended_s: float | None
    """None while it runs."""
    duration_s: float
    """Up to the end, or to the last event."""
    energy_in_kwh: float | None
    """Into the vehicle, by the import register."""
    energy_out_kwh: float | None
    """Out of the vehicle, by the export register."""
    stopped_reason: str = ""
    events: int
    missing_events: int
    """Sequence numbers below the highest that were never told."""
    offline_events: int
    notes: tuple[str, ...] = ()
    """What is not as it should be, in words."""


class _Registers(Struct, frozen=True):
    """Readings of one register in the order of their instants, kWh."""

    values: tuple[float, ...]

    @property
    def fell(self) -> bool:
        """Whether a reading is below the one before."""
        return any(b < a - 1e-9 for a, b in pairwise(self.values))

    @property
    def rise_kwh(self) -> float | None:
        """What the register rose by; None with less than two readings.

        After a fall it counts from where it fell to. One that ends at its highest value counts as if it never fell: a single
        wrong reading, or two in the wrong order, must not add energy.
        """
        if len(self.values) < 2:
            return None
        if self.values[-1] >= max(self.values):
            return self.values[-1] - self.values[0]
        return sum(max(0.0, b - a) for a, b in pairwise(self.values))


def session_of(events: Sequence[TransactionEvent]) -> Session:
    """The session of one transaction's events; raises ValueError when there are none."""
    if not events:
        raise ValueError("events is empty: give the events of one transaction")
    ordered = sorted(events, key=lambda event: event.seq_no)
    payloads = [_payload(event.payload_json) for event in ordered]
    first, last = ordered[0], ordered[-1]
    end = next((event for event in ordered if event.event_type == "Ended"), None)
    started_s = min(event.at_s for event in ordered)
    until_s = end.at_s if end is not None else max(event.at_s for event in ordered)
    taken, given = _registers(payloads)
    token: dict[str, Any] = next((p["idToken"] for p in payloads if isinstance(p.get("idToken"), dict)), {})
    missing = last.seq_no + 1 - len({event.seq_no for event in ordered})
    return Session(
        station=first.station_id, evse=next((e.evse_id for e in ordered if e.evse_id is not None), None),
        connector=_connector(payloads), transaction_id=first.transaction_id, id_token=str(token.get("idToken", "")),
        token_type=str(token.get("type", "")),
        remote_start=any(p.get("triggerReason") == "RemoteStart" for p in payloads),
        started_s=started_s, ended_s=end.at_s if end is not None else None, duration_s=max(0.0, until_s - started_s),
        energy_in_kwh=_rounded(taken.rise_kwh), energy_out_kwh=_rounded(given.rise_kwh),
        stopped_reason=_stopped(payloads), events=len(ordered), missing_events=missing,
        offline_events=sum(p.get("offline") is True for p in payloads),
        notes=tuple(_notes(ordered, missing, taken, given, is_open=end is None)),
    )  # fmt: skip


def sessions(store: Store, start_s: float, end_s: float, station: str | None = None) -> list[Session]:
    """Sessions that began in [start_s, end_s), oldest first. Raises ValueError when there are too many for one answer."""
    heads = store.transactions(start_s, end_s, station, MOST_SESSIONS + 1)
    if len(heads) > MOST_SESSIONS:
        raise ValueError(f"from, to: more than {MOST_SESSIONS} sessions lie between; give a shorter time")
    return [session for head in reversed(heads) if (session := _session(store, head)) is not None]


def events_of(store: Store, head: TransactionHead) -> list[TransactionEvent]:
    """Events of a transaction by sequence number, read in short pages; of a very long one its first and last, `MOST_EVENTS`
    together."""
    station, name, half = head.station_id, head.transaction_id, MOST_EVENTS // 2
    if head.events <= MOST_EVENTS:
        return _pages(store, station, name, 0, MOST_EVENTS)
    begin = _pages(store, station, name, 0, half)
    return begin + _pages(store, station, name, max(begin[-1].seq_no, head.last_seq_no - half) + 1, half)


def _pages(store: Store, station: str, transaction_id: str, first_seq_no: int, most: int) -> list[TransactionEvent]:
    found: list[TransactionEvent] = []
    while len(found) < most:
        page = store.transaction_events(station, transaction_id, first_seq_no, min(PAGE, most - len(found)))
        found += page
        if len(page) < PAGE:
            break
        first_seq_no = page[-1].seq_no + 1
    return found


def _session(store: Store, head: TransactionHead) -> Session | None:
    """The session of a stored transaction; None for one that was forgotten meanwhile."""
    events = events_of(store, head)
    if not events:
        return None
    session = session_of(events)
    if head.events <= MOST_EVENTS:
        return session
    left = f"Of its {head.events} events only the first and the last were looked at."
    notes = (*(note for note in session.notes if not note.endswith("events are missing.")), left)
    missing = max(0, head.last_seq_no + 1 - head.events)
    return msgspec.structs.replace(session, events=head.events, missing_events=missing, notes=notes)


def export(
    store: Store, start_s: float, end_s: float, station: str | None, shape: Literal["json", "csv", "cdr"]
) -> bytes:
    """`sessions` as JSON, as CSV, or as charge detail records. It may take seconds: not for the loop."""
    found = sessions(store, start_s, end_s, station)
    if shape == "csv":
        return as_csv(found).encode()
    return msgspec.json.encode(cdrs(found) if shape == "cdr" else found)


def cdr(session: Session) -> dict[str, Any]:
    """A charge detail record with OCPI 2.2.1 names where they fit; times in UTC, `total_time` in hours.

    What only a roaming contract knows (country, party, currency, cost) is left to whoever bills. Discharge has no field in
    OCPI 2.2.1: `energy_out_kwh` stands beside. Raises ValueError for a session that has not ended.
    """
    if session.ended_s is None:
        raise ValueError(f"session {session.transaction_id} has not ended: a record is made at its end")
    start, end = _utc(session.started_s), _utc(session.ended_s)
    hours = round(session.duration_s / 3600.0, 4)
    dimensions = [{"type": "TIME", "volume": hours}]
    if session.energy_in_kwh is not None:
        dimensions.insert(0, {"type": "ENERGY", "volume": session.energy_in_kwh})
    location = {"id": session.station, "evse_uid": _evse_uid(session), "connector_id": _text(session.connector)}
    return {
        "id": f"{session.station}:{session.transaction_id}",
        "start_date_time": start,
        "end_date_time": end,
        "session_id": session.transaction_id,
        "cdr_token": {
            "uid": session.id_token,
            "type": OCPI_TOKEN.get(session.token_type, "OTHER"),
            "contract_id": session.id_token,
        },
        "auth_method": "COMMAND" if session.remote_start else "AUTH_REQUEST",
        "cdr_location": location,
        "charging_periods": [{"start_date_time": start, "dimensions": dimensions}],
        "total_energy": session.energy_in_kwh,
        "energy_out_kwh": session.energy_out_kwh,
        "total_time": hours,
        "remark": " ".join(session.notes),
        "last_updated": end,
    }


def cdrs(found: Iterable[Session]) -> list[dict[str, Any]]:
    """Records of the sessions that have ended."""
    return [cdr(session) for session in found if session.ended_s is not None]


def as_csv(found: Iterable[Session]) -> str:
    """Sessions as CSV (RFC 4180) with a header line; instants in UTC, texts safe to open in a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    names = [name for name in Session.__struct_fields__ if name not in ("started_s", "ended_s")]
    writer.writerow(["started", "ended", *names])
    for session in found:
        ended = "" if session.ended_s is None else _utc(session.ended_s)
        writer.writerow([_utc(session.started_s), ended, *(_cell(getattr(session, name)) for name in names)])
    return out.getvalue()


# --- parts ----------------------------------------------------------------------------------------------------------
def _payload(data: bytes) -> dict[str, Any]:
    found = msgspec.json.decode(data)
    return found if isinstance(found, dict) else {}


def _registers(payloads: Iterable[dict[str, Any]]) -> tuple[_Registers, _Registers]:
    """Import and export readings of all events, in the order of their instants."""
    values = sorted((item for payload in payloads for item in _meter_values(payload)), key=lambda item: item.timestamp)
    taken, given = [], []
    for item in values:
        reading = read_meter_values([item])
        if reading.energy_import_kwh is not None and math.isfinite(reading.energy_import_kwh):
            taken.append(reading.energy_import_kwh)
        if reading.energy_export_kwh is not None and math.isfinite(reading.energy_export_kwh):
            given.append(reading.energy_export_kwh)
    return _Registers(tuple(taken)), _Registers(tuple(given))


def _meter_values(payload: dict[str, Any]) -> list[v21.MeterValueType]:
    """Readings of one event; both versions fit the newer one's type. What does not is as if it had not been told."""
    found, told = [], payload.get("meterValue")
    for item in told if isinstance(told, list) else ():
        try:
            found.append(msgspec.convert(item, v21.MeterValueType, strict=False))
        except msgspec.ValidationError:
            continue
    return found


def _notes(
    events: Sequence[TransactionEvent], missing: int, taken: _Registers, given: _Registers, *, is_open: bool
) -> Iterable[str]:
    if is_open:
        yield "Not ended."
    if events[0].event_type != "Started":
        yield "Its beginning was not told."
    if missing:
        yield f"{missing} events are missing."
    if taken.rise_kwh is None:
        yield "Energy unknown: no two readings of the import register."
    if taken.fell or given.fell:
        yield "A register fell; only what it rose is counted."


def _connector(payloads: Iterable[dict[str, Any]]) -> int | None:
    for payload in payloads:
        evse = payload.get("evse")
        if isinstance(evse, dict) and isinstance(evse.get("connectorId"), int):
            return int(evse["connectorId"])
    return None


def _stopped(payloads: Iterable[dict[str, Any]]) -> str:
    for payload in payloads:
        info = payload.get("transactionInfo")
        if isinstance(info, dict) and info.get("stoppedReason"):
            return str(info["stoppedReason"])
    return ""


def _evse_uid(session: Session) -> str:
    return session.station if session.evse is None else f"{session.station}/{session.evse}"


def _rounded(value: float | None) -> float | None:
    """Whole watt-hours."""
    return None if value is None else round(value, 3)


def _utc(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        value = " ".join(str(part) for part in value)
    text = _text(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(SPREADSHEET_SIGNS) else text
