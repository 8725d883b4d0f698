"""Links of the stations that give power: asked often for a sign of life, and known to the watchdog."""

from msgspec import Struct

from gridtide.run.csms.service import Csms
from gridtide.run.csms.station import Station
from gridtide.run.watchdog import Lifeline, Watchdog
from gridtide.run.websocket import WebSocketLink


class Ping(Struct, frozen=True):
    """How a link is kept alive, s: interval, time for the answer, time to close."""

    every_s: float
    answer_s: float
    close_s: float


GIVING, RESTING = Ping(1.0, 0.5, 0.2), Ping(20.0, 20.0, 2.0)
LINGER_LOOKS = 10
"""Looks (one a decision) for which a link stays watched closely after the last discharge: its lease, at 0.5 s a cycle."""


class Lifelines:
    """Looks after every decision at who was told to give power."""

    def __init__(self, csms: Csms, watchdog: Watchdog) -> None:
        self._csms, self._watchdog = csms, watchdog
        self._close: dict[WebSocketLink, int] = {}
        """Links watched closely, and looks for which they still are."""
        self._lines: dict[WebSocketLink, Lifeline] = {}

    def look(self) -> None:
        """Watch closely the links of stations that may be giving, the others as usual."""
        for link in self._giving():
            if link not in self._close:
                link.keep_alive(GIVING.every_s, GIVING.answer_s, GIVING.close_s)
                line = Lifeline.of(link.transport)
                if line is not None:
                    self._lines[link] = line
            self._close[link] = LINGER_LOOKS + 1
        for link, looks in tuple(self._close.items()):
            self._close[link] = looks - 1
            if looks <= 1 or link.closed:
                del self._close[link]
                self._lines.pop(link, None)
                link.keep_alive(RESTING.every_s, RESTING.answer_s, RESTING.close_s)
        self._watchdog.lines = tuple(self._lines.values())

    def _giving(self) -> list[WebSocketLink]:
        links = [
            station.conversation.link
            for station in self._csms.stations.values()
            if station.conversation is not None and _gives(station)
        ]
        return [link for link in links if isinstance(link, WebSocketLink)]


def _gives(station: Station) -> bool:
    """Whether the last setpoint of one of its rows is a discharge."""
    return any(sent.power_kw < 0.0 for sent in station.sent.values())
