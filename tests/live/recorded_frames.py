"""Frames of one connection as they travelled, and the official schemas' verdict on every one."""

from __future__ import annotations

import json
from typing import Any, Literal, TypeAlias

from gridtide.wire.ocpp.actions import FROM_BOTH, FROM_STATION, Version
from gridtide.wire.ocpp.errors import ERROR_CODES
from tests.wire.ocpp_samples import validator

Side: TypeAlias = Literal["station", "csms"]
OTHER: dict[Side, Side] = {"station": "csms", "csms": "station"}


class RecordedFrames:
    """Frames of both sides in the order of their arrival at one of them."""

    def __init__(self) -> None:
        self.frames: list[tuple[Side, list[Any]]] = []

    def add(self, side: Side, text: str | bytes) -> None:
        """Note what `side` sent."""
        self.frames.append((side, json.loads(text)))

    def said(self, side: Side) -> list[str]:
        """Actions that a side called, in order."""
        return [frame[2] for sender, frame in self.frames if sender == side and frame[0] in (2, 6)]

    def unanswered(self, side: Side) -> list[str]:
        """Actions that a side called and the other has not answered."""
        answered = {frame[1] for sender, frame in self.frames if sender == OTHER[side] and frame[0] in (3, 4)}
        calls = [frame for sender, frame in self.frames if sender == side and frame[0] == 2]
        return [frame[2] for frame in calls if frame[1] not in answered]

    def check(self, version: Version) -> int:
        """The number of frames, every one valid by the official schemas; raises what jsonschema or an assertion says.

        Every call is answered at most once, with its own type, and nobody sends the other's actions.
        """
        calls: dict[tuple[Side, str], str] = {}
        for side, frame in self.frames:
            kind, message_id = frame[0], frame[1]
            assert isinstance(message_id, str)
            assert 1 <= len(message_id) <= 36
            if kind in (2, 6):
                action, payload = frame[2], frame[3]
                assert len(frame) == 4
                assert action in FROM_BOTH or (action in FROM_STATION) == (side == "station"), (side, action)
                validator((version, action, "request")).validate(payload)
                if kind == 2:
                    assert (side, message_id) not in calls, "one id, two calls"
                    calls[side, message_id] = action
            elif kind == 3:
                assert len(frame) == 3
                validator((version, calls.pop((OTHER[side], message_id)), "response")).validate(frame[2])
            else:
                assert kind == 4, "no other frame belongs into an orderly conversation"
                assert len(frame) == 5
                assert frame[2] in ERROR_CODES
                calls.pop((OTHER[side], message_id))
        return len(self.frames)


class RecordedSocket:
    """A client's WebSocket that notes all frames of both sides."""

    def __init__(self, socket: Any, record: RecordedFrames) -> None:
        self._socket, self._record = socket, record

    async def recv(self) -> Any:
        """The next message of the CSMS."""
        text = await self._socket.recv()
        self._record.add("csms", text)
        return text

    async def send(self, text: str) -> None:
        """Send a message of the station's."""
        self._record.add("station", text)
        await self._socket.send(text)
