"""Security events of stations: every one is kept, the known and the unknown, and people are told (A04)."""

from collections.abc import Iterable
from typing import Any, Final

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.keeping import as_json
from gridtide.run.csms.station import Station
from gridtide.run.store import Store
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

SECURITY: Final = "security"
"""Kind of the journal."""
TAMPER: Final = "TamperDetectionActivated"
CRITICAL_201: Final = frozenset(
    {
        "FirmwareUpdated",
        "SettingSystemTime",
        "StartupOfTheDevice",
        "ResetOrReboot",
        "SecurityLogWasCleared",
        "MemoryExhaustion",
        TAMPER,
    }
)
"""Critical events of OCPP 2.0.1; on 2.1 all are."""


TAMPERED: Final = "tampered/"
"""State of a station that told of tampering, until a person clears it."""


def keep_tampered(store: Store, station: Station, is_tampered: bool) -> None:
    """Remember across a restart of ours that a station told of tampering, or that a person cleared it."""
    store.put_state(TAMPERED + station.provision.identity, b"1" if is_tampered else b"")


def restore_tampered(store: Store, stations: Iterable[Station], board: EvidenceBoard) -> None:
    """Latch again what was latched before the restart."""
    for station in stations:
        if store.get_state(TAMPERED + station.provision.identity):
            _latch(station, board)


def _latch(station: Station, board: EvidenceBoard) -> None:
    for row in station.provision.rows.values():
        station.tampered.add(row)
        board.fault[row] = True


class SecurityEvents:
    """Answers SecurityEventNotification."""

    def __init__(self, desk: Desk, effects: Effects) -> None:
        self._desk = desk
        self._keep = effects.act(self._keep_event, is_vital=True)
        self.actions: dict[str, Act] = {"SecurityEventNotification": self._heard}

    def _heard(self, station: Station, message: Any, call: CallReceived) -> Any:
        if message.type == TAMPER:
            # The stop waits for nobody, also not for the store.
            _latch(station, self._desk.board)
            for row in station.provision.rows.values():
                self._desk.judge(station, row)
            # Committed no later than the journal, that is before the answer.
            keep_tampered(self._desk.store, station, True)
        return self._keep(station, message, call)

    async def _keep_event(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        name, critical = station.provision.identity, is_critical(station, message.type)
        entry = {"event": message, "isCritical": critical}
        await self._desk.store.add_journal(name, SECURITY, self._desk.clock.wall(), as_json(entry))
        text = f"{message.type or 'unnamed event'}: {message.techInfo or 'no details'}"
        self._desk.on_event("security", name, f"{text} (critical)" if critical else text)
        return reply(station, "SecurityEventNotification")


def is_critical(station: Station, kind: str) -> bool:
    """Whether the standard calls this event critical."""
    return station.version == "2.1" or kind in CRITICAL_201
