"""Block N, logs and customer information. Logs go where `uploads` keeps them: an emulator sends no file anywhere."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from gridtide.run.emulator.authorization import Authorization
from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.local_list import LocalList

PART_CHARS = 512
STEP_S = 1.0
_SCHEMES = ("http", "https", "ftp", "ftps", "sftp")
Upload = Callable[[str, str, bytes], bool]
"""Takes (location, file name, content) and says whether it arrived."""


class Diagnostics:
    """Logs asked for, and what is known of a customer."""

    def __init__(self, core: Core, authorization: Authorization, listed: LocalList) -> None:
        self._core, self._authorization, self._listed = core, authorization, listed
        self.uploads: dict[str, bytes] = {}
        """Files by name, as the default upload keeps them."""
        self.upload: Upload = self._keep
        self._uploading: int | None = None

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {"GetLog": self.get_log, "CustomerInformation": self.customer}

    # --- logs (N01) -------------------------------------------------------------------------------------------------
    def get_log(self, message: Any) -> Fields:
        """N01; a second request cancels the one under way."""
        if urlsplit(message.log.remoteLocation).scheme not in _SCHEMES:
            return status("Rejected", "InvalidURL")
        before, self._uploading = self._uploading, message.requestId
        name = f"{self._core.identity}-{message.logType}-{message.requestId}.txt".replace("/", "_")[:255]
        self._core.soon(lambda: self._begin(message, name, before))
        return {"status": "Accepted" if before is None else "AcceptedCanceled", "filename": name}

    def _begin(self, message: Any, name: str, before: int | None) -> None:
        if before is not None:
            self._told("AcceptedCanceled", before)
        self._try(message, name, message.retries or 0)

    def _try(self, message: Any, name: str, tries_left: int) -> None:
        if self._uploading != message.requestId:
            return
        self._told("Uploading", message.requestId)
        self._core.later(STEP_S, lambda: self._finish(message, name, tries_left))

    def _finish(self, message: Any, name: str, tries_left: int) -> None:
        if self._uploading != message.requestId:
            return
        content = "\n".join(self._lines(message.log)).encode()
        arrived = self.upload(message.log.remoteLocation, name, content)
        self._told("Uploaded" if arrived else "UploadFailure", message.requestId)
        if arrived or tries_left <= 0:
            self._uploading = None
        else:
            wait_s = max(float(message.retryInterval or 0), STEP_S)
            self._core.later(wait_s, lambda: self._try(message, name, tries_left - 1))

    def _lines(self, log: Any) -> list[str]:
        low = "" if log.oldestTimestamp is None else log.oldestTimestamp.isoformat()
        high = "~" if log.latestTimestamp is None else log.latestTimestamp.isoformat()
        return [line for line in self._core.journal if low <= line.split(" ", 1)[0] <= high]

    def _told(self, what: str, request_id: int) -> None:
        self._core.say("LogStatusNotification", {"status": what, "requestId": request_id}, asked=True)

    def tell(self) -> bool:
        """The status of the upload."""
        now = self._uploading
        told: Fields = {"status": "Idle"} if now is None else {"status": "Uploading", "requestId": now}
        self._core.say("LogStatusNotification", told, asked=True)
        return True

    def _keep(self, _location: str, name: str, content: bytes) -> bool:
        self.uploads[name] = content
        return True

    # --- customer information (N09, N10) ----------------------------------------------------------------------------
    def customer(self, message: Any) -> Fields:
        """N09, N10: exactly one way to name the customer."""
        ways = [
            way for way in (message.idToken, message.customerIdentifier, message.customerCertificate) if way is not None
        ]
        if len(ways) != 1:
            return status("Invalid", "MissingParam" if not ways else "InvalidValue")
        if not message.report and not message.clear:
            return status("Rejected", "NothingAsked")
        token = message.idToken
        lines = [] if token is None else self._known(token)
        if message.clear and token is not None:
            self._authorization.forget(token)
        text = "\n".join(lines) if message.report else ""
        self._core.soon(lambda: self._report(message.requestId, text))
        return status("Accepted")

    def _known(self, token: Any) -> list[str]:
        lines = []
        if self._authorization.cached(token):
            lines.append(f"The authorisation cache holds the token {token.idToken} ({token.type}).")
        if self._listed.find(token) is not None:
            lines.append(f"The local list holds the token {token.idToken} ({token.type}).")
        return lines

    def _report(self, request_id: int, text: str) -> None:
        parts = [text[i : i + PART_CHARS] for i in range(0, len(text), PART_CHARS)] or [""]
        for number, part in enumerate(parts):
            self._core.say(
                "NotifyCustomerInformation",
                {"data": part, "seqNo": number, "generatedAt": self._core.now(), "requestId": request_id,
                 "tbc": number + 1 < len(parts)},
                asked=True,
            )  # fmt: skip
