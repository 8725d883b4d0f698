"""Live telemetry: ticks on virtual time, the choice of series, slow and departed listeners, who may listen; once for real."""

import asyncio
import json
import math
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from gridtide.app.web import gate, people, server, telemetry
from gridtide.app.web.auth import Access
from gridtide.app.web.people import AccessFile
from gridtide.app.web.server import create_app, tls_context
from gridtide.model.telemetry import EvseTelemetry, TelemetryFrame, choice_of
from gridtide.run.credentials import CredentialError
from gridtide.run.pace import Streams
from gridtide.run.simloop import run_sim
from tests.live.fake_port import FakePort
from tests.live.fake_server import served
from tests.live.page_fixture import NOW_S

TOKEN = "t" * 43
HOST = "127.0.0.1:8080"
ORIGIN = f"http://{HOST}"
LOCAL, REMOTE = "127.0.0.1", "192.0.2.7"
PATH = "/api/v1/telemetry/live"


def frame(t_s: float, **evse: Any) -> TelemetryFrame:
    """A site with two EVSEs."""
    one = EvseTelemetry(evse_id="cs01/1", t_s=t_s, power_kw=7.0, soc=0.5)
    two = EvseTelemetry(evse_id="cs02/1", t_s=None, power_kw=None)
    return TelemetryFrame(t_s=t_s, site_kw=400.0, building_kw=None, evses=(structs.replace(one, **evse), two))


class Port(FakePort):
    """Frames that carry the instant they were made at."""

    def telemetry_now(self) -> TelemetryFrame:
        self.frames += 1
        return frame(asyncio.get_running_loop().time())


class Ear:
    """One end of a WebSocket, at the side of the server's application."""

    def __init__(
        self,
        app: Any,
        query: str = "",
        headers: dict[str, str] | None = None,
        peer: str = LOCAL,
        send_s: Callable[[int], float] = lambda _: 0.0,
    ) -> None:
        """`send_s`: how long the n-th frame takes to be taken."""
        self._app, self._send_s = app, send_s
        self.heard: list[tuple[float, dict[str, Any]]] = []
        self.ended: dict[str, Any] = {}
        self.status = 0
        self.says: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.says.put_nowait({"type": "websocket.connect"})
        pairs = {"Host": HOST, **(headers or {})}
        self._scope: dict[str, Any] = {
            "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws", "path": PATH,
            "raw_path": PATH.encode(), "query_string": query.encode(), "root_path": "", "subprotocols": [],
            "headers": [(name.lower().encode(), value.encode()) for name, value in pairs.items()],
            "client": (peer, 9), "server": ("127.0.0.1", 8080), "state": {}, "extensions": {"websocket.http.response": {}},
        }  # fmt: skip

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            number = len(self.heard)
            self.heard.append((asyncio.get_running_loop().time(), json.loads(message["text"])))
            await asyncio.sleep(self._send_s(number))
        elif message["type"] == "websocket.accept":
            self.status = 101
        else:
            self.status = message.get("status", self.status)
            self.ended |= message

    async def listen(self, for_s: float = 2.0) -> "Ear":
        """Until the server ends it, or so long."""
        try:
            async with asyncio.timeout(for_s):
                await self._app(self._scope, self.says.get, self._send)
        except TimeoutError:
            pass
        return self


class House:
    """An application with a telemetry port, people, and a clock of its own for sessions."""

    def __init__(self, folder: Path | None = None) -> None:
        self.port = Port()
        self.people = None if folder is None else AccessFile(folder / people.FILE)
        self.access = Access(TOKEN, 8080, lambda: 0.0, people=self.people)
        self.app = create_app(self.port, self.access)
        self.streams: Streams = self.app.opt["streams"]

    def hear(self, query: str = "", for_s: float = 2.0, **more: Any) -> Ear:
        """Listen on virtual time."""

        async def scene() -> Ear:
            return await Ear(self.app, query, **more).listen(for_s)

        return run_sim(scene())


