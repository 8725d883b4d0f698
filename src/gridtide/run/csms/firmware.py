"""How updates and uploads of stations go: firmware, its publication, logs (blocks L and N)."""

from typing import Any, Final

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json, tell, without_none
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

FIRMWARE, LOG = "firmware", "log"
"""Kinds of the latest status (keys `update`, `publish`, `upload`) and of the journal of all of them."""
FAILED: Final = frozenset(
    {
        "DownloadFailed",
        "InstallationFailed",
        "InstallVerificationFailed",
        "InvalidSignature",
        "InvalidChecksum",
        "PublishFailed",
    }
)
UPLOAD_FAILED: Final = frozenset({"BadMessage", "NotSupportedOperation", "PermissionDenied", "UploadFailure"})


class Firmware:
    """Answers FirmwareStatusNotification, PublishFirmwareStatusNotification and LogStatusNotification."""

    def __init__(self, desk: Desk, effects: Effects) -> None:
        self._desk = desk
        self.actions: dict[str, Act] = {
            "FirmwareStatusNotification": effects.act(self._updated),
            "PublishFirmwareStatusNotification": effects.act(self._published),
            "LogStatusNotification": effects.act(self._uploaded),
        }

    async def _updated(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        await self._keep(station, FIRMWARE, "update", message)
        if message.status in FAILED:
            tell(self._desk, station, "firmware_failed", f"Firmware update: {message.status}{_number(message)}.")
        elif message.status == "Installed":
            tell(self._desk, station, "firmware_installed", f"Firmware is installed{_number(message)}.")
        return reply(station, "FirmwareStatusNotification")

    async def _published(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        await self._keep(station, FIRMWARE, "publish", message)
        if message.status in FAILED:
            tell(self._desk, station, "firmware_failed", f"Firmware publication: {message.status}{_number(message)}.")
        return reply(station, "PublishFirmwareStatusNotification")

    async def _uploaded(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        await self._keep(station, LOG, "upload", message)
        if message.status in UPLOAD_FAILED:
            tell(self._desk, station, "log_upload_failed", f"Log upload: {message.status}{_number(message)}.")
        return reply(station, "LogStatusNotification")

    async def _keep(self, station: Station, kind: str, key: str, message: Any) -> None:
        name, now_s = station.provision.identity, self._desk.clock.wall()
        # Locations may hold credentials of a file server: where a file lies is not kept.
        info = getattr(message, "statusInfo", None)
        told = without_none({"status": message.status, "requestId": message.requestId, "statusInfo": info})
        await self._desk.store.add_journal(name, kind, now_s, as_json({"what": key, **told}))
        await self._desk.store.put_records(name, kind, {key: as_json(told)}, now_s)


def _number(message: Any) -> str:
    return "" if message.requestId is None else f" (request {message.requestId})"
