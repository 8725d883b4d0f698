"""Cards that were presented and may not charge: what an operator looks at when a driver stands before a station in vain."""

from collections import OrderedDict

from msgspec import Struct

KEPT = 200
"""Refused cards that are remembered, the latest ones."""


class RefusedToken(Struct, frozen=True, kw_only=True):
    """One card at one station."""

    id_token: str
    type: str
    """An IdTokenEnumType value, as ISO14443."""
    status: str
    """Why, as AuthorizationStatusEnumType says it: Unknown, Blocked, Expired, Invalid."""
    station: str
    count: int
    last_s: float
    """UTC epoch seconds of the latest refusal."""


class RefusedTokens:
    """The latest of them; in memory, until the program ends."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], RefusedToken] = OrderedDict()

    def note(self, station: str, id_token: str, type_: str, status: str, now_s: float) -> None:
        """`station` showed a card that was refused at `now_s` (UTC epoch seconds). idTokens are case-insensitive."""
        key = (id_token.lower(), type_, station)
        before = self._kept.pop(key, None)
        self._kept[key] = RefusedToken(
            id_token=id_token, type=type_, status=status, station=station,
            count=1 if before is None else before.count + 1, last_s=now_s,
        )  # fmt: skip
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def all(self) -> tuple[RefusedToken, ...]:
        """The latest first."""
        return tuple(reversed(self._kept.values()))

    def forget(self, id_token: str, type_: str | None = None) -> None:
        """The card may charge now, or its holder is erased: drop it, of whatever type where none is given."""
        wanted = id_token.lower()
        for key in [key for key in self._kept if key[0] == wanted and type_ in (None, key[1])]:
            del self._kept[key]