@pytest.fixture
def house() -> House:
    return House()


# --- what is told, and when ------------------------------------------------------------------------------------------
def test_a_frame_every_200_ms(house: House) -> None:
    ear = house.hear(for_s=2.01)
    assert [round(at_s, 6) for at_s, _ in ear.heard] == [round(0.2 * k, 6) for k in range(11)]
    assert all(told["t_s"] == pytest.approx(at_s, abs=1e-9) for at_s, told in ear.heard)
    assert not house.streams.full


def test_a_frame_tells_none_as_null(house: House) -> None:
    told = house.hear(for_s=0.1).heard[0][1]
    assert (told["site_kw"], told["building_kw"]) == (400.0, None)
    assert told["evses"][0] == {
        "evse_id": "cs01/1", "t_s": told["t_s"], "power_kw": 7.0, "voltage_v": None, "current_a": None,
        "frequency_hz": None, "soc": 0.5, "temperature_c": None,
    }  # fmt: skip
    assert told["evses"][1]["power_kw"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_never_travel(value: float) -> None:
    class Broken:
        def telemetry_now(self) -> TelemetryFrame:
            return frame(1.0, power_kw=value)

    assert json.loads(telemetry.Feed(Broken()).text(None, 0.0))["evses"][0]["power_kw"] is None


@pytest.mark.parametrize(
    ("series", "keys", "ids"),
    [
        ("", {"t_s", "site_kw", "building_kw", "evses"}, ["cs01/1", "cs02/1"]),
        ("site_kw", {"t_s", "site_kw", "evses"}, []),
        ("building_kw", {"t_s", "building_kw", "evses"}, []),
        ("evse:cs02/1", {"t_s", "evses"}, ["cs02/1"]),
        ("site_kw, evse:cs02%2F1,evse:cs01/1", {"t_s", "site_kw", "evses"}, ["cs01/1", "cs02/1"]),
    ],
)
def test_series(house: House, series: str, keys: set[str], ids: list[str]) -> None:
    told = house.hear(f"series={series}".replace(" ", "%20"), 0.1).heard[0][1]
    assert set(told) == keys
    assert [evse["evse_id"] for evse in told["evses"]] == ids


def test_a_longer_period(house: House) -> None:
    assert [round(at_s, 6) for at_s, _ in house.hear("period_s=1", 3.5).heard] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("series=evse:nobody", 404, "evse:nobody"),
        ("series=soc", 404, "site_kw, building_kw"),
        ("series=site_kw,", 404, "no series"),
        (f"series={'x' * 9000}", 400, "series"),
        ("period_s=0.1", 400, "period_s"),
        ("period_s=61", 400, "period_s"),
        ("period_s=nan", 400, "period_s"),
        ("period_s=x", 400, "period_s"),
    ],
)
def test_refusals_are_http_answers(house: House, query: str, status: int, word: str) -> None:
    ear = house.hear(query)
    assert (ear.status, ear.heard) == (status, [])
    assert word in json.loads(ear.ended["body"])["detail"]


@given(series=st.text(max_size=30))
def test_any_series_is_a_choice_or_an_error(series: str) -> None:
    try:
        choice = choice_of(series, ["a", "b/1"])
    except KeyError as error:
        told = str(error)
        assert all(word in told for word in ("no series", "site_kw", "evse:"))
        return
    assert (choice is None) == (series == "")


@given(ids=st.sets(st.sampled_from(["cs01/1", "cs02/1"])), site=st.booleans(), building=st.booleans())
def test_a_choice_tells_what_was_chosen_and_nothing_else(ids: set[str], site: bool, building: bool) -> None:
    names = [*(["site_kw"] if site else []), *(["building_kw"] if building else []), *(f"evse:{name}" for name in ids)]
    choice, whole = choice_of(",".join(names), ["cs01/1", "cs02/1"]), frame(3.0)
    if choice is None:
        assert names == []
        return
    told = choice.of(whole)
    assert told.evses == tuple(evse for evse in whole.evses if evse.evse_id in ids)
    assert (told.site_kw == whole.site_kw, told.building_kw == whole.building_kw) == (site, building)


