"""Block L: firmware, taken only with a valid signing certificate and a valid signature over the image; and publishing.

Images come from `data:` addresses or from what a test puts into `images`: an emulator fetches nothing from the network.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from gridtide.run.emulator.certificates import Certificates
from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.transactions import Transactions
from gridtide.run.emulator.trust import chain_fault, is_signed_by, parse_chain

STEP_S = 1.0
"""How long a step of an update takes."""


class Update(Struct):
    """An update under way."""

    request_id: int
    firmware: Any
    tries_left: int
    retry_s: float
    image: bytes = b""
    cancelled: bool = False


class Firmware:
    """Signed updates, and publishing as a local controller."""

    def __init__(self, core: Core, model: DeviceModel, certificates: Certificates, transactions: Transactions) -> None:
        self._core, self._model = core, model
        self._certificates, self._transactions = certificates, transactions
        self.images: dict[str, bytes] = {}
        """Image by location."""
        self.restart: Callable[[str], None] = lambda _reason: None
        """Reboots the station with a boot reason."""
        self.published: dict[str, str] = {}
        """Location by MD5 checksum."""
        self._downloading: set[str] = set()
        self._now: Update | None = None
        self._last: Fields = {"status": "Idle"}
        self._last_published: Fields = {"status": "Idle"}
        model.live("FirmwareCtrlr", "FirmwareVersion", lambda: self.version)
        self.version = core.setup.firmware

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {
            "UpdateFirmware": self.update,
            "PublishFirmware": self.publish,
            "UnpublishFirmware": self.unpublish,
        }

    # --- update (L01) -----------------------------------------------------------------------------------------------
    def update(self, message: Any) -> Fields:
        """L01; an unsigned one (L02) is refused."""
        firmware = message.firmware
        if firmware.signature is None or firmware.signingCertificate is None:
            return status("Rejected", "Unsigned")
        chain = parse_chain(firmware.signingCertificate)
        roots = self._certificates.trusted(["ManufacturerRootCertificate"])
        if chain is None or not roots or chain_fault(chain, roots, self._core.now()) is not None:
            self._core.security_event("InvalidFirmwareSigningCertificate")
            return status("InvalidCertificate", "CertChainError")
        before = self._now
        if before is not None:
            before.cancelled = True
        now = Update(message.requestId, firmware, message.retries or 0, float(message.retryInterval or 0))
        self._now = now
        self._core.soon(lambda: self._begin(now))
        return status("Accepted" if before is None else "AcceptedCanceled")

    def _begin(self, now: Update) -> None:
        wait_s = self._until(now.firmware.retrieveDateTime)
        if wait_s > 0.0:
            self._told(now, "DownloadScheduled")
        self._then(now, wait_s, self._download)

    def _download(self, now: Update) -> None:
        self._told(now, "Downloading")
        self._then(now, STEP_S, self._downloaded)

    def _downloaded(self, now: Update) -> None:
        image = self.fetch(now.firmware.location)
        if image is None and now.tries_left > 0:
            now.tries_left -= 1
            self._told(now, "DownloadFailed")
            self._then(now, max(now.retry_s, STEP_S), self._download)
            return
        if image is None:
            self._end(now, "DownloadFailed")
            return
        now.image = image
        self._told(now, "Downloaded")
        chain = parse_chain(now.firmware.signingCertificate)
        if chain is None or not is_signed_by(chain[0], now.firmware.signature, image):
            self._core.security_event("InvalidFirmwareSignature")
            self._end(now, "InvalidSignature")
            return
        self._told(now, "SignatureVerified")
        wait_s = self._until(now.firmware.installDateTime)
        if wait_s > 0.0 or self._transactions.now is not None:
            self._told(now, "InstallScheduled")
        self._then(now, max(wait_s, STEP_S), self._install)

    def _install(self, now: Update) -> None:
        """Not under a running transaction: that would end it (L01.FR.06)."""
        if self._transactions.now is not None:
            self._then(now, STEP_S, self._install)
            return
        self._told(now, "Installing")
        self._then(now, STEP_S, self._reboot)

    def _reboot(self, now: Update) -> None:
        self._told(now, "InstallRebooting")
        self.version = hashlib.sha256(now.image).hexdigest()[:12]
        self.restart("FirmwareUpdate")
        self._then(now, STEP_S, self._installed)

    def _installed(self, now: Update) -> None:
        self._end(now, "Installed")
        self._core.security_event("FirmwareUpdated", self.version)

    def _then(self, now: Update, delay_s: float, act: Callable[[Update], None]) -> None:
        def go() -> None:
            if not now.cancelled:
                act(now)

        self._core.later(delay_s, go)

    def _until(self, at: datetime | None) -> float:
        return 0.0 if at is None else max(0.0, (at - self._core.now()).total_seconds())

    def _end(self, now: Update, what: str) -> None:
        self._told(now, what)
        self._now = None

    def _told(self, now: Update, what: str) -> None:
        self._last = {"status": what, "requestId": now.request_id}
        self._core.say("FirmwareStatusNotification", self._last)

    def tell(self) -> bool:
        """The status as last told; Idle when nothing is under way (L01.FR.25)."""
        told = self._last if self._now is not None else {"status": "Idle"}
        self._core.say("FirmwareStatusNotification", told, asked=True)
        return True

    def fetch(self, location: str) -> bytes | None:
        """The image at `location`, or None."""
        if location in self.images:
            return self.images[location]
        head, comma, body = location.partition(",")
        if not head.startswith("data:") or not comma:
            return None
        try:
            return base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
        except (binascii.Error, ValueError):
            return None

    # --- publish (L03, L04) -----------------------------------------------------------------------------------------
    def publish(self, message: Any) -> Fields:
        """L03."""
        if message.checksum in self._downloading:
            return status("Rejected", "InProgress")
        self._downloading.add(message.checksum)
        self._core.soon(lambda: self._publishing(message, message.retries or 0))
        return status("Accepted")

    def _publishing(self, message: Any, tries_left: int) -> None:
        self._tell_published(message, "Downloading")
        self._core.later(STEP_S, lambda: self._fetched(message, tries_left))

    def _fetched(self, message: Any, tries_left: int) -> None:
        image, checksum = self.fetch(message.location), message.checksum
        if image is None:
            self._tell_published(message, "DownloadFailed")
            if tries_left > 0:
                wait_s = max(float(message.retryInterval or 0), STEP_S)
                self._core.later(wait_s, lambda: self._publishing(message, tries_left - 1))
                return
        else:
            self._tell_published(message, "Downloaded")
            right = hashlib.md5(image, usedforsecurity=False).hexdigest() == checksum.lower()
            self._tell_published(message, "ChecksumVerified" if right else "InvalidChecksum")
            if right:
                self.published[checksum] = message.location
                place = f"http://{self._core.identity}.local/{checksum}"
                self._tell_published(message, "Published", {"location": [place]})
        self._downloading.discard(checksum)

    def _tell_published(self, message: Any, what: str, more: Fields | None = None) -> None:
        self._last_published = {"status": what, "requestId": message.requestId} | (more or {})
        self._core.say("PublishFirmwareStatusNotification", self._last_published)

    def tell_published(self) -> bool:
        """The publishing status as last told."""
        self._core.say("PublishFirmwareStatusNotification", self._last_published, asked=True)
        return True

    def unpublish(self, message: Any) -> Fields:
        """L04."""
        if message.checksum in self._downloading:
            return status("DownloadOngoing")
        return status("Unpublished" if self.published.pop(message.checksum, None) else "NoFirmware")
