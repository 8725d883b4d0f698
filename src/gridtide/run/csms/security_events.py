"""Security events of stations: every one is kept, the known and the unknown, and people are told (A04)."""

from typing import Any, Final

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json
from gridtide.run.csms.station import Station
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


class SecurityEvents:
    """Answers SecurityEventNotification."""

    def __init__(self, desk: Desk, effects: Effects) -> None:
        self._desk = desk
        self._keep = effects.act(self._keep_event, is_vital=True)
        self.actions: dict[str, Act] = {"SecurityEventNotification": self._heard}

    def _heard(self, station: Station, message: Any, call: CallReceived) -> Any:
        if message.type == TAMPER:
            # The stop waits for nobody, also not for the store.
            for row in station.provision.rows.values():
                station.tampered.add(row)
                self._desk.board.fault[row] = True
                self._desk.judge(station, row)
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