@given(number=st.integers(0, 10**9), period_s=st.floats(telemetry.PERIOD_S, telemetry.LONGEST_PERIOD_S))
def test_ticks_go_on(number: int, period_s: float) -> None:
    """At the instant of a tick it is that tick, so that the wait for the next one is never without end or length."""
    at_s = number * period_s
    assert telemetry.tick_of(at_s, period_s) == number
    assert (telemetry.tick_of(at_s, period_s) + 1) * period_s > at_s


# --- many, slow, gone -----------------------------------------------------------------------------------------------
def test_many_listeners_cost_one_reading_a_tick(house: House) -> None:
    async def scene() -> list[Ear]:
        return list(await asyncio.gather(*(Ear(house.app).listen(1.01) for _ in range(20))))

    ears = run_sim(scene())
    assert [len(ear.heard) for ear in ears] == [6] * 20
    assert house.port.frames == 6


def test_there_is_an_end_to_how_many_listen(house: House) -> None:
    async def scene() -> list[int]:
        ears = await asyncio.gather(*(Ear(house.app).listen(1.0) for _ in range(34)))
        return sorted(ear.status for ear in ears)

    assert run_sim(scene()) == [101] * 32 + [503] * 2
    assert not house.streams.full


def test_a_slow_listener_hears_the_latest(house: House) -> None:
    """Each frame takes 1.3 s to be taken: what it hears is never older than the tick in which it could take it."""
    ear = house.hear(for_s=8.0, send_s=lambda _: 1.3)
    assert len(ear.heard) == 6
    assert all(at_s - told["t_s"] < 1e-6 for at_s, told in ear.heard)


def test_a_listener_5_s_behind_is_dropped(house: House) -> None:
    ended: list[float] = []

    async def scene() -> Ear:
        ear = await Ear(house.app, send_s=lambda number: 1e6 if number == 3 else 0.0).listen(60.0)
        ended.append(asyncio.get_running_loop().time())
        return ear

    assert len(run_sim(scene()).heard) == 4
    assert ended == [pytest.approx(0.6 + gate.SOCKET_LIMIT_S)]
    assert gate.SOCKET_LIMIT_S == 5.0
    assert not house.streams.full
    assert server.PONG_S <= 5.0, "FT36: also who takes frames, but later and later"


def test_the_site_s_end_ends_it(house: House) -> None:
    async def scene() -> tuple[Ear, float]:
        asyncio.get_running_loop().call_later(0.5, house.streams.closing.set)
        ear = await Ear(house.app).listen(60.0)
        return ear, asyncio.get_running_loop().time()

    ear, ended_s = run_sim(scene())
    assert ended_s == pytest.approx(0.5)
    assert (ear.ended["type"], ear.ended["code"]) == ("websocket.close", 1001)


@pytest.mark.parametrize(
    "last", [{"type": "websocket.disconnect", "code": 1000}, {"type": "websocket.disconnect", "code": 1006}]
)
def test_a_listener_that_leaves_is_forgotten(house: House, last: dict[str, Any]) -> None:
    async def scene() -> float:
        ear = Ear(house.app)
        loop = asyncio.get_running_loop()
        for k in range(5):
            loop.call_later(0.1 * k, ear.says.put_nowait, {"type": "websocket.receive", "text": "chatter"})
        loop.call_later(0.7, ear.says.put_nowait, last)
        await ear.listen(60.0)
        assert len(ear.heard) == 4
        return loop.time()

    assert run_sim(scene()) == pytest.approx(0.7)


