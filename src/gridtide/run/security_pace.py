"""How many security events of one source are told: each distinct one, but no flood."""

from collections import deque
from typing import Final

from gridtide.run.csms.security_events import CRITICAL_201

WINDOW_S: Final = 60.0
"""The same text of one source is told once in this time."""
DISTINCT: Final = 20
"""Distinct texts of one source told in that time; of each critical kind the first is told beyond them."""
SOURCES: Final = 1_000
"""From so many sources on, those that have been quiet are forgotten."""
TEXT_CHARS: Final = 4_000
"""Longest text of an event."""
MORE: Final = "More security events came within a minute: the station's journal holds them all."


class SecurityPace:
    """Decides which security events become events of the site; what it holds back stands in the station's journal."""

    def __init__(self) -> None:
        self._told: dict[str, deque[tuple[float, str]]] = {}
        self._unseen: dict[str, dict[str, str]] = {}

    def words(self, source: str, text: str, now_s: float) -> str | None:
        """What to tell of an event at monotonic `now_s`, None for nothing: its text (`MORE` for the first one beyond the
        budget), and beside it what the source told since people last looked, critical kinds first. The store keeps one unseen
        event of a source: what comes later must not wipe out what came before."""
        told = self._recent(source, now_s)
        if any(text == before for _, before in told):
            return None
        kind = _kind(text)
        if len(told) >= DISTINCT and not (kind in CRITICAL_201 and all(_kind(before) != kind for _, before in told)):
            if any(before == MORE for _, before in told):
                return None
            text = MORE
        told.append((now_s, text))
        return self._together(source, text)

    def seen(self, source: str) -> None:
        """People have seen what the source told."""
        self._unseen.pop(source, None)

    def _together(self, source: str, text: str) -> str:
        unseen = self._unseen.setdefault(source, {})
        unseen.pop(_kind(text), None)
        newest_first = {_kind(text): text, **unseen}
        ranked = sorted(newest_first, key=lambda kind: kind not in CRITICAL_201)[:DISTINCT]
        self._unseen[source] = {kind: one for kind, one in newest_first.items() if kind in ranked}
        return " | ".join(newest_first[kind] for kind in ranked)[:TEXT_CHARS]

    def _recent(self, source: str, now_s: float) -> deque[tuple[float, str]]:
        if source not in self._told and len(self._told) >= SOURCES:
            self._told = {name: kept for name, kept in self._told.items() if now_s - kept[-1][0] < WINDOW_S}
        told = self._told.setdefault(source, deque())
        while told and now_s - told[0][0] >= WINDOW_S:
            told.popleft()
        return told


def _kind(text: str) -> str:
    """The type a station's event begins with (`SecurityEvents` writes `type: details`)."""
    return text.partition(":")[0]
