"""One OCPP link over a WebSocket, bytes in and bytes out, from either end; and dialling as a station. Only this file and
`ocpp_server` know the WebSocket library."""

import asyncio
import logging
import ssl
import struct
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Event, State
from websockets.typing import Subprotocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - a platform without the library's C part
    from websockets.utils import apply_mask

from gridtide.run.credentials import basic_header
from gridtide.run.net import ABNORMAL_CLOSURE, LinkClosed

MAX_FRAME_BYTES = 256 * 1024
TURN_BYTES = 4096
"""What one connection may have parsed and answered before others have their turn: some hundred of the smallest frames."""
ROOM_BYTES = 64 * 1024
"""Unsent bytes of a connection beyond which nothing more is written at once."""
MAX_FRAGMENTS = 1024
UNREADABLE = b"\xff"
"""Stands for a binary message: OCPP is text, and no JSON begins with this byte."""
OnFrame = Callable[[bytes, bool], None]
"""(payload, whether it is text)"""


class _Pushing(Connection):
    """A connection that hands whole messages to a listener as they are read: no queue and no task in between.

    A peer that sends much at once is read `TURN_BYTES` a turn of the loop, so that it delays no other.
    """

    listener: OnFrame | None = None
    _rest = b""
    """Read, but not yet parsed."""
    _is_waiting = False
    """The rest has its turn soon."""
    _parts: list[Frame] | None = None
    """Fragments of a message that has not ended yet."""

    def data_received(self, data: bytes) -> None:
        """Parse a turn's worth; the rest has its turn later."""
        if self._rest:
            data = self._rest + data
        if self._is_waiting:
            self._rest = data
        elif len(data) <= TURN_BYTES:
            self._rest = data[self._parse(data) :]
        else:
            self.transport.pause_reading()
            self._turn(data)

    def _turn(self, data: bytes) -> None:
        """Parse a part, and the rest in the loop's next turn; what is left in the end waits for its continuation."""
        self._rest = data[self._parse(data[:TURN_BYTES]) :]
        self._is_waiting = len(data) > TURN_BYTES and not self.transport.is_closing()
        if self._is_waiting:
            self.loop.call_soon(self._go_on)
        elif not self.transport.is_closing():
            self.transport.resume_reading()

    def _go_on(self) -> None:
        if self.protocol.state is not State.CLOSED:
            self._turn(self._rest)

    def _parse(self, data: bytes) -> int:
        """Parse what is there; returns how many bytes were used."""
        super().data_received(data)
        return len(data)

    def put_text(self, data: bytes) -> None:
        """Write one text frame."""
        self.protocol.send_text(data)
        self.send_data()

    def process_event(self, event: Event) -> None:
        """Hand over messages; all else is the library's."""
        if self.listener is None or not isinstance(event, Frame) or event.opcode not in _MESSAGES:
            super().process_event(event)
        elif event.fin and self._parts is None:
            self.listener(bytes(event.data), event.opcode is Opcode.TEXT)
        else:
            self._assemble(event, self.listener)

    def _assemble(self, event: Frame, listener: OnFrame) -> None:
        """Fragments to a message; the library bounds its size, and refuses fragments out of order."""
        self._parts = [*(self._parts or ()), event]
        if len(self._parts) > MAX_FRAGMENTS:
            self._parts = None
            self.protocol.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.send_data()
        elif event.fin:
            parts, self._parts = self._parts, None
            listener(b"".join(part.data for part in parts), parts[0].opcode is Opcode.TEXT)


_MESSAGES = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))


class StationConnection(_Pushing, ServerConnection):
    """A station's connection, at our end; give it to `serve` as `create_connection`.

    The usual frame, one whole masked text of moderate size, is read and written here; handshake, control frames, fragments,
    errors and anything else go through the library, frame by frame.
    """

    _is_at_frame = False
    """Everything that was parsed so far was whole, but for `_owed`: the next byte begins a frame."""
    _owed = 0
    """Bytes still to come of a large frame, which is the library's."""

    def _parse(self, data: bytes) -> int:
        """Parse whole frames; returns how many bytes were used."""
        protocol = self.protocol
        if protocol.state is State.CONNECTING:
            # Whoever sends frames before our answer to its request is read by the library for good.
            self._is_at_frame = data.endswith(b"\r\n\r\n")
        place = 0
        while place < len(data):
            if protocol.state is not State.OPEN or not self._is_at_frame or protocol.extensions:
                return place + super()._parse(data[place:])
            size = self._owed or _frame_size(data, place)
            end = place + size
            if self._owed or size > TURN_BYTES:
                self._owed = max(end - len(data), 0)
                super()._parse(data[place:end])
            elif size == 0 or end > len(data):
                break
            elif (
                self.listener
                and data[place] == _TEXT_FIN
                and data[place + 1] > _MASKED
                and protocol.current_size is None
            ):
                start = place + _HEADER[data[place + 1] - _MASKED]
                self.listener(apply_mask(data[start:end], data[start - 4 : start]), True)
            else:
                super()._parse(data[place:end])
            place = min(end, len(data))
        return place

    def put_text(self, data: bytes) -> None:
        """Write one text frame."""
        size = len(data)
        if self.protocol.extensions or size > 0xFFFF:
            super().put_text(data)
        elif size < 126:
            self.transport.write(_SHORT.pack(_TEXT_FIN, size) + data)
        else:
            self.transport.write(_LONG.pack(_TEXT_FIN, 126, size) + data)


