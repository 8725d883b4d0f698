"""Roles: every write refuses who may not, people come and go without a restart, passwords are hard to guess, users by command."""

import asyncio
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Router, get, post
from litestar.di import NamedDependency, Provide
from litestar.testing import TestClient
from msgspec import structs
from typer.testing import CliRunner

from gridtide.app.commands.users import users
from gridtide.app.web import auth, failures, people
from gridtide.app.web.auth import Access, Asked, Refused
from gridtide.app.web.driver import driver_view, driver_wish
from gridtide.app.web.openapi import RouteNeed, route_needs
from gridtide.app.web.people import AccessFile, Entry
from gridtide.app.web.roles import NEEDS, ROLES, Role, covers, need_of, role_named
from gridtide.app.web.server import create_app
from gridtide.app.web.stations import station_routes
from gridtide.run.credentials import CredentialError
from tests.live.fake_port import FakePort, from_peer

TOKEN = "t" * 43
HOST = "127.0.0.1:8080"
ORIGIN = f"http://{HOST}"
LOCAL, REMOTE = ("127.0.0.1", 50_000), ("192.0.2.7", 50_000)
PASSWORD = "correct horse battery"
MARK = {"X-Gridtide": "1", "Origin": ORIGIN}
OPEN = {"/login", "/api/v1/driver"}
"""Writes, and reads below /api, that check a secret of their own. Think twice before one is added here."""


@post("/api/v1/everything", opt={"role": "admin"})
async def erase(actor: NamedDependency[str]) -> str:
    return actor


@get("/api/v1/secrets", opt={"role": "operator"})
async def secrets_of_the_house() -> str:
    return "told"


class House:
    """One server with people, a clock and two routes more."""

    def __init__(
        self, folder: Path, peer: tuple[str, int] = LOCAL, *, secure: bool = False, whole: bool = False
    ) -> None:
        """`whole`: with the routes of stations and drivers too, behind which there is nobody: whoever gets there gets a 500."""
        self.now_s = 1000.0
        self.heard: list[str] = []
        self.people = AccessFile(folder / people.FILE, self.heard.append)
        self.tokens: dict[Role, str] = {role: self.people.add_token(f"{role}-1", role, 5.0) for role in ROLES}
        self.access = Access(TOKEN, 8080, lambda: self.now_s, people=self.people, secure=secure)
        self.port = FakePort()
        more = [erase, secrets_of_the_house, *(_others() if whole else ())]
        self.app = create_app(self.port, self.access, more)
        base = f"{'https' if secure else 'http'}://{HOST}"
        self.client = TestClient(from_peer(self.app, peer), base_url=base, raise_server_exceptions=False)

    def ask(self, method: str, path: str, token: str) -> Any:
        """One request under a token."""
        return self.client.request(method, path, json={}, headers={"Authorization": f"Bearer {token}"})

    def sign_in(self, name: str = "anna", password: str = PASSWORD, **headers: str) -> Any:
        """Send the form as a browser does."""
        return self.client.post(
            "/login", data={"name": name, "password": password}, headers={"Origin": ORIGIN, **headers}, follow_redirects=False
        )  # fmt: skip


def _others() -> list[Router]:
    desk: Any = object()
    door = {"door": Provide(lambda: desk, sync_to_thread=False)}
    return [station_routes(desk), Router("/api/v1", route_handlers=[driver_view, driver_wish], dependencies=door)]


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real cost is asked for once, below."""
    monkeypatch.setattr(people, "SCRYPT_N", 16)
    monkeypatch.setattr(people, "SCRYPT_P", 1)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    with made.client:
        yield made


@pytest.fixture
def whole_house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path, whole=True)
    with made.client:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> AccessFile:
    return AccessFile(tmp_path / people.FILE)


def filled(house: House, wanted: RouteNeed) -> str:
    """A path that leads to the route."""
    route = next(one for one in house.app.routes if one.path_format == wanted.path)
    parts = [
        part if isinstance(part, str) else "5" if part.type in (int, float) else "cs03"
        for part in route.path_components
    ]
    return "/" + "/".join(parts)


def writes(house: House) -> list[RouteNeed]:
    """Every route that changes something, as the application has them."""
    found = [one for one in route_needs(house.app) if one.method not in (None, "GET", "HEAD", "OPTIONS")]
    assert len(found) >= 20
    return found


# --- every route ----------------------------------------------------------------------------------------------------
def test_every_write_refuses_nobody_and_whoever_is_below(whole_house: House) -> None:
    """Walks the application's own routes: a new one cannot be forgotten."""
    house = whole_house
    seen = 0
    for route in writes(house):
        path, method = filled(house, route), str(route.method)
        if route.need == "anyone":
            assert path in OPEN
            continue
        assert house.client.request(method, path, json={}).status_code == 401, path
        assert house.client.request(method, path, json={}, headers=MARK).status_code == 401, path
        for role, token in house.tokens.items():
            reply = house.ask(method, path, token)
            if covers(role, route.need):
                assert reply.status_code not in (401, 403), (path, role, reply.text)
            else:
                assert reply.status_code == 403, (path, role)
                assert f"needs the role {route.need}" in reply.json()["detail"]
                seen += 1
    assert seen >= 20
    assert {str(act[-1]) for act in house.port.acts} <= {"operator-1", "admin-1"}


