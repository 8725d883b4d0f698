"""Which certificates are installed at a station, as far as its answers tell (M03, M04, M05)."""

from typing import Any, Final

from gridtide.run.csms.desk import Desk
from gridtide.run.csms.keeping import as_json
from gridtide.run.csms.station import Station

INSTALLED: Final = "installed_certificate"
"""Kind of the records; the key is `<issuer's key hash>/<serial number>`."""
JOURNAL: Final = "certificate"


class InstalledCertificates:
    """Takes the answers to GetInstalledCertificateIds, InstallCertificate and DeleteCertificate."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.requests: dict[str, Any] = {}
        self.answers = {
            "GetInstalledCertificateIds": self._listed,
            "InstallCertificate": self._installed,
            "DeleteCertificate": self._deleted,
        }

    async def _listed(self, station: Station, request: Any, answer: Any) -> None:
        """A list of all types is all there is."""
        name, rows = station.provision.identity, {}
        for chain in answer.certificateHashDataChain or ():
            rows[_key(chain.certificateHashData)] = as_json(chain)
        if request.certificateType is None or rows:
            is_whole, now_s = request.certificateType is None, self._desk.clock.wall()
            await self._desk.store.put_records(name, INSTALLED, rows, now_s, is_whole=is_whole)

    async def _installed(self, station: Station, request: Any, answer: Any) -> None:
        entry = {"what": "install", "type": request.certificateType, "status": answer.status}
        await self._journal(station, entry)

    async def _deleted(self, station: Station, request: Any, answer: Any) -> None:
        key = _key(request.certificateHashData)
        await self._journal(station, {"what": "delete", "key": key, "status": answer.status})
        if answer.status in ("Accepted", "NotFound"):
            await self._desk.store.remove_records(station.provision.identity, INSTALLED, (key,))

    async def _journal(self, station: Station, entry: dict[str, Any]) -> None:
        name, now_s = station.provision.identity, self._desk.clock.wall()
        await self._desk.store.add_journal(name, JOURNAL, now_s, as_json(entry))


def _key(data: Any) -> str:
    return f"{data.issuerKeyHash}/{data.serialNumber}"
