"""The TLS handshake of an arriving connection: done here and not by the listener, which tells nobody why one failed."""

import asyncio
import ipaddress
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, cast

from gridtide.run.clock import Clock

HANDSHAKE_S: Final = 10.0
CLOSE_S: Final = 2.0
TOLD_EVERY_S: Final = 3_600.0
"""The failures of one IPv4 address or IPv6 /64 are told so often."""
REMEMBERED: Final = 1_024
"""Addresses, the latest ones."""
TOLD_AT_ONCE: Final = 10
TOLD_WITHIN_S: Final = 60.0
"""Of all addresses together so many are told in this time."""
EARLY_BYTES: Final = 64 * 1024
"""What may come before the connection is handed over; no request is that long."""
Established = Callable[[asyncio.BaseTransport, bytes], None]
"""(encrypted transport, what came on it already)"""


class HandshakeLog:
    """Tells of failed handshakes: address, reason, and how many were kept back meanwhile."""

    def __init__(self, clock: Clock, tell: Callable[[str], None]) -> None:
        """`tell` hears one line; it must return at once and not raise."""
        self._clock, self._tell = clock, tell
        self._told_s: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """Network -> monotonic instant it was told last, and failures since."""
        self._recent_s: list[float] = []
        self.failed = 0
        """All of them."""

    def note(self, address: str, error: Exception) -> None:
        """A handshake with `address` failed."""
        self.failed += 1
        now_s, network = self._clock.monotonic(), _network(address)
        told_s, kept_back = self._told_s.pop(network, (-TOLD_EVERY_S, 0))
        self._recent_s = [at_s for at_s in self._recent_s if now_s - at_s < TOLD_WITHIN_S]
        if now_s - told_s < TOLD_EVERY_S or len(self._recent_s) >= TOLD_AT_ONCE:
            self._remember(network, told_s, kept_back + 1)
            return
        self._recent_s.append(now_s)
        self._remember(network, now_s, 0)
        more = f"; {kept_back} more before" if kept_back else ""
        self._tell(f"TLS handshake with {address} failed: {reason_of(error)}{more}.")

    def _remember(self, network: str, told_s: float, kept_back: int) -> None:
        self._told_s[network] = (told_s, kept_back)
        if len(self._told_s) > REMEMBERED:
            self._told_s.popitem(last=False)


class Handshake(asyncio.Protocol):
    """One handshake: the protocol of a plain transport until TLS stands, and of the encrypted one until it is handed over."""

    def __init__(self, context: ssl.SSLContext, established: Established, log: HandshakeLog) -> None:
        self._context, self._established, self._log = context, established, log
        self._raw, self._early = bytearray(), bytearray()
        """What came before TLS began, still encrypted; and what came on it before the hand-over."""
        self._began = self._lost = False

    def begin(self, transport: asyncio.Transport) -> "asyncio.Task[None]":
        """Shake hands on a transport that was just made; whoever calls this keeps the task."""
        transport.pause_reading()
        transport.set_protocol(self)
        return asyncio.get_running_loop().create_task(self._shake(transport))

    async def _shake(self, transport: asyncio.Transport) -> None:
        address = (transport.get_extra_info("peername") or ("unknown",))[0]
        try:
            encrypted = await self._encrypted(transport)
        except asyncio.CancelledError:
            transport.abort()
            raise
        except (
            OSError,
            RuntimeError,
        ) as error:  # ssl.SSLError and the timeout are OSErrors; uvloop's closed transport is not
            transport.abort()
            self._log.note(str(address), error)
            return
        if encrypted is None or self._lost or len(self._early) > EARLY_BYTES:
            transport.abort()
            return
        self._established(encrypted, bytes(self._early))

    async def _encrypted(self, transport: asyncio.Transport) -> asyncio.Transport | None:
        # A pause within `connection_made` does not hold on uvloop, which begins to read after it.
        transport.pause_reading()
        self._began = True
        upgrade = asyncio.get_running_loop().start_tls(
            transport, self, self._context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=CLOSE_S,
        )  # fmt: skip
        if not self._raw:
            return await upgrade
        shaking = asyncio.ensure_future(upgrade)
        try:
            # Two turns of the loop: TLS takes its place on the transport, then is told of it; it has read nothing yet.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if transport.get_protocol() is not self:
                _feed(transport.get_protocol(), bytes(self._raw))
            return await shaking
        except asyncio.CancelledError:
            shaking.cancel()
            raise

    def data_received(self, data: bytes) -> None:
        """Keep what comes before the hand-over."""
        kept = self._early if self._began else self._raw
        if len(kept) <= EARLY_BYTES:
            kept += data

    def connection_lost(self, _error: Exception | None) -> None:
        """The other side went before the hand-over."""
        self._lost = True


def _feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    """Hand the TLS protocol what was read before it was there."""
    tls = cast("asyncio.BufferedProtocol", protocol)
    while data:
        room = memoryview(tls.get_buffer(len(data))).cast("B")
        size = min(len(room), len(data))
        room[:size] = data[:size]
        tls.buffer_updated(size)
        data = data[size:]


def reason_of(error: Exception) -> str:
    """Why a handshake failed, in the words of the TLS library."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the station's certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, ConnectionAbortedError):
        return f"not done within {HANDSHAKE_S:g} s"
    return "the other side hung up" if isinstance(error, ConnectionError) else type(error).__name__


def _network(address: str) -> str:
    """What one sender holds: an IPv4 address or an IPv6 /64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    return str(ip if isinstance(ip, ipaddress.IPv4Address) else ip.ipv4_mapped or int(ip) >> 64)