def test_a_viewer_changes_nothing(whole_house: House) -> None:
    house = whole_house
    for route in writes(house):
        if route.need in ("operator", "admin"):
            house.ask(str(route.method), filled(house, route), house.tokens["viewer"])
    assert house.port.acts == []


def test_reads_below_the_api_need_a_viewer_and_may_ask_for_more(whole_house: House) -> None:
    house = whole_house
    needs = {one.path: one.need for one in route_needs(house.app) if one.method == "GET"}
    private = {path: need for path, need in needs.items() if path.startswith(("/api/", "/schema"))}
    assert {path for path, need in private.items() if need == "anyone"} <= OPEN
    assert needs["/healthz"] == needs["/"] == "anyone"
    assert house.client.get("/api/v1/secrets").status_code == 401, "what is open on this machine is a viewer's"
    assert house.ask("GET", "/api/v1/secrets", house.tokens["viewer"]).status_code == 403
    assert house.ask("GET", "/api/v1/secrets", house.tokens["operator"]).status_code == 200


def test_the_estop_is_an_operator_s(house: House) -> None:
    assert house.ask("POST", "/api/v1/estop", house.tokens["viewer"]).status_code == 403
    assert house.ask("POST", "/api/v1/estop", house.tokens["operator"]).status_code == 200
    assert house.port.acts == [("estop", "operator-1")]


def test_admin_routes_and_the_two_old_ways_in(house: House) -> None:
    assert house.ask("POST", "/api/v1/everything", house.tokens["operator"]).status_code == 403
    assert house.ask("POST", "/api/v1/everything", house.tokens["admin"]).text == "admin-1"
    assert house.ask("POST", "/api/v1/everything", TOKEN).text == "api"
    house.client.get("/login", params={"token": house.access.issue_login()}, follow_redirects=False)
    assert house.client.post("/api/v1/everything", headers=MARK).text == "page"


def test_a_route_with_a_role_that_there_is_not_stops_the_start() -> None:
    @post("/api/v1/typo", opt={"role": "amdin"})
    async def typo() -> None: ...

    with pytest.raises(ValueError, match=r"typo.*amdin.*viewer, operator or admin"):
        create_app(FakePort(), Access(TOKEN, 8080, lambda: 0.0), (typo,))


@given(held=st.sampled_from(ROLES), need=st.sampled_from(NEEDS))
def test_roles_rise(held: Role, need: Any) -> None:
    assert covers(held, need) is (NEEDS.index(need) <= 1 + ROLES.index(held))


@pytest.mark.parametrize(
    ("opt", "method", "path", "need"),
    [
        ({}, "GET", "/", "anyone"),
        ({}, "GET", "/api/v1/view", "viewer"),
        ({}, None, "/api/v1/live", "viewer"),
        ({}, "GET", "/schema/openapi.json", "viewer"),
        ({}, "POST", "/x", "operator"),
        ({}, "DELETE", "/api/v1/x", "operator"),
        ({}, "BREW", "/api/v1/x", "operator"),
        ({"role": "admin"}, "GET", "/x", "admin"),
        ({"role": "anyone"}, "POST", "/x", "anyone"),
    ],
)
def test_need(opt: dict[str, object], method: str | None, path: str, need: str) -> None:
    assert need_of(opt, method, path) == need


