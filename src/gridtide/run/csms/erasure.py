"""Persons who were erased while something of theirs may still come: what stations tell of them later is kept without the token.

A stay may go on, or be told late by a station that was offline. Of the token only a digest is remembered, and that for a month.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import structlog

from gridtide.run.clock import Clock
from gridtide.run.csms.registry import Registry
from gridtide.run.csms.station import Station
from gridtide.run.store import Store
from gridtide.run.store.ledger_sql import ERASED

KEEP_S: Final = 30 * 86_400.0
"""How long a digest is remembered."""
STATE: Final = "erased_tokens"
NOT_KEPT: Final = ("additionalInfo", "customData")
"""Members of an IdTokenType that may tell of a person too."""
log = structlog.get_logger(__name__)


class ErasedTokens:
    """Digests of the tokens erased lately; they outlive a restart."""

    def __init__(self, store: Store, clock: Clock, registry: Registry) -> None:
        self._store, self._clock, self._registry = store, clock, registry
        self._until_s: dict[str, float] = {}
        data = store.get_state(STATE)
        if data:
            try:
                self._until_s = msgspec.json.decode(data, type=dict[str, float])
            except msgspec.DecodeError as error:
                log.warning("erased_tokens_unreadable", error=str(error))

    def add(self, id_token: str, stations: Iterable[Station]) -> list[tuple[Station, int]]:
        """From now on nothing new is kept of `id_token`; returns the stays (station, row) that no longer name it."""
        now_s = self._clock.wall()
        self._until_s = {digest: until_s for digest, until_s in self._until_s.items() if until_s > now_s}
        self._until_s[_digest(id_token)] = now_s + KEEP_S
        self._store.put_state(STATE, msgspec.json.encode(self._until_s))
        wanted = id_token.lower()
        found = [(station, row) for station in stations for row, one in station.tokens.items() if one.lower() == wanted]
        for station, row in found:
            station.tokens[row] = ERASED
        return found

    def hides(self, id_token: str) -> bool:
        """Whether this token's holder was erased and did not register again."""
        if not self._until_s or self._until_s.get(_digest(id_token), 0.0) <= self._clock.wall():
            return False
        return self._registry.token(id_token) is None

    def cleaned(self, id_token: Any, raw: bytes) -> bytes:
        """The JSON `raw` of a message with this idToken (an IdTokenType or None) as it may be kept."""
        if id_token is None or not self._until_s or not self.hides(id_token.idToken):
            return raw
        message = msgspec.json.decode(raw)
        kept = {name: value for name, value in message["idToken"].items() if name not in NOT_KEPT}
        return msgspec.json.encode(message | {"idToken": kept | {"idToken": ERASED}})


def _digest(id_token: str) -> str:
    return hashlib.sha256(id_token.lower().encode()).hexdigest()
