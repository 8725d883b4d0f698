"""The doors of the web: nobody writes without credentials, no foreign page or name gets in, links work once."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.testing import TestClient

from gridtide.app.web import auth, failures
from gridtide.app.web.auth import Access, Asked, Refused, load_token
from gridtide.app.web.server import create_app, listen
from gridtide.run.credentials import CredentialError
from tests.live.fake_port import FakePort, from_peer

TOKEN = "t" * 43
HOST = "127.0.0.1:8080"
ORIGIN = f"http://{HOST}"
LOCAL, REMOTE = ("127.0.0.1", 50_000), ("192.0.2.7", 50_000)
MARK = {"X-Gridtide": "1", "Origin": ORIGIN}
WRITES: tuple[tuple[str, dict[str, object]], ...] = (
    ("/api/v1/peak", {"limit_kw": 400, "buffer_kw": 10}),
    ("/api/v1/estop", {}),
    ("/api/v1/estop/clear", {}),
    ("/api/v1/events/5/seen", {}),
    ("/api/v1/evses/cs03%2F1/override", {"mode": "hold", "power_kw": None, "minutes": 60}),
)
READS = ("view", "power", "stream", "audit", "telemetry", "evses/cs03/1")


class Doors:
    """One server with its port, access and clock."""

    def __init__(self, peer: tuple[str, int] = LOCAL, *, secure: bool = False, names: tuple[str, ...] = ()) -> None:
        self.now_s = 1000.0
        self.access = Access(TOKEN, 8080, lambda: self.now_s, secure=secure, names=names)
        self.port = FakePort()
        scheme = "https" if secure else "http"
        self.client = TestClient(from_peer(create_app(self.port, self.access), peer), base_url=f"{scheme}://{HOST}")

    def sign_in(self) -> None:
        """Open a login link."""
        reply = self.client.get("/login", params={"token": self.access.issue_login()}, follow_redirects=False)
        assert reply.status_code == 303, reply.text


@pytest.fixture
def doors() -> Iterator[Doors]:
    made = Doors()
    with made.client:
        yield made


@pytest.mark.parametrize(("path", "body"), WRITES)
@pytest.mark.parametrize("headers", [{}, MARK, {"Authorization": "Bearer wrong"}, {"Cookie": "gridtide_session=guess"}])
def test_write_without_credentials(doors: Doors, path: str, body: dict[str, object], headers: dict[str, str]) -> None:
    reply = doors.client.post(path, json=body, headers=headers)
    assert reply.status_code == 401
    assert list(reply.json()) == ["detail"]
    assert doors.port.acts == []


@pytest.mark.parametrize(("path", "body"), WRITES)
def test_write_with_token_or_cookie(doors: Doors, path: str, body: dict[str, object]) -> None:
    assert doors.client.post(path, json=body, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    doors.sign_in()
    assert doors.client.post(path, json=body, headers=MARK).status_code == 200
    assert [act[-1] for act in doors.port.acts] == ["api", "page"]


@pytest.mark.parametrize(("path", "body"), WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": ORIGIN},
        {"X-Gridtide": "1"},
        {"X-Gridtide": "1", "Origin": "null"},
        {"X-Gridtide": "1", "Origin": "http://127.0.0.1:9000"},
        {"X-Gridtide": "1", "Origin": f"https://{HOST}"},
        {"X-Gridtide": "1", "Origin": "http://localhost:8080"},
        {**MARK, "Host": "evil.example:8080"},
    ],
)
def test_cookie_write_from_a_foreign_page(
    doors: Doors, path: str, body: dict[str, object], headers: dict[str, str]
) -> None:
    doors.sign_in()
    assert doors.client.post(path, json=body, headers=headers).status_code == 403
    assert doors.port.acts == []


def test_token_write_with_foreign_origin(doors: Doors) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}
    assert doors.client.post("/api/v1/estop", headers=headers).status_code == 403
    assert doors.port.acts == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:80", "localhost:8080.evil.example", ""])
@pytest.mark.parametrize("path", ["/", "/main.js", "/api/v1/view", "/schema/openapi.json", "/healthz", "/login"])
def test_foreign_host(doors: Doors, host: str, path: str) -> None:
    """DNS rebinding: a name that is not ours reads nothing."""
    assert doors.client.get(path, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "[::1]:8080"])
def test_own_hosts(doors: Doors, host: str) -> None:
    assert doors.client.get("/api/v1/view", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", READS)
def test_reads_from_elsewhere_need_credentials(path: str) -> None:
    for made, headers in (
        (Doors(REMOTE), {}),
        (Doors(names=("site.example",)), {"Host": "site.example"}),
        (Doors(), {"X-Forwarded-For": "192.0.2.7"}),
        (Doors(), {"Authorization": "Bearer wrong"}),
    ):
        with made.client:
            assert made.client.get(f"/api/v1/{path}", headers=headers).status_code == 401
            assert made.client.get("/", headers=headers).status_code == 200, "the page itself says how to sign in"


def test_reads_from_elsewhere_with_credentials() -> None:
    made = Doors(REMOTE)
    with made.client:
        assert made.client.get("/api/v1/view", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        made.sign_in()
        assert made.client.get("/api/v1/view").status_code == 200


def test_login_link_works_once(doors: Doors) -> None:
    token = doors.access.issue_login()
    first = doors.client.get("/login", params={"token": token}, follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    doors.client.cookies.clear()
    again = doors.client.get("/login", params={"token": token}, follow_redirects=False)
    assert again.status_code == 401
    assert "set-cookie" not in again.headers


def test_spent_link_in_a_signed_in_browser_goes_to_the_page(doors: Doors) -> None:
    doors.sign_in()
    reply = doors.client.get("/login", params={"token": "spent"}, follow_redirects=False)
    assert reply.status_code == 303


@pytest.mark.parametrize("secure", [False, True])
def test_cookie_attributes(secure: bool) -> None:
    made = Doors(secure=secure)
    with made.client:
        token = made.access.issue_login()
        cookie = made.client.get("/login", params={"token": token}, follow_redirects=False).headers["set-cookie"]
    parts = {part.strip().lower() for part in cookie.split(";")}
    assert {"httponly", "samesite=strict", "path=/"} <= parts
    assert ("secure" in parts) == secure
    assert len(cookie.split("=")[1].split(";")[0]) >= 43
    assert token not in cookie


def test_login_link_expires_on_the_given_clock(doors: Doors) -> None:
    short, lasting = doors.access.issue_login(), doors.access.issue_login(life_s=None)
    doors.now_s += auth.LOGIN_LIFE_S + 1.0
    with pytest.raises(Refused):
        doors.access.redeem(short, "127.0.0.1")
    assert doors.access.redeem(lasting, "127.0.0.1")


def test_session_ends_after_its_last_use(doors: Doors) -> None:
    asked = Asked(host=HOST, session=doors.access.redeem(doors.access.issue_login(), "127.0.0.1"))
    doors.now_s += auth.SESSION_LIFE_S - 1.0
    assert doors.access.has_session(asked)
    doors.now_s += auth.SESSION_LIFE_S - 1.0
    assert doors.access.has_session(asked), "use prolongs it"
    doors.now_s += auth.SESSION_LIFE_S + 1.0
    assert not doors.access.has_session(asked)


def test_sessions_and_links_are_bounded(doors: Doors) -> None:
    sessions = [doors.access.redeem(doors.access.issue_login(), "p") for _ in range(auth.MAX_SESSIONS + 1)]
    alive = [doors.access.has_session(Asked(host=HOST, session=session)) for session in sessions]
    assert alive == [False] + [True] * auth.MAX_SESSIONS
    links = [doors.access.issue_login() for _ in range(auth.MAX_LOGINS + 1)]
    with pytest.raises(Refused):
        doors.access.redeem(links[0], "p")
    assert doors.access.redeem(links[1], "p")


def test_failed_logins_are_limited_but_a_right_one_passes(doors: Doors) -> None:
    statuses = [doors.client.get("/login", params={"token": "x"}).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    wrong = {"Authorization": "Bearer wrong"}
    assert doors.client.post("/api/v1/estop", headers=wrong).headers["retry-after"]
    assert doors.client.post("/api/v1/estop", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    doors.now_s += failures.FAILURE_REFILL_S
    assert doors.client.get("/login", params={"token": "x"}).status_code == 401
    assert doors.client.get("/login", params={"token": "x"}).status_code == 429


def test_failure_budgets_are_bounded() -> None:
    budget = failures.FailureBudget(lambda: 0.0)
    for number in range(3 * failures.MAX_ADDRESSES):
        assert budget.spend(f"192.0.2.{number}")
    assert len(budget._left) == failures.MAX_ADDRESSES


def test_token_file_is_made_private_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "home" / "token"
    token = load_token(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(token) >= 43
    assert load_token(path) == token


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_token_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    load_token(path)
    path.chmod(mode)
    with pytest.raises(CredentialError, match="chmod 600"):
        load_token(path)


@pytest.mark.parametrize("data", [b"", b"short\n", b"\xff" * 50])
def test_token_file_without_a_token_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_bytes(data)
    with pytest.raises(CredentialError, match="remove it"):
        load_token(path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "site.example", ""])
def test_listening_to_others_must_be_allowed(host: str) -> None:
    with pytest.raises(ValueError, match="allow other machines"):
        listen(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_listening_on_loopback(host: str) -> None:
    with listen(host, 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "ours"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True), ("::ffff:192.0.2.1", False),
     ("10.0.0.1", False), ("localhost.evil.example", False), ("", False)],
)  # fmt: skip
def test_loopback_addresses(address: str, ours: bool) -> None:
    assert auth.is_loopback(address) is ours