@given(text=st.text(max_size=9))
def test_only_three_roles_have_names(text: str) -> None:
    if text in ROLES:
        assert role_named(text) == text
        return
    with pytest.raises(ValueError, match="viewer, operator or admin"):
        role_named(text)


def test_published_description_tells_the_roles(house: House) -> None:
    paths = house.client.get("/schema/openapi.json").json()["paths"]
    assert paths["/api/v1/everything"]["post"]["x-role"] == "admin"
    assert paths["/api/v1/peak"]["post"]["description"].endswith("Role: operator.")
    assert {"401", "403", "200"} <= set(paths["/api/v1/peak"]["post"]["responses"])
    assert paths["/healthz"]["get"]["security"] == []
    assert all("x-role" in operation for item in paths.values() for operation in item.values())


# --- tokens ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1],
        lambda token: token + "x",
        lambda token: token.split("~")[1],
        lambda token: "~" + token.split("~")[1],
        lambda token: "admin-1~" + token.split("~")[1],
        lambda token: "nobody~" + token.split("~")[1],
        lambda token: "~",
        lambda token: "",
    ],
)
def test_other_tokens_are_refused(house: House, spoil: Any) -> None:
    reply = house.ask("POST", "/api/v1/estop", spoil(house.tokens["operator"]))
    assert reply.status_code == 401
    assert house.port.acts == []


def test_the_file_holds_no_secret_and_is_private(house: House) -> None:
    path = house.people.path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert [entry["kind"] for entry in json.loads(text)["entries"]] == ["token"] * 3
    for token in house.tokens.values():
        secret = token.split("~")[1]
        assert len(secret) >= 43
        assert secret not in text
    house.people.add_user("anna", "viewer", PASSWORD, 5.0)
    assert PASSWORD not in path.read_text()


def test_equal_secrets_have_unequal_digests(file: AccessFile) -> None:
    file.add_user("anna", "viewer", PASSWORD, 5.0)
    file.add_user("bert", "viewer", PASSWORD, 5.0)
    found = {entry.name: entry for entry in file.load()}
    assert found["anna"].digest != found["bert"].digest


def test_a_running_site_sees_what_another_process_changed(house: House) -> None:
    other = AccessFile(house.people.path)
    late = other.add_token("late", "operator", 6.0)
    assert house.ask("POST", "/api/v1/estop", late).status_code == 200
    other.set_role("late", "viewer")
    assert house.ask("POST", "/api/v1/estop", late).status_code == 403
    other.remove("late")
    assert house.ask("POST", "/api/v1/estop", late).status_code == 401
    assert house.heard == ["token late was added as operator", "late is viewer now, was operator", "late was removed"]
    house.people.add_token("own", "viewer", 7.0)
    assert house.people.find("own") is not None
    assert len(house.heard) == 3, "one's own changes are told by whoever asked for them"


def test_the_file_is_read_only_when_it_changed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[AccessFile] = []
    load = AccessFile.load

    def counted(self: AccessFile) -> tuple[Entry, ...]:
        loads.append(self)
        return load(self)

    monkeypatch.setattr(AccessFile, "load", counted)
    house.people.path.touch()
    for _ in range(5):
        assert house.people.find("viewer-1") is not None
    assert len(loads) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.chmod(0o644),
        lambda path: path.write_bytes(b"{"),
        lambda path: path.write_text(path.read_text().replace('"admin"', '"root"')),
        lambda path: path.write_text(path.read_text().replace('"version": 1', '"version": 2')),
        lambda path: path.unlink(),
    ],
)
def test_a_file_that_must_not_be_trusted_lets_nobody_in(house: House, spoil: Any) -> None:
    assert house.ask("POST", "/api/v1/estop", house.tokens["admin"]).status_code == 200
    spoil(house.people.path)
    assert house.ask("POST", "/api/v1/estop", house.tokens["admin"]).status_code == 401
    assert house.ask("POST", "/api/v1/estop", TOKEN).status_code == 200, "the site's own token still does"
    if house.people.path.exists():
        with pytest.raises(CredentialError, match=r"chmod 600|damaged"):
            house.people.load()
        with pytest.raises(CredentialError):
            house.people.add_token("more", "viewer", 1.0)


@given(
    data=st.binary(max_size=80)
    | st.text(max_size=40).map(lambda text: json.dumps({"version": 1, "entries": text}).encode())
)
def test_no_file_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.touch(mode=0o600)
    path.write_bytes(data)
    with pytest.raises(CredentialError, match="damaged"):
        AccessFile(path).load()
    assert AccessFile(path).by_token("a~b") is None


