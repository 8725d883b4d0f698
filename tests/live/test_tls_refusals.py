"""A TLS handshake that fails is told with address and reason, a few times and no more; one that succeeds is not."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from gridtide.run.clock import WallClock
from gridtide.run.tls_door import REMEMBERED, TOLD_AT_ONCE, TOLD_EVERY_S, TOLD_WITHIN_S, HandshakeLog, reason_of
from tests.live.csms_server import Served
from tests.live.security_rig import client_tls, knock, secured, small_pki

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def told(served: Served) -> list[str]:
    return [text for code, _, text in served.told if code == "security" and "handshake" in text]


def old_client(port: int) -> None:
    """Knows TLS 1.2 at most."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode, tls.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", port), 5.0) as raw,
        suppress(OSError),
        tls.wrap_socket(raw, server_hostname="csms.test"),
    ):
        pass


def distrusting_client(port: int) -> None:
    """Does not trust our root, and says so."""
    with (
        socket.create_connection(("127.0.0.1", port), 5.0) as raw,
        suppress(OSError),
        ssl.create_default_context().wrap_socket(raw, server_hostname="csms.test"),
    ):
        pass


def plain_client(port: int) -> None:
    """Speaks no TLS at all."""
    with socket.create_connection(("127.0.0.1", port), 5.0) as raw, suppress(OSError):
        raw.sendall(b"GET /ocpp/bay-1 HTTP/1.1\r\n\r\n")
        raw.recv(64)


@pytest.mark.parametrize("loop", list(LOOPS))
@pytest.mark.parametrize(
    ("client", "words"),
    [(old_client, "unsupported protocol"), (distrusting_client, "unknown ca"), (plain_client, "http request")],
)
def test_a_failed_handshake_is_told_once_and_good_stations_still_come_in(
    tmp_path: Path, loop: str, client: Callable[[int], None], words: str
) -> None:
    pki = small_pki(tmp_path / "pki")

    async def scenario() -> None:
        async with secured(pki, None, 1) as (served, _, wss):
            for _ in range(3):
                await asyncio.to_thread(client, served.listener.server.ports[1])
            async with knock(f"{wss}/bay-1", client_tls(pki), user="bay-1", password=served.passwords["bay-1"]) as good:
                await good.ping()
            async with asyncio.timeout(5.0):
                while served.listener.server.handshakes.failed < 3:
                    await asyncio.sleep(0.01)
            assert len(told(served)) == 1
            assert "TLS handshake with 127.0.0.1 failed" in told(served)[0]
            assert words in told(served)[0]

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario())


def test_a_silent_connection_does_not_hold_up_the_end(tmp_path: Path) -> None:
    pki = small_pki(tmp_path / "pki")

    async def scenario() -> None:
        async with asyncio.timeout(8.0), secured(pki, None, 1) as (served, _, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.listener.server.ports[1])
            await asyncio.sleep(0.1)
        assert await asyncio.wait_for(reader.read(), 3.0) == b""
        writer.close()

    asyncio.run(scenario())


class Hands(WallClock):
    """A clock that is set by hand."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


def test_one_address_is_told_once_an_hour_with_what_was_kept_back() -> None:
    clock, lines = Hands(), list[str]()
    log = HandshakeLog(clock, lines.append)
    for _ in range(5):
        log.note("192.0.2.7", ConnectionResetError())
    log.note("2001:db8::1", ConnectionResetError())
    log.note("2001:db8::ffff", ConnectionResetError())
    assert lines == [
        f"TLS handshake with {who} failed: the other side hung up." for who in ("192.0.2.7", "2001:db8::1")
    ]
    clock.now_s = TOLD_EVERY_S
    log.note("192.0.2.7", ConnectionResetError())
    assert lines[2:] == ["TLS handshake with 192.0.2.7 failed: the other side hung up; 4 more before."]
    assert log.failed == 8


def test_many_addresses_flood_neither_the_events_nor_the_memory() -> None:
    clock, lines = Hands(), list[str]()
    log = HandshakeLog(clock, lines.append)
    for number in range(2 * REMEMBERED):
        log.note(f"10.0.{number >> 8}.{number & 255}", ConnectionResetError())
    assert len(lines) == TOLD_AT_ONCE
    assert len(log._told_s) == REMEMBERED
    clock.now_s = TOLD_WITHIN_S
    log.note("10.9.9.9", ConnectionResetError())
    assert len(lines) == TOLD_AT_ONCE + 1


def test_reasons_are_words() -> None:
    assert reason_of(ConnectionAbortedError("SSL handshake is taking longer")) == "not done within 10 s"
    refused = ssl.SSLCertVerificationError(1, "verify failed")
    refused.verify_message = "certificate has expired"
    assert reason_of(refused) == "the station's certificate: certificate has expired"