def test_a_connection_lost_while_we_speak_is_no_error(house: House) -> None:
    class Lost(Ear):
        async def _send(self, message: dict[str, Any]) -> None:
            if message["type"] == "websocket.send" and len(self.heard) == 2:
                self.says.put_nowait({"type": "websocket.disconnect", "code": 1006})
                raise OSError("gone")
            await super()._send(message)

    async def scene() -> Ear:
        return await Lost(house.app).listen(60.0)

    ear = run_sim(scene())
    assert len(ear.heard) == 2
    assert ear.ended == {}, "there is nobody to say more to"


# --- who may listen -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        (LOCAL, {}, 101),
        (LOCAL, {"Origin": ORIGIN}, 101),
        (LOCAL, {"Origin": "http://evil.example"}, 403),
        (LOCAL, {"Origin": "null"}, 403),
        (LOCAL, {"Host": "evil.example:8080"}, 403),
        (LOCAL, {"X-Forwarded-For": REMOTE}, 401),
        (LOCAL, {"Authorization": "Bearer wrong"}, 401),
        (REMOTE, {}, 401),
        (REMOTE, {"Authorization": f"Bearer {TOKEN}"}, 101),
        (REMOTE, {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}, 403),
        (REMOTE, {"Authorization": "viewer"}, 101),
        (REMOTE, {"Cookie": "page", "Origin": ORIGIN}, 101),
        (REMOTE, {"Cookie": "page"}, 403),
        (REMOTE, {"Cookie": "page", "Origin": "http://evil.example"}, 403),
        (REMOTE, {"Cookie": "page", "Origin": "http://127.0.0.1:9000"}, 403),
        (REMOTE, {"Cookie": "gridtide_session=guess", "Origin": ORIGIN}, 401),
    ],
)
def test_who_may_listen(tmp_path: Path, peer: str, headers: dict[str, str], status: int) -> None:
    house = House(tmp_path)
    assert house.people is not None
    if headers.get("Cookie") == "page":
        session = house.access.redeem(house.access.issue_login(), peer)
        headers = {**headers, "Cookie": f"gridtide_session={session}"}
    if headers.get("Authorization") == "viewer":
        headers = {"Authorization": f"Bearer {house.people.add_token('screen', 'viewer', 1.0)}"}
    ear = house.hear(for_s=0.5, headers=headers, peer=peer)
    assert ear.status == status
    assert bool(ear.heard) == (status == 101)


def test_who_is_taken_out_hears_no_more(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert house.people is not None
    headers = {"Authorization": f"Bearer {house.people.add_token('screen', 'viewer', 1.0)}"}
    changes = AccessFile(house.people.path)

    async def scene() -> tuple[Ear, float]:
        loop = asyncio.get_running_loop()
        loop.call_later(7.0, changes.remove, "screen")
        ear = await Ear(house.app, headers=headers, peer=REMOTE).listen(60.0)
        return ear, loop.time()

    ear, ended_s = run_sim(scene())
    assert ended_s <= 7.0 + gate.RECHECK_S + 0.2
    assert (ear.ended["type"], ear.ended["code"]) == ("websocket.close", 4401)
    assert not house.streams.full


def test_a_page_s_stream_ends_as_well(tmp_path: Path) -> None:
    """The same recheck on server-sent events."""
    house = House(tmp_path)
    assert house.people is not None
    token, changes = house.people.add_token("screen", "viewer", 1.0), AccessFile(house.people.path)
    sent: list[float] = []

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(7.0, changes.remove, "screen")

        async def send(message: dict[str, Any]) -> None:
            sent.append(loop.time())

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(1e6)
            return {}

        headers = [(b"host", HOST.encode()), (b"authorization", f"Bearer {token}".encode())]
        scope: Any = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/api/v1/stream", "raw_path": b"/api/v1/stream", "query_string": b"", "root_path": "", "headers": headers,
            "client": (REMOTE, 9), "server": ("127.0.0.1", 8080), "state": {},
        }  # fmt: skip
        asking: Callable[..., Awaitable[None]] = house.app
        await asking(scope, receive, send)

    run_sim(scene(), until_s=60.0)
    assert 6.0 < max(sent) <= 7.0 + gate.RECHECK_S + 0.5