@pytest.mark.parametrize("name", ["", "a b", "a~b", "../x", "-x", ".x", "é", "x" * 65, "a\n", "api", "Page", "local"])
def test_bad_names(file: AccessFile, name: str) -> None:
    with pytest.raises(ValueError, match="name is"):
        file.add_token(name, "viewer", 1.0)
    with pytest.raises(ValueError, match="name is"):
        file.add_user(name, "viewer", PASSWORD, 1.0)


def test_a_name_is_one_s_own(file: AccessFile) -> None:
    file.add_token("viewer-1", "viewer", 1.0)
    with pytest.raises(ValueError, match="there is such a token"):
        file.add_user("viewer-1", "admin", PASSWORD, 1.0)
    with pytest.raises(KeyError, match="zoe"):
        file.remove("zoe")
    with pytest.raises(KeyError, match="zoe"):
        file.set_role("zoe", "admin")


def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    """Several writers of one file, each with a view of its own."""
    crowd = [
        threading.Thread(target=AccessFile(tmp_path / people.FILE).add_token, args=(f"t{k}", "viewer", 1.0))
        for k in range(12)
    ]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    assert {entry.name for entry in AccessFile(tmp_path / people.FILE).load()} == {f"t{k}" for k in range(12)}


# --- passwords ------------------------------------------------------------------------------------------------------
def test_a_user_signs_in_and_acts_under_the_own_name(house: House) -> None:
    house.people.add_user("anna", "operator", PASSWORD, 1.0)
    assert "<form" in house.client.get("/login").text
    reply = house.sign_in()
    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in reply.headers["set-cookie"].split(";")}
    assert house.client.post("/api/v1/estop", headers=MARK).status_code == 200
    assert house.client.post("/api/v1/everything", headers=MARK).status_code == 403
    assert house.port.acts == [("estop", "anna")]
    assert house.client.get("/login", follow_redirects=False).status_code == 303
    assert house.client.post("/logout", headers=MARK).json() == {"changed": True}
    assert house.client.post("/api/v1/estop", headers=MARK).status_code == 401


@pytest.mark.parametrize(
    ("name", "password"),
    [("anna", PASSWORD + "x"), ("anna", ""), ("nobody", PASSWORD), ("viewer-1", PASSWORD), ("", "")],
)
def test_wrong_logins(house: House, name: str, password: str) -> None:
    house.people.add_user("anna", "operator", PASSWORD, 1.0)
    reply = house.sign_in(name, password)
    assert reply.status_code == 401
    assert "wrong" in reply.text
    assert "set-cookie" not in reply.headers
    assert password == "" or password not in reply.text


def test_a_token_is_no_password_and_a_password_no_token(house: House) -> None:
    assert house.sign_in("admin-1", house.tokens["admin"].split("~")[1]).status_code == 401
    house.people.add_user("anna", "operator", PASSWORD, 1.0)
    assert house.ask("POST", "/api/v1/estop", f"anna~{PASSWORD}").status_code == 401
    text = house.people.path.read_text()
    swap = text.replace('"kind": "token"', '"kind": "?"').replace('"kind": "user"', '"kind": "token"')
    house.people.path.write_text(swap.replace('"kind": "?"', '"kind": "user"'))
    assert house.people.by_token(house.tokens["admin"]) is None, "whatever the digest says"
    assert house.people.by_password("anna", PASSWORD) is None


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1:8080", "http://127.0.0.1:9000"]
)
def test_no_foreign_page_signs_anyone_in(house: House, origin: str | None) -> None:
    house.people.add_user("anna", "operator", PASSWORD, 1.0)
    headers = {} if origin is None else {"Origin": origin}
    reply = house.client.post(
        "/login", data={"name": "anna", "password": PASSWORD}, headers=headers, follow_redirects=False
    )
    assert reply.status_code == 403
    assert "set-cookie" not in reply.headers


def test_the_form_lets_a_browser_tell_its_origin(house: House) -> None:
    """Under no-referrer a form's Origin would be null, and nobody could sign in."""
    assert house.client.get("/login").headers["referrer-policy"] == "same-origin"
    assert house.client.get("/").headers["referrer-policy"] == "no-referrer"


