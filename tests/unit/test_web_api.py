"""The API over a fake site: every route's good and bad answers, the headers, the schema, and bodies nobody expects."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from litestar.types import Message

from gridtide.app.metrics import SiteMetrics, metrics_routes
from gridtide.app.web.assets import STATIC, TYPES
from gridtide.app.web.auth import Access
from gridtide.app.web.gate import SEND_LIMIT_S
from gridtide.app.web.server import BODY_LIMIT, create_app
from gridtide.model.view import PowerView, SiteView, VehicleView
from gridtide.run.pace import Streams
from gridtide.run.simloop import run_sim
from gridtide.run.store.rows import StoreError
from tests.live.fake_port import FakePort, from_peer
from tests.live.page_fixture import NOW_S

TOKEN = "t" * 43
V1 = "/api/v1"


class Site:
    """A fake site and a client that holds its token."""

    def __init__(self) -> None:
        self.port = FakePort()
        self.app = create_app(self.port, Access(TOKEN, 8080, lambda: 0.0))
        self.client = TestClient(
            from_peer(self.app, ("127.0.0.1", 9)), base_url="http://127.0.0.1:8080", raise_server_exceptions=False
        )
        self.client.headers["Authorization"] = f"Bearer {TOKEN}"

    def get(self, path: str, **query: object) -> Any:
        """JSON of a read that must succeed."""
        reply = self.client.get(V1 + path, params=query)  # type: ignore[arg-type]
        assert reply.status_code == 200, reply.text
        return reply.json()

    def refused(self, status: int, method: str, path: str, **more: Any) -> str:
        """The detail of a request that must be refused."""
        reply = self.client.request(method, V1 + path, **more)
        assert reply.status_code == status, reply.text
        assert list(reply.json()) == ["detail"]
        return str(reply.json()["detail"])


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with made.client:
        yield made


# --- reads ----------------------------------------------------------------------------------------------------------
def test_view_is_the_ports_view(site: Site) -> None:
    assert msgspec.convert(site.get("/view"), SiteView) == site.port.view()


@pytest.mark.parametrize("window", ["hour", "day"])
def test_power(site: Site, window: str) -> None:
    found = msgspec.convert(site.get("/power", window=window), PowerView)
    assert len(found.intervals) == {"hour": 5, "day": 96}[window]


def test_power_of_an_unknown_window(site: Site) -> None:
    assert "window" in site.refused(400, "GET", "/power?window=year")


@pytest.mark.parametrize("path", ["/evses/cs03/1", "/evses/cs03%2F1"])
def test_explain(site: Site, path: str) -> None:
    assert msgspec.convert(site.get(path), VehicleView).bay == "Bay 3"


@pytest.mark.parametrize("path", ["/evses/nobody", "/evses/cs99/1", "/evses/%00", "/evses/%ff"])
def test_explain_an_unknown_one(site: Site, path: str) -> None:
    assert "no EVSE" in site.refused(404, "GET", path)


def test_audit_tells_who_did_what(site: Site) -> None:
    site.client.post(V1 + "/peak", json={"limit_kw": 500, "buffer_kw": 50})
    site.client.post(V1 + "/estop")
    stop, peak = site.get("/audit")
    assert (stop["action"], stop["actor"]) == ("estop", "api")
    assert (peak["action"], peak["detail"]) == ("set_limit", [500, 50])
    assert len(site.get("/audit", limit=1)) == 1


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "nan", "9" * 40])
def test_audit_limit(site: Site, limit: str) -> None:
    assert "limit" in site.refused(400, "GET", f"/audit?limit={limit}")


def test_telemetry(site: Site) -> None:
    found = site.get("/telemetry", series="site_kw", start_s=NOW_S - 400, end_s=NOW_S)
    assert found == {"series": "site_kw", "points": [[NOW_S - 400 + 100 * k, 400 + k] for k in range(4)]}
    last_hour = site.get("/telemetry")["points"]
    assert last_hour[0][0] == NOW_S - 3600


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("series=x", 404, "series"),
        ("start_s=nan", 400, "start_s"),
        ("end_s=inf", 400, "end_s"),
        ("start_s=5", 400, "start_s"),
        (f"start_s={NOW_S}&end_s={NOW_S - 1}", 400, "before"),
        ("series=", 400, "series"),
    ],
)
def test_telemetry_refusals(site: Site, query: str, status: int, word: str) -> None:
    assert word in site.refused(status, "GET", f"/telemetry?{query}")


def test_probes(site: Site) -> None:
    assert site.client.get("/healthz").json() == {"status": "ok"}
    assert site.client.get("/readyz").json() == {"status": "ready"}
    site.port.waiting = True
    unready = site.client.get("/readyz")
    assert (unready.status_code, unready.json()) == (503, {"status": "not ready", "reasons": ["No meter sample yet."]})
    assert site.client.get("/healthz").status_code == 200
    site.port.waiting, site.port.stopped = False, True
    assert site.client.get("/readyz").json() == {"status": "ready", "estop": True}
    site.port.alive, site.port.beat_age_s = False, 12.5
    stalled = site.client.get("/healthz")
    assert (stalled.status_code, stalled.json()) == (503, {"status": "stalled", "beat_age_s": 12.5})


class Counted:
    """Metrics of no site."""

    async def text(self) -> bytes:
        return b"gridtide_cycles_total 1.0\n"


@pytest.mark.parametrize(
    ("peer", "authorization", "status"),
    [
        ("127.0.0.1", None, 200),
        ("192.0.2.5", None, 401),
        ("192.0.2.5", "Bearer wrong", 401),
        ("192.0.2.5", f"Bearer {TOKEN}", 200),
    ],
)
def test_metrics_are_for_viewers(peer: str, authorization: str | None, status: int) -> None:
    app = create_app(FakePort(), Access(TOKEN, 8080, lambda: 0.0), [metrics_routes(cast(SiteMetrics, Counted()))])
    with TestClient(from_peer(app, (peer, 9)), base_url="http://127.0.0.1:8080") as client:
        reply = client.get("/metrics", headers={"Authorization": authorization} if authorization else {})
    assert reply.status_code == status
    assert reply.text.startswith("gridtide_cycles_total") == (status == 200)
    assert "version=" in reply.headers["content-type"] or status != 200


# --- acts -----------------------------------------------------------------------------------------------------------
def test_peak(site: Site) -> None:
    reply = site.client.post(V1 + "/peak", json={"limit_kw": 500, "buffer_kw": 50.5})
    assert (reply.status_code, reply.json()) == (200, {"changed": True})
    assert site.port.acts == [("set_limit", 500.0, 50.5, "api")]
    assert site.get("/view")["limit_kw"] == 500


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"limit_kw": 0, "buffer_kw": 0}, "limit_kw"),
        ({"limit_kw": 5, "buffer_kw": 0}, "limit_kw is 5"),
        ({"limit_kw": 500, "buffer_kw": 500}, "buffer_kw is 500"),
        ({"limit_kw": "nan", "buffer_kw": 5}, "limit_kw"),
        ({"limit_kw": "inf", "buffer_kw": 5}, "limit_kw"),
        ({"limit_kw": True, "buffer_kw": 5}, "limit_kw"),
        ({"limit_kw": 500}, "buffer_kw"),
        ({"limit_kw": 500, "buffer_kw": 5, "limit": 3}, "limit"),
        ([], "object"),
        (None, "object"),
    ],
)
def test_peak_refusals(site: Site, body: object, word: str) -> None:
    assert word in site.refused(400, "POST", "/peak", json=body)
    assert site.port.acts == []


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"limit_kw":NaN,"buffer_kw":0}', b'{"limit_kw":1e999,"buffer_kw":0}', b"\xff"]
)
def test_peak_without_json(site: Site, data: bytes) -> None:
    site.refused(400, "POST", "/peak", content=data)
    assert site.port.acts == []


def test_large_bodies_are_refused(site: Site) -> None:
    site.refused(413, "POST", "/peak", content=b" " * (BODY_LIMIT + 1))


def test_emergency_stop(site: Site) -> None:
    assert site.client.post(V1 + "/estop").status_code == 200
    assert site.get("/view")["estop"] is True
    site.port.stop_input = True
    assert "release the button" in site.refused(400, "POST", "/estop/clear", json={})
    site.port.stop_input = False
    assert site.client.post(V1 + "/estop/clear", json={}).status_code == 200
    assert site.get("/view")["estop"] is False


def test_event_seen(site: Site) -> None:
    assert site.client.post(V1 + "/events/5/seen", json={}).json() == {"changed": True}
    assert site.client.post(V1 + "/events/5/seen", json={}).json() == {"changed": False}
    assert "no event 99" in site.refused(404, "POST", "/events/99/seen")
    site.refused(404, "POST", "/events/x/seen")
    site.refused(400, "POST", f"/events/{2**63}/seen")


@pytest.mark.parametrize("path", ["/evses/cs07%2F1/override", "/evses/cs07/1/override"])
def test_override(site: Site, path: str) -> None:
    """As the page sends it."""
    assert site.client.post(V1 + path, json={"mode": "power", "power_kw": -5, "minutes": 15}).status_code == 200
    assert site.client.post(V1 + path, json={"mode": "charge", "power_kw": None, "minutes": 60}).status_code == 200
    assert site.port.acts == [
        ("override", "cs07/1", "power", -5.0, 15.0, "api"),
        ("override", "cs07/1", "charge", None, 60.0, "api"),
    ]


@pytest.mark.parametrize(
    ("evse", "body", "status", "word"),
    [
        ("cs07/1", {"mode": "power", "minutes": 15}, 400, "power_kw"),
        ("cs07/1", {"mode": "power", "power_kw": 99, "minutes": 15}, 400, "power_kw is 99"),
        ("cs07/1", {"mode": "fly", "minutes": 15}, 400, "mode"),
        ("cs07/1", {"mode": "hold", "minutes": 0}, 400, "minutes"),
        ("cs07/1", {"mode": "hold", "minutes": 1441}, 400, "minutes"),
        ("cs99/1", {"mode": "hold", "minutes": 15}, 404, "no EVSE"),
    ],
)
def test_override_refusals(site: Site, evse: str, body: dict[str, object], status: int, word: str) -> None:
    assert word in site.refused(status, "POST", f"/evses/{evse}/override", json=body)
    assert site.port.acts == []


# --- faults ---------------------------------------------------------------------------------------------------------
def test_store_failure_is_not_acknowledged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        raise StoreError("disk full: /secret/path")

    monkeypatch.setattr(site.port, "estop", full)
    assert "secret" not in site.refused(503, "POST", "/estop")


def test_our_own_fault_is_a_500_without_its_words(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> SiteView:
        raise ValueError("internal words")

    monkeypatch.setattr(site.port, "view", broken)
    assert "internal" not in site.refused(500, "GET", "/view")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing"), ("GET", "/peak"), ("POST", "/view"), ("PUT", "/peak")]
)
def test_no_such_route(site: Site, method: str, path: str) -> None:
    site.refused(404 if path == "/nothing" else 405, method, path)


# --- page and headers -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path", ["/", "/main.js", "/style.css", "/favicon.svg", "/nothing.js", "/api/v1/view", "/api/v1/x/y/z"]
)
def test_security_headers(site: Site, path: str) -> None:
    headers = site.client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-store" if "api" in path or "nothing" in path else "no-cache")
    assert "access-control-allow-origin" not in headers


def test_every_file_of_the_page_is_served(site: Site) -> None:
    files = [path for path in STATIC.iterdir() if path.is_file()]
    assert {path.suffix for path in files} <= set(TYPES)
    for path in files:
        reply = site.client.get(f"/{path.name}")
        assert reply.content == path.read_bytes()
        assert reply.headers["content-type"] in (TYPES[path.suffix], TYPES[path.suffix] + "; charset=utf-8")
        again = site.client.get(f"/{path.name}", headers={"If-None-Match": reply.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/../server.py", "/..%2Fserver.py", "/%2e%2e/auth.py", "//etc/passwd", "/main.js%00", "/.."]
)
def test_nothing_else_is_served(site: Site, path: str) -> None:
    assert site.client.get(path).status_code == 404 or path == "/.."
    assert b"import" not in site.client.get(path).content[:100]


def test_schema_is_json_and_loads_nothing_from_elsewhere(site: Site) -> None:
    schema = site.client.get("/schema/openapi.json").json()
    assert schema["openapi"].startswith("3.")
    assert {V1 + "/view", V1 + "/peak", V1 + "/stream", "/healthz", "/readyz"} <= set(schema["paths"])
    assert "SiteView" in json.dumps(schema["components"]["schemas"])
    for viewer in ("", "/swagger", "/redoc", "/elements", "/rapidoc"):
        assert b"<script" not in site.client.get("/schema" + viewer).content


# --- bodies nobody expects ------------------------------------------------------------------------------------------
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NUMBER = JSON | st.floats(-1e3, 1e6) | st.integers(-(10**30), 10**30)
PEAK = st.fixed_dictionaries({"limit_kw": NUMBER, "buffer_kw": NUMBER})
OVERRIDE = st.fixed_dictionaries(
    {"mode": JSON | st.sampled_from(["auto", "charge", "hold", "power"]), "minutes": NUMBER},
    optional={"power_kw": NUMBER},
)
BODIES = (PEAK | OVERRIDE | JSON).map(lambda body: json.dumps(body).encode()) | st.binary(max_size=60)


@pytest.fixture(scope="module")
def lasting_site() -> Iterator[Site]:
    made = Site()
    with made.client:
        yield made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES)
@pytest.mark.parametrize("path", ["/peak", "/estop", "/estop/clear", "/events/5/seen", "/evses/cs07/1/override"])
def test_no_body_breaks_the_api(lasting_site: Site, path: str, body: bytes) -> None:
    before = len(lasting_site.port.acts)
    reply = lasting_site.client.post(V1 + path, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (200, 400), reply.text
    if reply.status_code == 400:
        assert isinstance(reply.json()["detail"], str)
        assert len(lasting_site.port.acts) == before


@settings(max_examples=60, deadline=None)
@given(
    part=st.text(max_size=20),
    query=st.dictionaries(st.sampled_from(["window", "limit", "series", "start_s", "end_s"]), st.text(max_size=9)),
)
@pytest.mark.parametrize("path", ["/power", "/audit", "/telemetry", "/evses/"])
def test_no_query_breaks_the_api(lasting_site: Site, path: str, part: str, query: dict[str, str]) -> None:
    full = V1 + path + (quote(part, safe="") if path.endswith("/") else "")
    assert lasting_site.client.get(full, params=query).status_code in (200, 400, 404)


# --- the stream -----------------------------------------------------------------------------------------------------
def test_stream_sends_views_until_closed(site: Site) -> None:
    """The whole way once, ended by the server."""
    views = [site.port.view(), site.port.view()]
    streams: Streams = site.app.opt["streams"]
    calls = iter(views)

    def view() -> SiteView:
        latest = next(calls)
        if latest is views[-1]:
            streams.closing.set()
        return latest

    site.port.view = view  # type: ignore[method-assign]
    reply = site.client.get(V1 + "/stream")
    assert reply.headers["content-type"].startswith("text/event-stream")
    blocks = reply.text.strip().split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == ["event: view"] * 2
    assert msgspec.json.decode(blocks[1].split("data: ", 1)[1], type=SiteView) == views[1]


def test_stream_drops_a_reader_that_stopped_reading(site: Site) -> None:
    """The whole application on virtual time, with a connection that takes the start of the answer and then nothing."""
    sent: list[str] = []
    streams: Streams = site.app.opt["streams"]

    async def send(message: Message) -> None:
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            await asyncio.sleep(1e6)

    async def receive() -> Any:
        await asyncio.sleep(1e6)

    async def ask() -> float:
        headers = [(b"host", b"127.0.0.1:8080")]
        scope: Any = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": V1 + "/stream", "raw_path": (V1 + "/stream").encode(), "query_string": b"", "root_path": "",
            "headers": headers, "client": ("127.0.0.1", 9), "server": ("127.0.0.1", 8080), "state": {},
        }  # fmt: skip
        await site.app(scope, receive, send)
        return asyncio.get_running_loop().time()

    assert run_sim(ask()) == pytest.approx(SEND_LIMIT_S, abs=0.5)
    assert sent == ["http.response.start", "http.response.body"]
    assert not streams.full
