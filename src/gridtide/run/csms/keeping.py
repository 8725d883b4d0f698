"""Small laws of keeping what stations tell: as bounded JSON, about their own transactions and EVSEs only, told by known codes."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gridtide.model.events import BY_CODE
from gridtide.run.csms.desk import Desk
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.structs import enc_hook

ENTRY_BYTES: Final = 16_384
"""A journal entry or a record is at most this long, unless it is told otherwise."""
_encoder: Final = msgspec.json.Encoder(enc_hook=enc_hook)


def as_json(value: Any, limit: int = ENTRY_BYTES) -> bytes:
    """A message, a part of one, or plain values of such as JSON; refused beyond `limit` bytes."""
    data = _encoder.encode(value)
    if len(data) > limit:
        raise RemoteProtocolError("OccurrenceConstraintViolation", f"an item of more than {limit} bytes is not kept")
    return data


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without what is absent."""
    return {name: value for name, value in values.items() if value is not None}


def tell(desk: Desk, station: Station, code: str, text: str) -> None:
    """Tell people of something at a station; a code the catalogue lacks must not end a handler half way."""
    desk.on_event(code if code in BY_CODE else "security", station.provision.identity, text)


def check_transaction(desk: Desk, station: Station, transaction_id: str | None) -> None:
    """A station speaks of its own transactions only; another station's is refused (AT06). An unknown id belongs to nobody."""
    if not transaction_id or transaction_id in station.transactions.values() or transaction_id in station.ended:
        return
    name = station.provision.identity
    owner = desk.store.owner_of_transaction(transaction_id, name)
    if owner is None or owner == name:
        return
    if station.first("foreign transaction"):
        desk.on_event("security", name, f"{name} named a transaction of {owner}; it was refused.")
    raise RemoteProtocolError("SecurityError", "the transaction belongs to another station")


def knows_evse(desk: Desk, station: Station, evse_id: int) -> bool:
    """Whether the station is registered with an EVSE of this number."""
    if evse_id in station.provision.rows:
        return True
    entry = desk.registry.stations.get(station.provision.identity)
    return entry is not None and any(evse.id == evse_id for evse in entry.evses)
