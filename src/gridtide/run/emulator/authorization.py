"""Block C: who may charge: the local list, the cache, the CSMS, and what holds offline."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from msgspec import Struct

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.local_list import LocalList, TokenKey, token_key

CACHE_LIMIT = 1_000


class Verdict(Struct, frozen=True):
    """What was decided about a token."""

    accepted: bool
    group: TokenKey | None = None
    transfers: tuple[str, ...] | None = None
    """Energy transfer modes allowed (2.1); None: not told."""
    tariff: Any | None = None


Decide: TypeAlias = Callable[[Verdict], None]
_REFUSED = Verdict(False)


class Authorization:
    """Decides about tokens; a decision may come at once or with the CSMS's answer."""

    def __init__(self, core: Core, model: DeviceModel, listed: LocalList) -> None:
        self._core, self._model, self._listed = core, model, listed
        self._cache: OrderedDict[TokenKey, tuple[Any, datetime]] = OrderedDict()

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {"ClearCache": self.clear}

    def clear(self, _message: Any) -> Fields:
        """C11."""
        if not self._model.is_on("AuthCacheCtrlr"):
            return status("Rejected", "NotEnabled")
        self._cache.clear()
        return status("Accepted")

    def decide(self, token: Any, then: Decide) -> None:
        """Decide about an IdTokenType: list and cache first where that is allowed, then the CSMS (C01, C10, C12-C14)."""
        if token.type == "NoAuthorization":
            then(Verdict(True))
            return
        known = self._known(token)
        online, settings = self._core.connected, self._model
        trusted = settings.is_on("AuthCtrlr", "LocalPreAuthorize" if online else "LocalAuthorizeOffline")
        if known is not None and trusted and known.status == "Accepted":
            then(_verdict(known))
        elif not online:
            then(Verdict(known is None and settings.is_on("AuthCtrlr", "OfflineTxForUnknownIdEnabled")))
        elif settings.is_on("AuthCtrlr", "DisableRemoteAuthorization"):
            then(_REFUSED)
        else:
            self._core.say("Authorize", {"idToken": token}, lambda answer: self._answered(token, answer, then))

    def learn(self, token: Any, info: Any) -> None:
        """The CSMS told about a token: the cache remembers, unless the list knows better (C10)."""
        if not self._model.is_on("AuthCacheCtrlr") or self._listed.find(token) is not None:
            return
        ends = self._core.now() + timedelta(seconds=self._model.number("AuthCacheCtrlr", "LifeTime"))
        if info.cacheExpiryDateTime is not None:
            ends = min(ends, info.cacheExpiryDateTime)
        self._cache[token_key(token)] = (info, ends)
        self._cache.move_to_end(token_key(token))
        if len(self._cache) > CACHE_LIMIT:
            self._cache.popitem(last=False)

    def forget(self, token: Any) -> bool:
        """Forget a cached token; whether there was one."""
        return self._cache.pop(token_key(token), None) is not None

    def cached(self, token: Any) -> bool:
        """Whether the cache holds a token."""
        return token_key(token) in self._cache

    def _known(self, token: Any) -> Any | None:
        info = self._listed.find(token)
        if info is not None:
            # A listed expiry ends the entry's worth.
            expired = info.cacheExpiryDateTime is not None and info.cacheExpiryDateTime <= self._core.now()
            return None if expired else info
        if not self._model.is_on("AuthCacheCtrlr"):
            return None
        info, ends = self._cache.get(token_key(token), (None, None))
        return info if ends is not None and self._core.now() < ends else None

    def _answered(self, token: Any, answer: Any, then: Decide) -> None:
        if answer is None:
            then(_REFUSED)
            return
        self.learn(token, answer.idTokenInfo)
        verdict = _verdict(answer.idTokenInfo)
        allowed = getattr(answer, "allowedEnergyTransfer", None)
        then(Verdict(verdict.accepted, verdict.group, allowed, getattr(answer, "tariff", None)))


def _verdict(info: Any) -> Verdict:
    here = info.evseId is None or 1 in info.evseId
    group = None if info.groupIdToken is None else token_key(info.groupIdToken)
    return Verdict(info.status == "Accepted" and here, group)