# --- for real -------------------------------------------------------------------------------------------------------
def certificate(folder: Path, name: str = "site", password: bytes | None = None) -> tuple[Path, Path]:
    """Paths of a self-signed certificate for 127.0.0.1 and its key."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1)).not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    wrap = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    cert_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.touch(mode=0o600)
    key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, wrap))
    return cert_path, key_path


@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_over_a_socket_until_the_server_ends() -> None:
    with ExitStack() as listeners:
        with served() as site:
            url = site.url.replace("http", "ws") + PATH
            ws = listeners.enter_context(connect(f"{url}?series=site_kw,evse:cs03/1"))
            told = [json.loads(ws.recv(5.0)) for _ in range(3)]
            assert [evse["evse_id"] for evse in told[0]["evses"]] == ["cs03/1"]
            assert NOW_S <= told[0]["t_s"] < told[1]["t_s"] < told[2]["t_s"]
            with (
                pytest.raises(InvalidStatus) as refused,
                connect(url, additional_headers={"Origin": "http://evil.example"}),
            ):
                pass
            assert refused.value.response.status_code == 403
            assert "Origin" in json.loads(refused.value.response.body)["detail"]
        assert _last_code(ws) in (1001, 1012)


def _last_code(ws: ClientConnection) -> int | None:
    """The code it was closed with, after what was still under way."""
    try:
        while True:
            ws.recv(5.0)
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code


def test_who_answers_no_ping_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PING_S", 0.05)
    monkeypatch.setattr(server, "PONG_S", 0.1)
    with served() as site, socket.create_connection(("127.0.0.1", int(site.url.rsplit(":", 1)[1])), 10.0) as raw:
        raw.sendall(
            f"GET {PATH} HTTP/1.1\r\nHost: {site.url[7:]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        data = b""
        while piece := _received(raw):
            data += piece
        assert data.startswith(b"HTTP/1.1 101")


def _received(raw: socket.socket) -> bytes:
    try:
        return raw.recv(65_536)
    except ConnectionResetError:
        return b""


def test_https_and_wss(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(cert))
    with served(tls_context(cert, key)) as site:
        import http.client

        port = int(site.url.rsplit(":", 1)[1])
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10.0, context=trust)
        connection.request("GET", f"/login?token={site.access.issue_login()}")
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 303
        cookie = str(reply.getheader("set-cookie"))
        assert "secure" in cookie.lower()
        headers = {"Cookie": cookie.split(";")[0], "Origin": f"https://127.0.0.1:{port}"}
        with connect(f"wss://127.0.0.1:{port}{PATH}", ssl=trust, additional_headers=headers) as ws:
            assert json.loads(ws.recv(5.0))["site_kw"] > 0.0
        connection.close()


def test_tls_is_1_2_at_least(tmp_path: Path) -> None:
    context = tls_context(*certificate(tmp_path))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE, "people prove themselves by other means"


def test_keys_and_certificates_that_must_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    cert, key = certificate(tmp_path)
    _, foreign = certificate(tmp_path, "other")
    locked = certificate(tmp_path / "locked", password=b"a password")
    for pair, cure in (
        ((tmp_path / "none.pem", key), "does not exist"),
        ((cert, tmp_path / "none.key"), "does not exist"),
        ((cert, foreign), "do not work"),
        ((cert, cert), r"chmod 600|do not work"),
        (locked, "unencrypted"),
    ):
        with pytest.raises(CredentialError, match=cure):
            tls_context(*pair)
    key.chmod(0o640)
    with pytest.raises(CredentialError, match="chmod 600"):
        tls_context(cert, key)