def test_passwords_come_by_https_from_elsewhere(tmp_path: Path) -> None:
    clear, private = House(tmp_path / "a", REMOTE), House(tmp_path / "b", REMOTE, secure=True)
    with clear.client, private.client:
        for each in (clear, private):
            each.people.add_user("anna", "operator", PASSWORD, 1.0)
        reply = clear.sign_in()
        assert reply.status_code == 403
        assert "HTTPS" in reply.text
        reply = private.sign_in(Origin=f"https://{HOST}")
        assert reply.status_code == 303
        assert "secure" in reply.headers["set-cookie"].lower()


def test_guesses_are_limited_before_they_are_checked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.people.add_user("anna", "operator", PASSWORD, 1.0)
    checked: list[str] = []
    by_password = AccessFile.by_password

    def counted(self: AccessFile, name: str, password: str) -> Entry | None:
        checked.append(password)
        return by_password(self, name, password)

    monkeypatch.setattr(AccessFile, "by_password", counted)
    statuses = [house.sign_in(password=f"guess number {k}").status_code for k in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert len(checked) == 10
    assert house.sign_in().status_code == 429, "the right one must not tell itself apart either"
    house.now_s += failures.FAILURE_REFILL_S
    assert house.sign_in().status_code == 303
    assert house.sign_in().status_code == 303, "a right one costs nothing"


def test_neighbours_in_one_ipv6_network_share_their_guesses() -> None:
    budget = failures.FailureBudget(lambda: 0.0)
    assert [budget.spend(f"2001:db8:1:2::{k:x}") for k in range(11)] == [True] * 10 + [False]
    assert budget.spend("2001:db8:1:3::1")
    assert [budget.spend(f"::ffff:192.0.2.{k}") for k in range(11)] == [True] * 11


def test_a_password_is_checked_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is checked the loop goes on, the next ones wait, and there is an end to how many do."""
    made, go, threads = House(tmp_path), threading.Event(), set()

    def slow(_: AccessFile, name: str, password: str) -> None:
        threads.add(threading.current_thread())
        assert go.wait(20.0)

    monkeypatch.setattr(AccessFile, "by_password", slow)

    async def scene() -> list[int]:
        wishes = [Asked(host=HOST, peer=f"127.0.0.{k}") for k in range(1, auth.MAX_CHECKS + 3)]
        tasks = [asyncio.ensure_future(made.access.enter(wish, "anna", "x")) for wish in wishes]
        for _ in range(3):
            await asyncio.sleep(0)
        refused = [task.exception() for task in tasks if task.done()]
        assert made.access.reader(Asked(host=HOST, peer="127.0.0.1")).name == "local"
        go.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [error.status for error in refused if isinstance(error, Refused)]

    assert asyncio.run(scene()) == [429, 429]
    assert len(threads) == 1
    assert threading.main_thread() not in threads


def test_sessions_follow_the_file(house: House) -> None:
    house.people.add_user("anna", "admin", PASSWORD, 1.0)
    house.sign_in()
    assert house.client.post("/api/v1/everything", headers=MARK).text == "anna"
    other = AccessFile(house.people.path)
    other.set_role("anna", "viewer")
    assert house.client.post("/api/v1/estop", headers=MARK).status_code == 403
    other.set_role("anna", "operator")
    assert house.client.post("/api/v1/estop", headers=MARK).status_code == 200
    other.set_password("anna", "another battery horse")
    assert house.client.post("/api/v1/estop", headers=MARK).status_code == 401
    assert house.sign_in(password="another battery horse").status_code == 303
    other.remove("anna")
    assert house.client.post("/api/v1/estop", headers=MARK).status_code == 401
    other.add_token("anna", "admin", 2.0)
    assert house.client.post("/api/v1/estop", headers=MARK).status_code == 401, "a namesake is somebody else"


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 201])
def test_password_lengths(file: AccessFile, password: str) -> None:
    with pytest.raises(ValueError, match="12 to 200") as refused:
        file.add_user("anna", "viewer", password, 1.0)
    assert password == "" or password not in str(refused.value)


def test_a_password_is_the_same_on_every_keyboard(file: AccessFile) -> None:
    file.add_user("anna", "viewer", "Caf\u00e9 am Fluss 7", 1.0)
    assert file.by_password("anna", "Cafe\u0301 am Fluss 7") is not None


def test_scrypt_is_as_costly_as_it_should_be(file: AccessFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert people.SCRYPT_N * people.SCRYPT_R * people.SCRYPT_P >= 3 * 2**18, "OWASP: N=2^15, r=8, p=3"
    file.add_user("anna", "viewer", PASSWORD, 1.0)
    found = file.by_password("anna", PASSWORD)
    assert found is not None
    assert structs.replace(found, salt="", digest="") == Entry(
        name="anna", role="viewer", kind="user", created_s=1.0, salt="", digest=""
    )


# --- the command ----------------------------------------------------------------------------------------------------
def gridtide(home: Path, *words: str, said: str = "", code: int = 0) -> Any:
    """Run `gridtide users`, which must end so."""
    done = CliRunner().invoke(users, [*words, "--home", str(home)], input=said)
    assert done.exit_code == code, done.output
    return done


def test_token_by_command(tmp_path: Path) -> None:
    done = gridtide(tmp_path, "add", "ci", "--role", "operator", "--token")
    token = done.stdout.strip()
    found = AccessFile(tmp_path / people.FILE).by_token(token)
    assert found is not None
    assert (found.name, found.role, found.kind) == ("ci", "operator", "token")
    assert "not kept" in done.stderr
    listed = json.loads(gridtide(tmp_path, "list", "--json").stdout)
    assert [(row["name"], row["role"], row["kind"]) for row in listed] == [("ci", "operator", "token")]
    table = gridtide(tmp_path, "list").stdout
    assert "ci" in table
    for text in (json.dumps(listed), table):
        assert found.digest not in text
        assert token.split("~")[1] not in text


def test_token_into_a_file(tmp_path: Path) -> None:
    out = tmp_path / "ci.token"
    done = gridtide(tmp_path, "add", "ci", "--role", "viewer", "--token", "--out", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert AccessFile(tmp_path / people.FILE).by_token(out.read_text().strip()) is not None
    assert out.read_text().strip() not in done.output
    gridtide(tmp_path, "add", "ci2", "--role", "viewer", "--token", "--out", str(out), code=2)
    assert [entry.name for entry in AccessFile(tmp_path / people.FILE).load()] == ["ci"]


def test_user_by_command(tmp_path: Path) -> None:
    gridtide(tmp_path, "add", "anna", "--role", "admin", "--password", said=f"{PASSWORD}\n{PASSWORD}\n")
    gridtide(tmp_path, "add", "bert", "--role", "viewer", "--password-file", "-", said=f"{PASSWORD}\n")
    file = AccessFile(tmp_path / people.FILE)
    assert all(file.by_password(name, PASSWORD) for name in ("anna", "bert"))
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("another battery horse\n")
    gridtide(tmp_path, "password", "bert", "--password-file", str(secret))
    assert file.by_password("bert", "another battery horse")
    secret.chmod(0o644)
    assert "chmod 600" in gridtide(tmp_path, "password", "bert", "--password-file", str(secret), code=2).stderr
    gridtide(tmp_path, "role", "bert", "operator")
    gridtide(tmp_path, "remove", "anna")
    assert [(entry.name, entry.role) for entry in file.load()] == [("bert", "operator")]


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("add", "x", "--role", "root", "--token"), "viewer, operator or admin"),
        (("add", "x", "--role", "viewer"), "--token or --password"),
        (("add", "x", "--role", "viewer", "--token", "--password"), "--token or --password"),
        (("add", "api", "--role", "viewer", "--token"), "choose another"),
        (("add", "x", "--role", "viewer", "--password-file", "-"), "12 to 200"),
        (("remove", "x"), "users list"),
        (("role", "x", "boss"), "viewer, operator or admin"),
        (("role", "x", "admin"), "users list"),
        (("password", "x", "--password-file", "-"), "12 to 200"),
    ],
)
def test_commands_refuse_with_a_cure(tmp_path: Path, words: tuple[str, ...], cure: str) -> None:
    done = gridtide(tmp_path, *words, said="short\n", code=2)
    assert cure in done.stderr
    assert "short" not in done.output
    assert AccessFile(tmp_path / people.FILE).load() == ()


def test_no_command_takes_a_password_as_a_word() -> None:
    help_text = CliRunner().invoke(users, ["add", "--help"], env={"COLUMNS": "200"}).output
    assert "--password-file" in help_text
    assert CliRunner().invoke(users, ["add", "x", "--role", "viewer", "--password", PASSWORD]).exit_code == 2
