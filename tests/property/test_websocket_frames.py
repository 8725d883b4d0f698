"""Our reading of WebSocket frames delivers what the library would, however the bytes are cut, and never raises."""

import asyncio
import struct
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State
from websockets.server import ServerProtocol

from gridtide.run.websocket import MAX_FRAME_BYTES, TURN_BYTES, StationConnection

REQUEST = (
    b"GET /ocpp/a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
Frame = tuple[int, bytes]
"""(first byte, payload)"""


class Transport:
    """Takes what is written; pauses and resumes nothing."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.ended = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.ended

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args: None


async def opened(early: bytes = b"") -> tuple[StationConnection, list[tuple[bytes, bool]]]:
    """A connection after its handshake, and what its listener hears. `early`: sent together with the request."""

    async def nothing(_connection: ServerConnection) -> None:
        return None

    server: Any = SimpleNamespace(handler=nothing, handler_tasks=set())
    protocol, heard = ServerProtocol(max_size=MAX_FRAME_BYTES), list[tuple[bytes, bool]]()
    connection = StationConnection(protocol, server)
    connection.connection_made(Transport())  # type: ignore[arg-type]
    connection.listener = lambda data, is_text: heard.append((data, is_text))
    connection.data_received(REQUEST + early)
    assert connection.request is not None
    protocol.send_response(protocol.accept(connection.request))
    connection.send_data()
    for event in protocol.events_received():
        connection.process_event(event)
    return connection, heard


def encode(frame: Frame, mask: bytes) -> bytes:
    first, payload = frame
    size = len(payload)
    head = struct.pack(">BB", first, 0x80 | size) if size < 126 else struct.pack(">BBH", first, 0x80 | 126, size)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return head + mask + masked


TEXTS = st.one_of(st.binary(max_size=200), st.integers(0, 3 * TURN_BYTES).map(lambda size: b"y" * size))
MESSAGES = st.one_of(
    TEXTS.map(lambda data: [(0x81, data)]),
    st.binary(max_size=50).map(lambda data: [(0x82, data)]),
    st.binary(max_size=20).map(lambda data: [(0x89, data)]),
    st.lists(st.binary(max_size=50), min_size=2, max_size=4).map(
        lambda parts: [(0x01, parts[0]), *((0x00, part) for part in parts[1:-1]), (0x80, parts[-1])]
    ),
)


def messages_of(frames: list[Frame]) -> list[tuple[bytes, bool]]:
    """What the frames say, by the plain rules of RFC 6455."""
    said, parts = [], b""
    for first, payload in frames:
        if first in (0x81, 0x82):
            said.append((payload, first == 0x81))
        elif first in (0x01, 0x00, 0x80):
            parts = payload if first == 0x01 else parts + payload
            if first == 0x80:
                said.append((parts, True))
    return said


async def feed(connection: StationConnection, data: bytes, cuts: list[int]) -> None:
    place = 0
    while place < len(data):
        size = max(cuts[0], 1)
        cuts = [*cuts[1:], cuts[0]]
        connection.data_received(data[place : place + size])
        place += size
        await asyncio.sleep(0)
    for _ in range(len(data) // TURN_BYTES + 2):
        await asyncio.sleep(0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(MESSAGES, max_size=12),
    st.lists(st.integers(1, 20_000), min_size=1, max_size=5),
    st.binary(min_size=4, max_size=4),
)
def test_every_message_arrives_whole_and_in_order_however_it_is_cut(
    messages: list[list[Frame]], cuts: list[int], mask: bytes
) -> None:
    frames = [frame for message in messages for frame in message]

    async def main() -> list[tuple[bytes, bool]]:
        connection, heard = await opened()
        await feed(connection, b"".join(encode(frame, mask) for frame in frames), cuts)
        assert connection.state is State.OPEN
        return heard

    assert asyncio.run(main()) == messages_of(frames)


@settings(max_examples=60, deadline=None)
@given(st.lists(MESSAGES, max_size=3), st.binary(max_size=300), st.lists(st.integers(1, 400), min_size=1, max_size=4))
def test_rubbish_never_raises_and_the_library_judges_it(
    before: list[list[Frame]], rubbish: bytes, cuts: list[int]
) -> None:
    good = b"".join(encode(frame, b"abcd") for message in before for frame in message)

    async def main() -> tuple[State, list[tuple[bytes, bool]]]:
        connection, heard = await opened()
        await feed(connection, good + rubbish, list(cuts))
        return connection.state, heard

    async def library() -> State:
        connection, _ = await opened()
        Connection.data_received(connection, good + rubbish)
        return connection.state

    state, heard = asyncio.run(main())
    said = messages_of([frame for message in before for frame in message])
    assert heard[: len(said)] == said
    # We may still wait for the rest of a frame whose header the library refuses at once.
    assert state is asyncio.run(library()) or state is State.OPEN


def test_an_oversized_frame_ends_the_connection_before_it_is_read() -> None:
    async def main() -> State:
        connection, _ = await opened()
        await feed(connection, struct.pack(">BBQI", 0x81, 0xFF, MAX_FRAME_BYTES + 1, 0) + b"x" * 100, [50])
        return connection.state

    assert asyncio.run(main()) is not State.OPEN


def test_a_whole_message_between_fragments_is_refused() -> None:
    async def main() -> State:
        connection, heard = await opened()
        await feed(connection, encode((0x01, b"begun"), b"abcd") + encode((0x81, b"between"), b"abcd"), [100])
        assert heard == []
        return connection.state

    assert asyncio.run(main()) is not State.OPEN


def test_an_unmasked_frame_is_refused() -> None:
    async def main() -> State:
        connection, heard = await opened()
        await feed(connection, b"\x81\x02hi", [100])
        assert heard == []
        return connection.state

    assert asyncio.run(main()) is not State.OPEN


def test_frames_sent_with_the_request_are_read_too() -> None:
    async def main() -> list[tuple[bytes, bool]]:
        frame = encode((0x81, b"early bird"), b"abcd")
        connection, heard = await opened(early=frame[:3])
        await feed(connection, frame[3:] + encode((0x81, b"next"), b"wxyz"), [5])
        return heard

    assert asyncio.run(main()) == [(b"early bird", True), (b"next", True)]


def test_much_at_once_is_read_a_turn_at_a_time() -> None:
    async def main() -> list[int]:
        connection, heard = await opened()
        connection.data_received(encode((0x81, b"x"), b"abcd") * 5_000)
        counts = [len(heard)]
        while counts[-1] < 5_000:
            await asyncio.sleep(0)
            counts.append(len(heard))
        return [later - sooner for sooner, later in pairwise(counts)]

    assert max(asyncio.run(main())) <= TURN_BYTES // 7


def test_what_is_put_is_one_text_frame_of_any_size() -> None:
    async def main() -> list[tuple[int, bytes]]:
        connection, _ = await opened()
        transport: Any = connection.transport
        transport.written.clear()
        for size in (0, 125, 126, 65_535, 65_536):
            connection.put_text(b"z" * size)
        return [(data[0], data[1:2]) for data in transport.written]

    assert asyncio.run(main()) == [
        (0x81, b"\x00"), (0x81, b"\x7d"), (0x81, b"\x7e"), (0x81, b"\x7e"), (0x81, b"\x7f"),
    ]  # fmt: skip
