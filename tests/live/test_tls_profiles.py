"""Security profiles 2 and 3 on the socket: the exact suites, two server certificates, renewal without restart, revocation."""

import asyncio
import asyncio.sslproto
import socket
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gridtide.run.certificate_watch import CertificateWatch
from gridtide.run.clock import LoopClock
from gridtide.run.credentials import CredentialError, Credentials
from gridtide.run.doors import StationDoor
from gridtide.run.ocpp_server import REVOKED_CLOSE, Greeting, Listen, OcppServer
from gridtide.run.pki import Pki
from gridtide.run.tls import StationTls
from gridtide.run.websocket import WebSocketLink
from tests.live.csms_server import until
from tests.live.security_rig import CUT_OFF, Doors, client_tls, knock, secured, small_pki
from tests.live.tls_scan import scan

TLS13 = {0x1301, 0x1302, 0x1303}
ECDSA = {"ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B, "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C}
RSA = {"AES128-GCM-SHA256": 0x009C, "AES256-GCM-SHA384": 0x009D}
MODES = {
    "default": ("1.3", False, {"1.3": TLS13}),
    "TLS 1.2 allowed": ("1.2", False, {"1.2": set(ECDSA.values()), "1.3": TLS13}),
    "conformance": ("1.3", True, {"1.2": {*ECDSA.values(), *RSA.values()}, "1.3": TLS13}),
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return small_pki(tmp_path_factory.mktemp("tls") / "pki", "SN-1", "SN-2")


@pytest.mark.parametrize("mode", MODES)
def test_exactly_the_listed_suites_are_accepted(pki: Pki, mode: str) -> None:
    minimum, conformance, expected = MODES[mode]

    async def scenario() -> None:
        async with secured(pki, None, 1, minimum=minimum, conformance=conformance) as (served, _, _):
            assert await scan(served.listener.server.ports[1]) == expected

    asyncio.run(scenario())


def test_tls_1_2_can_be_offered_and_withdrawn_while_it_runs(pki: Pki) -> None:
    async def scenario() -> None:
        async with secured(pki, None, 1) as (served, _, _):
            server = served.listener.server
            (side,) = server.tls_sides
            for minimum, expected in (("1.2", {"1.2", "1.3"}), ("1.3", {"1.3"})):
                side.set_minimum(minimum)  # type: ignore[arg-type]
                server.reload()
                assert set(await scan(server.ports[1])) == expected

    asyncio.run(scenario())


def test_the_scan_sees_what_a_careless_listener_accepts(pki: Pki) -> None:
    """Python's own default context: without this the scan above could be blind."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for pair in pki.tls_settings().pairs:
        context.load_cert_chain(pair.certificate)

    async def scenario() -> None:
        async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0, ssl=context) as server:
            found = await scan(next(iter(server.sockets)).getsockname()[1])
        assert found["1.3"] == TLS13
        assert len(found["1.2"]) > 8
        assert 0xC02B in found["1.2"]

    asyncio.run(scenario())


@pytest.mark.parametrize("suite", [*ECDSA, *RSA])
def test_a_real_client_with_one_suite_talks_where_it_is_allowed(pki: Pki, suite: str) -> None:
    tls = client_tls(pki, newest=ssl.TLSVersion.TLSv1_2)
    tls.set_ciphers(suite)

    async def scenario() -> None:
        for minimum, conformance, expected in MODES.values():
            async with secured(pki, None, 1, minimum=minimum, conformance=conformance) as (served, _, wss):
                way = knock(f"{wss}/bay-1", tls, user="bay-1", password=served.passwords["bay-1"])
                if {**ECDSA, **RSA}[suite] not in expected.get("1.2", set()):
                    with pytest.raises(CUT_OFF):
                        await way.__aenter__()
                    continue
                async with way as station:
                    session = station.transport.get_extra_info("ssl_object")
                    assert session.cipher()[0] == suite
                    assert session.compression() is None
                    held = x509.load_der_x509_certificate(session.getpeercert(binary_form=True))
                    assert type(held.public_key()).__name__.startswith("RSA") == (suite in RSA)

    asyncio.run(scenario())


def ask(port: int, tls: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[bytes, bool, ssl.SSLSession | None]:
    """A blocking client that resumes where it can: the status line, whether it did resume, and its session."""
    request = (
        b"GET /bay-1 HTTP/1.1\r\nHost: csms.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ocpp2.1\r\n\r\n"
    )
    with (
        socket.create_connection(("127.0.0.1", port), 5.0) as raw,
        tls.wrap_socket(raw, server_hostname="csms.test", session=session) as secure,
    ):
        secure.sendall(request)
        return secure.recv(4096).split(b"\r\n")[0], bool(secure.session_reused), secure.session


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_resumed_session_carries_no_revoked_certificate_in(tmp_path: Path, version: str) -> None:
    pki = small_pki(tmp_path / "pki", "SN-1")
    newest = ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
    tls = client_tls(pki, "SN-1", newest=newest)
    doors = Doors(bay_1=StationDoor(security_profile=3, serial="SN-1", tls_min="1.2"))

    async def scenario() -> None:
        async with secured(pki, doors, 1, minimum="1.2") as (served, _, _):
            port = served.listener.server.ports[1]
            status, _, session = await asyncio.to_thread(ask, port, tls, None)
            assert b"101" in status
            status, resumed, session = await asyncio.to_thread(ask, port, tls, session)
            assert b"101" in status
            assert not (resumed and version == "1.3"), "TLS 1.3 gives no tickets"
            pki.revoke(time.time(), kind="station", subject="SN-1")
            served.listener.server.reload()
            status, _, _ = await asyncio.to_thread(ask, port, tls, session)
            assert b"401" in status

    asyncio.run(scenario())


# --- renewal and revocation -------------------------------------------------------------------------------------------
async def served_number(url: str, tls: ssl.SSLContext, password: str) -> int:
    async with knock(url, tls, user="bay-1", password=password) as station:
        return int(station.transport.get_extra_info("ssl_object").getpeercert()["serialNumber"], 16)


def test_a_renewed_server_certificate_is_taken_over_without_restart(tmp_path: Path) -> None:
    pki = small_pki(tmp_path / "pki")
    tls = client_tls(pki)

    async def scenario() -> None:
        async with secured(pki, None, 1) as (served, _, wss):
            old = await served_number(f"{wss}/bay-1", tls, served.passwords["bay-1"])
            async with knock(f"{wss}/bay-1", tls, user="bay-1", password=served.passwords["bay-1"]) as kept:
                made = pki.renew("server", "csms.test", time.time())
                served.listener.server.reload()
                await kept.ping()
            new = await served_number(f"{wss}/bay-1", tls, served.passwords["bay-1"])
            assert new != old
            assert new in {int(one.number, 16) for one in made}

    asyncio.run(scenario())


def test_a_damaged_renewal_changes_nothing(tmp_path: Path) -> None:
    pki = small_pki(tmp_path / "pki")
    tls = client_tls(pki)

    async def scenario() -> None:
        async with secured(pki, None, 1) as (served, _, wss):
            old = await served_number(f"{wss}/bay-1", tls, served.passwords["bay-1"])
            pki.renew("server", "csms.test", time.time())
            ecdsa, rsa = (pair.certificate for pair in pki.tls_settings().pairs)
            for path, other in ((ecdsa, rsa), (rsa, ecdsa)):
                kept = path.read_bytes()
                for bad in (b"", kept[:-40], other.read_bytes(), kept.replace(b"PRIVATE", b"PUBLIC")):
                    path.write_bytes(bad)
                    with pytest.raises(CredentialError, match=r"csms\.test"):
                        served.listener.server.reload()
                    assert await served_number(f"{wss}/bay-1", tls, served.passwords["bay-1"]) == old
                path.write_bytes(kept)
            served.listener.server.reload()
            assert await served_number(f"{wss}/bay-1", tls, served.passwords["bay-1"]) != old

    asyncio.run(scenario())


def test_revoking_a_connected_station_ends_its_connection_and_bars_it(tmp_path: Path) -> None:
    pki = small_pki(tmp_path / "pki", "SN-1", "SN-2")
    doors = Doors(
        bay_1=StationDoor(security_profile=3, serial="SN-1"), bay_2=StationDoor(security_profile=3, serial="SN-2")
    )
    tls, other = client_tls(pki, "SN-1"), client_tls(pki, "SN-2")

    async def scenario() -> None:
        async with secured(pki, doors, 2) as (served, _, wss):
            async with knock(f"{wss}/bay-1", tls) as station, knock(f"{wss}/bay-2", other) as kept:
                both = served.csms.stations.values()
                await until(lambda: all(one.conversation is not None for one in both), "both")
                pki.revoke(time.time(), kind="station", subject="SN-1")
                served.listener.server.reload()
                await station.wait_closed()
                assert station.close_code == REVOKED_CLOSE
                await (await kept.ping())
            with pytest.raises(InvalidStatus, match="401"):
                await knock(f"{wss}/bay-1", tls).__aenter__()
            assert any("certificate revoked" in text for _, _, text in served.told)

    asyncio.run(scenario())


def test_moving_a_station_from_profile_2_to_3_leaves_both_open_until_it_is_over(pki: Pki) -> None:
    doors = Doors(bay_1=StationDoor(security_profile=2, next_profile=3, serial="SN-1"))
    greeted: list[Greeting] = []

    async def on_link(greeting: Greeting, link: WebSocketLink) -> None:
        greeted.append(greeting)
        await link.close()

    async def scenario() -> None:
        credentials = Credentials()
        password = credentials.issue("bay-1")
        tls = StationTls(pki.tls_settings())
        async with OcppServer(credentials, on_link, lambda _i, _p: None, port=0, tls=tls, door=doors) as server:
            url = f"wss://127.0.0.1:{server.port}/bay-1"
            with_password = {"user": "bay-1", "password": password}
            for context, given in ((client_tls(pki), with_password), (client_tls(pki, "SN-1"), {})):
                async with knock(url, context, **given) as station:  # type: ignore[arg-type]
                    with pytest.raises(ConnectionClosed):
                        await station.recv()
            assert [one.security_profile for one in greeted] == [2, 3]
            assert [one.tls_version for one in greeted] == ["1.3", "1.3"]
            assert greeted[0].certificate_number is None
            assert f"{greeted[1].certificate_number:x}" in {one.number for one in pki.issued() if one.subject == "SN-1"}
            doors.known["bay-1"] = StationDoor(security_profile=3, serial="SN-1")
            with pytest.raises(InvalidStatus, match="401"):
                await knock(url, client_tls(pki), user="bay-1", password=password).__aenter__()

    asyncio.run(scenario())


def test_without_doors_a_serial_number_is_looked_up(pki: Pki) -> None:
    greeted: list[Greeting] = []

    async def on_link(greeting: Greeting, link: WebSocketLink) -> None:
        greeted.append(greeting)
        await link.close()

    async def scenario() -> None:
        registry = {"SN-1": "bay-1"}.get
        tls = StationTls(pki.tls_settings())
        server = OcppServer(
            Credentials(), on_link, lambda _i, _p: None, port=0, more=[Listen("127.0.0.1", 0, tls)],
            identity_of_serial=registry,
        )  # fmt: skip
        async with server:
            root = f"wss://127.0.0.1:{server.ports[1]}"
            async with knock(f"{root}/bay-1", client_tls(pki, "SN-1")) as station:
                await station.wait_closed()
            for identity, serial in (("bay-1", "SN-2"), ("bay-2", "SN-2"), ("bay-2", "SN-1")):
                with pytest.raises(InvalidStatus, match="401"):
                    await knock(f"{root}/{identity}", client_tls(pki, serial)).__aenter__()
        assert [(one.identity, one.security_profile) for one in greeted] == [("bay-1", 3)]

    asyncio.run(scenario())


# --- refusing to start ------------------------------------------------------------------------------------------------
def test_plain_ws_is_offered_only_where_it_is_meant() -> None:
    async def nobody(_greeting: Greeting, _link: WebSocketLink) -> None: ...

    def server(host: str, **how: object) -> OcppServer:
        return OcppServer(Credentials(), nobody, lambda _i, _p: None, host=host, port=0, **how)  # type: ignore[arg-type]

    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        server(host)
    for host in ("0.0.0.0", "::", "", "10.0.0.5", "station-net.example"):
        with pytest.raises(CredentialError, match="plain ws"):
            server(host)
        server(host, profile1_addresses=frozenset({host}))
        with pytest.raises(CredentialError, match="plain ws"):
            server("127.0.0.1", more=[Listen(host, 0)])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_can_read_stops_the_start(tmp_path: Path, mode: int) -> None:
    pki = small_pki(tmp_path / "pki")
    key = pki.tls_settings().pairs[1].certificate
    key.chmod(mode)
    with pytest.raises(CredentialError, match=rf"{mode:04o}.*chmod 600"):
        StationTls(pki.tls_settings())
    key.chmod(0o600)
    key.parent.chmod(0o750)
    with pytest.raises(CredentialError, match=r"0750.*chmod 700"):
        StationTls(pki.tls_settings())
    key.parent.chmod(0o700)
    assert StationTls(pki.tls_settings()).revoked == frozenset()


# --- the watch --------------------------------------------------------------------------------------------------------
def test_the_watch_takes_over_renewals_and_tells_what_expires(tmp_path: Path) -> None:
    pki = small_pki(tmp_path / "pki", "SN-1")
    tls = client_tls(pki)

    async def scenario() -> None:
        async with secured(pki, None, 1) as (served, _, wss):
            listener = served.listener
            told = served.told

            def look() -> list[str]:
                before = len(told)
                listener.watch.look()
                return [text for _, _, text in told[before:]]

            old = await served_number(f"{wss}/bay-1", tls, served.passwords["bay-1"])
            assert look() == []
            pki.renew("server", "csms.test", time.time(), days=20.0)
            first, *soon = look()
            assert "taken over" in first
            assert len(soon) == 1, "the two certificates of one name are one matter"
            assert "expires in 20.0 days" in soon[0]
            assert look() == [], "once"
            new = await served_number(f"{wss}/bay-1", tls, served.passwords["bay-1"])
            assert new != old
            pki.tls_settings().pairs[0].certificate.write_bytes(b"damaged")
            (failed,) = [text for text in look() if "not taken over" in text]
            assert "csms.test" in failed
            look()
            assert await served_number(f"{wss}/bay-1", tls, served.passwords["bay-1"]) == new
            pki.renew("server", "csms.test", time.time())
            assert look() == ["Renewed certificates and revocation lists were taken over."]
            pki.renew("server", "csms.test", time.time(), days=0.5)
            assert any("expires in 0.5 days" in text for text in look())

    asyncio.run(scenario())


def test_the_watch_tells_each_threshold_once_as_time_passes(tmp_path: Path) -> None:
    pki = small_pki(tmp_path / "pki")
    issued = pki.issue_station("SN-1", time.time(), days=100.0)
    now_s, told = 0.0, list[str]()

    async def nobody(_greeting: Greeting, _link: WebSocketLink) -> None: ...

    server = OcppServer(Credentials(), nobody, lambda _i, _p: None, port=0, tls=StationTls(pki.tls_settings()))
    clock = LoopClock(lambda: now_s, time.time())
    watch = CertificateWatch(server, clock, told.append, pki.expiries)
    for day in range(102):
        now_s = day * 86_400.0
        watch.look()
        watch.look()
    mine = [text for text in told if "SN-1" in text]
    assert [text.split(" ")[4] for text in mine] == ["30.0", "7.0", "1.0"]
    (pki.folder / issued.file).unlink()
    pki.tls_settings().crls[0].write_bytes(b"")
    watch.look()
    watch.look()
    assert [text for text in told if "not taken over" in text or "cannot be read" in text] == told[-2:]


def test_a_rotation_whose_end_cannot_be_written_drops_no_station(tmp_path: Path) -> None:
    path = tmp_path / "stations.json"
    credentials = Credentials()
    credentials.save(path)
    credentials.issue("bay-1")
    new = credentials.rotate("bay-1")
    credentials.confirm("bay-1")

    async def talk(_greeting: Greeting, link: WebSocketLink) -> None:
        await link.send(b'"served"')
        await link.close()

    async def scenario() -> None:
        async with OcppServer(credentials, talk, lambda _i, _p: None, port=0) as server:
            (tmp_path / "stations.json.new").mkdir()
            async with knock(f"ws://127.0.0.1:{server.port}/bay-1", user="bay-1", password=new) as station:
                assert await station.recv() == '"served"'
            (tmp_path / "stations.json.new").rmdir()
            assert Credentials.load(path).accepts("bay-1", new)
            assert credentials.rotation("bay-1") == "none"

    asyncio.run(scenario())


def test_a_tls_connection_gets_a_small_buffer(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.sslproto.SSLProtocol, "max_size", 256 * 1024)
    StationTls(pki.tls_settings())
    assert asyncio.sslproto.SSLProtocol.max_size == 16 * 1024
