"""`GET /api/v1/telemetry/live`: live telemetry over a WebSocket, a JSON text frame every 200 ms (GA5).

All listeners hear the same ticks, so a frame is made and written out once however many there are. A listener gets the newest
frame when it can take one, never a queue of old ones; one that takes none for 5 s, or leaves a ping unanswered as long, is
dropped (the gate's deadline, the server's keepalive).
"""

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from litestar import WebSocket, websocket
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.exceptions import WebSocketDisconnect, WebSocketException
from litestar.params import FromQuery, SkipValidation

from gridtide.app.web.gate import REFUSED
from gridtide.model.telemetry import Choice, TelemetryFrame, choice_of
from gridtide.run.pace import SlowReader, Streams

PERIOD_S = 0.2
LONGEST_PERIOD_S = 60.0
LONGEST_QUERY = 8192
GOING_AWAY = 1001
AnySocket = WebSocket[Any, Any, State]


class Source(Protocol):
    """Where frames come from: the running site."""

    def telemetry_now(self) -> TelemetryFrame:
        """What meter and stations told last, every EVSE of the site; at once, from memory."""


class Feed:
    """The site's telemetry in ticks of `PERIOD_S`, read once a tick."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._tick = -1
        self._frame: TelemetryFrame | None = None
        self._whole: str | None = None

    def frame(self, now_s: float) -> TelemetryFrame:
        """The frame of the tick that monotonic `now_s` lies in."""
        tick = tick_of(now_s, PERIOD_S)
        if self._frame is None or tick != self._tick:
            self._tick, self._frame, self._whole = tick, self._source.telemetry_now(), None
        return self._frame

    def text(self, choice: Choice | None, now_s: float) -> str:
        """The same as JSON, all of it or what `choice` wants; numbers that are not finite become null."""
        frame = self.frame(now_s)
        if choice is not None:
            return msgspec.json.encode(choice.of(frame)).decode()
        if self._whole is None:
            self._whole = msgspec.json.encode(frame).decode()
        return self._whole


Frames = NamedDependency[SkipValidation[Feed]]
Open = NamedDependency[SkipValidation[Streams]]


@websocket("/api/v1/telemetry/live", opt={"role": "viewer"})
async def live(
    socket: AnySocket,
    feed: Frames,
    streams: Open,
    series: FromQuery[str] = "",
    period_s: FromQuery[str] = "",
) -> None:
    """Telemetry frames until either side ends; `series` as "site_kw,evse:cs03/1", all if it is not given."""
    if streams.full:
        raise _refusal(503, "Too many streams are open; close one.")
    if len(series) > LONGEST_QUERY:
        raise _refusal(400, f"series has {len(series)} characters: give at most {LONGEST_QUERY}, or none for all")
    each_s = _period(period_s)
    try:
        choice = choice_of(series, (evse.evse_id for evse in feed.frame(_now_s()).evses))
    except KeyError as error:
        raise _refusal(404, str(error.args[0])) from error
    with streams.one():
        await socket.accept()
        # Whichever is first ends it; a WebSocket must be read to hear of its end.
        gone, closing = asyncio.ensure_future(_gone(socket)), asyncio.ensure_future(streams.closing.wait())
        try:
            there = await _tell(socket, lambda now_s: feed.text(choice, now_s), each_s, (gone, closing))
            if there and not gone.done():
                await socket.close(GOING_AWAY, "The site ends.")
        finally:
            for waiting in (gone, closing):
                waiting.cancel()
            await asyncio.gather(gone, closing, return_exceptions=True)


async def _tell(
    socket: AnySocket, text: Callable[[float], str], period_s: float, ends: tuple[asyncio.Future[Any], ...]
) -> bool:
    """Send `text` at every multiple of `period_s` until an end, ticks missed meanwhile left out; False when nobody is there."""
    while not any(end.done() for end in ends):
        try:
            await socket.send_text(text(_now_s()))
        except SlowReader:
            raise
        except (OSError, WebSocketDisconnect):
            return False  # it went away while we spoke
        now_s = _now_s()
        due_s = (tick_of(now_s, period_s) + 1) * period_s
        await asyncio.wait(ends, timeout=due_s - now_s, return_when=asyncio.FIRST_COMPLETED)
    return True


async def _gone(socket: AnySocket) -> None:
    """Returns when the other side has left; what it says before is not for us."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return


def tick_of(now_s: float, period_s: float) -> int:
    """Which multiple of `period_s` was last at `now_s`. One that is due within rounding is there: the next is always later."""
    return math.floor(now_s / period_s + 1e-6)


def _period(text: str) -> float:
    """Seconds between frames, as asked for."""
    try:
        period_s = float(text or PERIOD_S)
    except ValueError:
        period_s = math.nan
    if not PERIOD_S <= period_s <= LONGEST_PERIOD_S:
        raise _refusal(400, f"period_s is {text[:40]!r}: give {PERIOD_S} to {LONGEST_PERIOD_S:g}")
    return period_s


def _refusal(status: int, detail: str) -> WebSocketException:
    """What the gate makes an HTTP answer of; the framework drops the status of any other error."""
    return WebSocketException(detail=detail, code=REFUSED + status)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
