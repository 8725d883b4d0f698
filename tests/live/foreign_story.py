"""What somebody else's station and our CSMS go through together, whatever library the station is made of."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gridtide.wire.ocpp.actions import Version
from tests.live.csms_server import Served

CONSENT: Final[dict[Version, dict[str, object]]] = {
    "2.0.1": {"dialect": "v201_negative_limit", "discharge_opt_in": True},
    "2.1": {"dialect": "v21_setpoint"},
}
"""How a station of each version is provisioned to give power."""
TRANSFER: Final[dict[Version, str]] = {"2.0.1": "DC", "2.1": "DC_BPT"}
"""The energy transfer a vehicle asks for to do so."""
ACTOR: Final = "tests"


async def asked(served: Served, action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """What the station answers when a person has the CSMS ask it; the question must be in the audit trail."""
    outcome = await served.csms.operator.call("bay-1", action, payload, ACTOR)
    assert outcome.status == "answered", outcome
    kept = [(entry.actor, entry.action, msgspec.json.decode(entry.detail_json)) for entry in served.store.audit()]
    assert (ACTOR, "ocpp.call", {"station": "bay-1", "action": action, "payload": payload}) in kept
    assert isinstance(outcome.payload, dict)
    return outcome.payload


def check_stored(served: Served, events: int = 3) -> None:
    """Every transaction event is stored once, as it was sent, and none is left open."""
    kept = served.store.transaction_events("bay-1", "foreign-1")
    kinds = ["Started", *["Updated"] * (events - 2), "Ended"]
    assert [(item.seq_no, item.event_type, item.evse_id) for item in kept] == [
        (number, kind, 1) for number, kind in enumerate(kinds)
    ]
    assert msgspec.json.decode(kept[0].payload_json)["idToken"]["idToken"] == "card-7"
    assert served.store.open_transactions() == ()
