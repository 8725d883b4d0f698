"""Block D: the local authorisation list, full and differential."""

from typing import Any, TypeAlias

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel

MAX_ENTRIES = 5_000
TokenKey: TypeAlias = tuple[str, str]
"""Type and token; tokens compare without regard to case (they are hexadecimal or case-insensitive identifiers)."""


def token_key(token: Any) -> TokenKey:
    """The key of an IdTokenType."""
    return str(token.type), str(token.idToken).casefold()


class LocalList:
    """Tokens a CSMS gave the station; version 0 is no list."""

    def __init__(self, core: Core, model: DeviceModel) -> None:
        self._core, self._model = core, model
        self._version = 0
        self._entries: dict[TokenKey, Any] = {}
        model.live("LocalAuthListCtrlr", "Entries", lambda: str(len(self._entries)))

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {"SendLocalList": self.send, "GetLocalListVersion": self.version}

    def find(self, token: Any) -> Any | None:
        """The idTokenInfo of a listed token."""
        return self._entries.get(token_key(token)) if self._model.is_on("LocalAuthListCtrlr") else None

    def version(self, _message: Any) -> Fields:
        """D02: 0 while there is no list or it is switched off."""
        return {"versionNumber": self._version if self._model.is_on("LocalAuthListCtrlr") else 0}

    def send(self, message: Any) -> Fields:
        """D01: all or nothing."""
        items = message.localAuthorizationList or ()
        keys = [token_key(item.idToken) for item in items]
        full = message.updateType == "Full"
        if not self._model.is_on("LocalAuthListCtrlr"):
            return status("Failed", "NotEnabled")
        if message.versionNumber <= 0 or len(set(keys)) < len(keys):
            return status("Failed", "InvalidValue")
        if not full and message.versionNumber <= self._version:
            return status("VersionMismatch")
        if full and any(item.idTokenInfo is None for item in items):
            return status("Failed", "MissingParam")
        entries = {} if full else dict(self._entries)
        for key, item in zip(keys, items, strict=True):
            if item.idTokenInfo is None:
                entries.pop(key, None)
            else:
                entries[key] = item.idTokenInfo
        if len(entries) > MAX_ENTRIES:
            return status("Failed", "TooManyElements")
        self._entries, self._version = entries, message.versionNumber
        return status("Accepted")
