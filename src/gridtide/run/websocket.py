"""One OCPP link over a WebSocket, bytes in and bytes out, from either end; and dialling as a station. Only this file and
`ocpp_server` know the WebSocket library."""

import ssl

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from gridtide.run.credentials import basic_header
from gridtide.run.net import ABNORMAL_CLOSURE, LinkClosed

MAX_FRAME_BYTES = 256 * 1024
UNREADABLE = b"\xff"
"""Stands for a binary message: OCPP is text, and no JSON begins with this byte."""


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

    async def send(self, data: bytes) -> None:
        """Send one text message."""
        try:
            await self._socket.send(data, text=True)
        except ConnectionClosed as error:
            raise self._ended(error) from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; a second call does nothing."""
        self._closed = True
        await self._socket.close(code, reason)

    def _ended(self, error: ConnectionClosed) -> LinkClosed:
        self._closed = True
        frame = error.rcvd or error.sent
        return LinkClosed(frame.code if frame else ABNORMAL_CLOSURE, frame.reason if frame else "")


async def dial(
    url: str, identity: str, password: str, version: str, tls: ssl.SSLContext | None = None
) -> WebSocketLink:
    """Connect as a station to `url` (the identity is appended to its path); raises OSError, also when the CSMS refuses."""
    try:
        socket = await connect(
            f"{url.rstrip('/')}/{identity}", ssl=tls, subprotocols=[Subprotocol(version)], compression=None,
            additional_headers={"Authorization": basic_header(identity, password)}, max_size=MAX_FRAME_BYTES,
            ping_interval=None, close_timeout=1.0, proxy=None,
        )  # fmt: skip
    except InvalidHandshake as error:
        raise ConnectionRefusedError(f"{url} refused {identity}: {error}") from None
    return WebSocketLink(socket)
