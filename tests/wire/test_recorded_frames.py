"""The judge of recorded conversations finds what is wrong with a frame of either side."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.live.recorded_frames import RecordedFrames, RecordedSocket, Side

BOOT = {"reason": "PowerUp", "chargingStation": {"model": "m", "vendorName": "v"}}
BOOTED = {"currentTime": "2026-01-01T00:00:00Z", "interval": 300, "status": "Accepted"}
GOOD: list[tuple[Side, list[Any]]] = [
    ("station", [2, "1", "BootNotification", BOOT]),
    ("csms", [3, "1", BOOTED]),
    ("csms", [2, "1", "ClearCache", {}]),
    ("station", [4, "1", "NotImplemented", "", {}]),
]


def judged(frames: list[tuple[Side, list[Any]]]) -> int:
    record = RecordedFrames()
    for side, frame in frames:
        record.add(side, json.dumps(frame))
    return record.check("2.1")


def test_an_orderly_conversation() -> None:
    assert judged(GOOD) == 4
    record = RecordedFrames()
    record.frames = list(GOOD)
    assert (record.said("station"), record.said("csms")) == (["BootNotification"], ["ClearCache"])


@pytest.mark.parametrize(
    "frames",
    [
        [("station", [2, "1", "BootNotification", {"reason": "PowerUp"}])],
        [GOOD[0], ("csms", [3, "1", {**BOOTED, "status": "Fine"}])],
        [GOOD[0], ("csms", [3, "1", {**BOOTED, "currentTime": "now"}])],
        [GOOD[2], ("station", [3, "1", {"status": "Accepted", "extra": 1}])],
    ],
)
def test_a_payload_that_breaks_its_schema(frames: list[tuple[Side, list[Any]]]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        judged(frames)


@pytest.mark.parametrize(
    "frames",
    [
        [("csms", [2, "1", "BootNotification", BOOT])],
        [("station", [2, "1", "ClearCache", {}])],
        [("station", [2, "i" * 37, "BootNotification", BOOT])],
        [("station", [2, 1, "BootNotification", BOOT])],
        [("station", [2, "1", "BootNotification", BOOT, 1])],
        [GOOD[0], GOOD[0]],
        [GOOD[2], ("station", [4, "1", "Nonsense", "", {}])],
        [GOOD[2], ("station", [4, "1", "NotImplemented", ""])],
        [("csms", [5, "1", "GenericError", "", {}])],
    ],
)
def test_a_frame_that_breaks_the_rules(frames: list[tuple[Side, list[Any]]]) -> None:
    with pytest.raises(AssertionError):
        judged(frames)


@pytest.mark.parametrize(
    "frames", [[("csms", [3, "1", BOOTED])], [*GOOD, GOOD[1]], [GOOD[0], ("station", [3, "1", BOOTED])]]
)
def test_an_answer_without_a_question(frames: list[tuple[Side, list[Any]]]) -> None:
    with pytest.raises(KeyError):
        judged(frames)


def test_a_socket_notes_both_sides() -> None:
    class Socket:
        async def recv(self) -> str:
            return json.dumps(GOOD[1][1])

        async def send(self, text: str) -> None:
            sent.append(text)

    sent: list[str] = []
    record = RecordedFrames()
    socket = RecordedSocket(Socket(), record)
    for step in (socket.send(json.dumps(GOOD[0][1])), socket.recv()):
        with pytest.raises(StopIteration):
            step.send(None)
    assert record.frames == GOOD[:2]
    assert [json.loads(text) for text in sent] == [GOOD[0][1]]