_TEXT_FIN, _MASKED = 0x81, 0x80
_SHORT, _LONG = struct.Struct(">BB"), struct.Struct(">BBH")
_HEADER = (*[6] * 126, 8, 14)
"""Bytes before the payload of a masked frame by its length field, RFC 6455 section 5.2."""


def _frame_size(data: bytes, place: int) -> int:
    """Bytes of the frame that begins at `place`; 0 while its header is not complete."""
    there = len(data) - place
    if there < 2:
        return 0
    field, masked = data[place + 1] & 0x7F, data[place + 1] & _MASKED
    header = _HEADER[field] if masked else _HEADER[field] - 4
    if field < 126:
        return header + field
    if there < header:
        return 0
    return header + int.from_bytes(data[place + 2 : place + (4 if field == 126 else 10)], "big")


class DialledConnection(_Pushing, ClientConnection):
    """A connection that a station of ours dialled."""


class WebSocketLink:
    """`net.Link` over one WebSocket."""

    def __init__(self, socket: ServerConnection | ClientConnection) -> None:
        self._socket = socket
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once either side closed."""
        return self._closed

    async def receive(self) -> bytes:
        """The next message; LinkClosed at the end. A binary one, whatever it holds, becomes one the codec refuses."""
        try:
            data = await self._socket.recv()
        except ConnectionClosed as error:
            raise self._ended(error) from None
        return data.encode() if isinstance(data, str) else UNREADABLE

    async def listen(self, on_message: Callable[[bytes], None]) -> LinkClosed:
        """Hand over every message until the end; returns how it ended. What `on_message` raises ends the link and is raised."""
        socket, failures = self._socket, list[Exception]()

        def on_frame(data: bytes, is_text: bool) -> None:
            try:
                on_message(data if is_text else UNREADABLE)
            except Exception as error:
                failures.append(error)
                self.drop()

        try:
            # What came before anybody listened is in the library's queue; so is everything on a connection of its own kind.
            while not isinstance(socket, _Pushing) or socket.recv_messages.frames:
                on_message(await self.receive())
            socket.listener = on_frame
            await socket.wait_closed()
        except LinkClosed as ended:
            return ended
        finally:
            if isinstance(socket, _Pushing):
                socket.listener = None
        if failures:
            raise failures[0]
        return self._ended(socket.close_exc)

    async def send(self, data: bytes) -> None:
        """Send one text message."""
        try:
            await self._socket.send(data, text=True)
        except ConnectionClosed as error:
            raise self._ended(error) from None

    def put(self, data: bytes) -> bool:
        """Send one text message at once; False while the peer leaves no room, or when the link is closed."""
        socket = self._socket
        if socket.protocol.state is not State.OPEN or socket.transport.get_write_buffer_size() > ROOM_BYTES:
            return False
        if isinstance(socket, _Pushing):
            socket.put_text(data)
        else:
            socket.protocol.send_text(data)
            socket.send_data()
        return True

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; a second call does nothing."""
        self._closed = True
        await self._socket.close(code, reason)

    def drop(self) -> None:
        """Cut the connection without a word."""
        self._closed = True
        self._socket.transport.abort()

    def keep_alive(self, every_s: float, answer_s: float, close_s: float) -> None:
        """Ask for a sign of life every `every_s` from now on; without an answer within `answer_s` the link ends, `close_s` later at
        most. The same times again change nothing."""
        socket = self._socket
        wanted = (every_s, answer_s, close_s)
        if (socket.ping_interval, socket.ping_timeout, socket.close_timeout) == wanted:
            return
        if socket.protocol.state is not State.OPEN:
            return
        socket.ping_interval, socket.ping_timeout, socket.close_timeout = wanted
        if socket.keepalive_task is not None:
            socket.keepalive_task.cancel()
        socket.start_keepalive()

    @property
    def transport(self) -> asyncio.BaseTransport:
        """What the bytes go over."""
        return self._socket.transport

    def _ended(self, error: ConnectionClosed) -> LinkClosed:
        self._closed = True
        frame = error.rcvd or error.sent
        return LinkClosed(frame.code if frame else ABNORMAL_CLOSURE, frame.reason if frame else "")


_quiet = logging.getLogger("gridtide.run.websocket")
"""The library writes the headers of a handshake at DEBUG, the password among them."""
_quiet.setLevel(logging.WARNING)


async def dial(
    url: str, identity: str, password: str, version: str, tls: ssl.SSLContext | None = None
) -> WebSocketLink:
    """Connect as a station to `url` (the identity is appended to its path); raises OSError, also when the CSMS refuses."""
    try:
        socket = await connect(
            f"{url.rstrip('/')}/{identity}", ssl=tls, subprotocols=[Subprotocol(version)], compression=None,
            additional_headers={"Authorization": basic_header(identity, password)}, max_size=MAX_FRAME_BYTES,
            ping_interval=None, close_timeout=1.0, proxy=None, create_connection=DialledConnection, logger=_quiet,
        )  # fmt: skip
    except InvalidHandshake as error:
        raise ConnectionRefusedError(f"{url} refused {identity}: {error}") from None
    return WebSocketLink(socket)
