"""Notifications to a real receiver on loopback that fails, hangs, answers late and answers twice; and a restart in between."""

import asyncio
import hashlib
import hmac
import json
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gridtide.model.events import BY_CODE
from gridtide.run.clock import WallClock
from gridtide.run.notify import Notifier, NotifySettings
from gridtide.run.store import SqliteStore, Store, StoredEvent
from gridtide.run.webhook import WebhookError, check_webhook, post

SECRET = b"a secret of some length"
NOW_S = 1_772_445_600.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    """An HTTP server that behaves as `script` says, one word a request: ok, 500, 400, hang, cut, garbage, twice, late."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.accepted: dict[str, dict[str, Any]] = {}
        """What a receiver keeps that looks at the idempotency key."""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Receiver":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook?site=1"

    @property
    def ids(self) -> list[str]:
        return [headers["idempotency-key"] for headers, _ in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        assert head[0] == "POST /hook?site=1 HTTP/1.1"
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        at, _, mine = headers["x-gridtide-signature"].partition(",v1=")
        right = hmac.new(SECRET, at.removeprefix("t=").encode() + b"." + body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(mine, right)
        told = json.loads(body)
        assert told["id"] == headers["idempotency-key"]
        self.requests.append((headers, told))
        what = self.script.pop(0) if self.script else "ok"
        if what in ("ok", "twice", "late", "hang"):
            self.accepted[told["id"]] = told
        if what in ("hang", "late"):
            await asyncio.sleep(3.0 if what == "hang" else 0.6)
        answers = {
            "ok": OK, "twice": OK + OK, "late": OK, "500": b"HTTP/1.1 500 No\r\n\r\n", "400": b"HTTP/1.1 400 No\r\n\r\n",
            "garbage": b"\xff\xfe\n", "cut": b"", "hang": b"", "302": b"HTTP/1.1 302 There\r\nLocation: http://10.0.0.1/\r\n\r\n",
            "endless": b"x" * 100_000,
        }  # fmt: skip
        writer.write(answers[what])
        writer.close()


class Quick(WallClock):
    """Waits are a hundred times as short, so that back-offs of seconds pass within a test."""

    def wall(self) -> float:
        return NOW_S

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s / 100.0)


def event(code: str, source: str = "site", at_s: float = NOW_S, text: str = "It is so.") -> StoredEvent:
    kind = BY_CODE[code]
    return StoredEvent(at_s=at_s, code=code, title=kind.title, text=text, severity=kind.severity, source=source)


def notifier(store: Store, url: str, **more: Any) -> Notifier:
    settings = NotifySettings(url=url, secret=SECRET, site="Depot", timeout_s=0.3)
    return Notifier(store, Quick(), settings, rng=random.Random(1), **more)


async def until(is_so: Callable[[], bool], within_s: float = 8.0) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():
            await asyncio.sleep(0.01)


def on_file(tmp_path: Path, scenario: Callable[[SqliteStore], Awaitable[None]]) -> None:
    async def run() -> None:
        store = SqliteStore.open(tmp_path / "site.db", NOW_S)
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(run())


async def delivered(one: Notifier, receiver: Receiver, wanted: int) -> None:
    """Run until the receiver has answered `wanted` messages and nothing waits; a moment more for what should not come."""
    running = asyncio.ensure_future(one.run())
    try:
        await until(lambda: one.delivered + one.given_up >= wanted)
        await asyncio.sleep(0.15)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("trouble", ["500", "hang", "cut", "garbage", "late", "302", "endless"])
def test_what_fails_is_sent_again_under_the_same_id(tmp_path: Path, trouble: str) -> None:
    async def scenario(store: SqliteStore) -> None:
        async with Receiver(trouble, trouble, "ok") as receiver:
            one = notifier(store, receiver.url)
            one.told(event("meter_stale"))
            await delivered(one, receiver, 1)
            assert len(receiver.ids) == 3
            assert len(set(receiver.ids)) == 1
            assert len(receiver.accepted) == 1, "a receiver that looks at the key sees it once"
            assert (one.delivered, one.failures) == (1, 2)
            assert store.outbox(10) == ()

    on_file(tmp_path, scenario)


def test_an_answer_that_comes_twice_counts_once(tmp_path: Path) -> None:
    async def scenario(store: SqliteStore) -> None:
        async with Receiver("twice", "twice") as receiver:
            one = notifier(store, receiver.url)
            one.told(event("meter_stale"))
            one.told(event("estop", "anna"))
            await delivered(one, receiver, 2)
            assert [told["code"] for _, told in receiver.requests] == ["meter_stale", "estop"]

    on_file(tmp_path, scenario)


def test_raised_once_and_cleared_once(tmp_path: Path) -> None:
    async def scenario(store: SqliteStore) -> None:
        async with Receiver() as receiver:
            one = notifier(store, receiver.url)
            for at in range(5):
                one.told(event("meter_stale", at_s=NOW_S + at))
            one.told(event("station_timeout", "bay-1"))
            one.told(event("station_timeout", "bay-2"))
            one.told(event("meter_back", at_s=NOW_S + 9.0))
            one.told(event("station_back", "bay-2"))
            one.told(event("limit_changed"))
            one.told(event("meter_stale", at_s=NOW_S + 10.0))
            await delivered(one, receiver, 6)
            told = [(item["kind"], item["code"], item["source"]) for _, item in receiver.requests]
            assert told == [
                ("raised", "meter_stale", "site"),
                ("raised", "station_timeout", "bay-1"),
                ("raised", "station_timeout", "bay-2"),
                ("cleared", "meter_stale", "site"),
                ("cleared", "station_timeout", "bay-2"),
                ("raised", "meter_stale", "site"),
            ]
            bodies = [item for _, item in receiver.requests]
            assert bodies[3]["alarm"] == bodies[0]["id"] == bodies[0]["alarm"]
            assert bodies[4]["alarm"] == bodies[2]["id"]
            assert bodies[5]["id"] not in (bodies[0]["id"], bodies[3]["id"])
            assert bodies[0]["cause"] == BY_CODE["meter_stale"].cause
            assert bodies[0]["cure"] == BY_CODE["meter_stale"].cure
            assert (bodies[0]["site"], bodies[0]["at"]) == ("Depot", "2026-03-02T10:00:00.000Z")

    on_file(tmp_path, scenario)


def test_a_restart_neither_loses_nor_doubles(tmp_path: Path) -> None:
    async def before(store: SqliteStore) -> None:
        async with Receiver("ok", "500", "500") as receiver:
            one = notifier(store, receiver.url)
            one.told(event("meter_stale"))
            one.told(event("estop", "anna"))
            running = asyncio.ensure_future(one.run())
            await until(lambda: len(receiver.requests) == 3)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            first.extend(receiver.ids)

    async def after(store: SqliteStore) -> None:
        async with Receiver() as receiver:
            one = notifier(store, receiver.url)
            one.told(event("meter_stale", at_s=NOW_S + 60.0))
            one.told(event("estop_cleared", "anna", at_s=NOW_S + 61.0))
            await delivered(one, receiver, 2)
            told = [(item["kind"], item["code"]) for _, item in receiver.requests]
            assert told == [("raised", "estop"), ("cleared", "estop")]
            assert receiver.ids[0] == first[1], "the message that waited keeps its id"
            assert receiver.requests[1][1]["alarm"] == first[1]

    first: list[str] = []
    on_file(tmp_path, before)
    on_file(tmp_path, after)


def test_a_receiver_that_always_refuses_one_holds_up_no_other(tmp_path: Path) -> None:
    async def scenario(store: SqliteStore) -> None:
        async with Receiver(*["400"] * 10, "ok") as receiver:
            told: list[tuple[str, str, str]] = []
            one = notifier(store, receiver.url, note=lambda *words: told.append(words))
            one.told(event("meter_stale"))
            one.told(event("estop", "anna"))
            running = asyncio.ensure_future(one.run())
            await until(lambda: one.delivered == 1, within_s=20.0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert (one.given_up, len(receiver.requests)) == (1, 11)
            assert receiver.requests[-1][1]["code"] == "estop"
            assert [code for code, _, _ in told] == ["notify_failed"]

    on_file(tmp_path, scenario)


def test_nobody_there_is_an_error_that_can_be_tried_again() -> None:
    async def nobody() -> None:
        async with Receiver() as receiver:
            url = receiver.url
        await post(url, b"{}", {}, 1.0)

    with pytest.raises(WebhookError, match="not delivered"):
        asyncio.run(nobody())


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://hooks.example.org/x", "https"),
        ("https://10.0.0.9/x", "list"),
        ("https://169.254.169.254/latest", "list"),
        ("https://[::ffff:10.0.0.9]/x", "list"),
        ("https://printer/x", "list"),
        ("https://hooks.example.org:8443/x", "list"),
        ("https://user:word@hooks.example.org/x", "leave out"),
        ("https://hooks.example.org/\r\nX: 1", "ASCII"),
        ("ftp://hooks.example.org/x", "https"),
        ("https://0x7f000001/x", "ordinary"),
        ("https://a:b:c/x", "cannot be read|give"),
    ],
)
def test_addresses_that_are_refused(url: str, word: str) -> None:
    with pytest.raises(ValueError, match=word) as refused:
        check_webhook(url)
    assert "word@" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://hooks.example.org/x", ()),
        ("https://10.0.0.9/x", ("10.0.0.9",)),
        ("https://hooks.example.org:8443/x", ("hooks.example.org:8443",)),
        ("http://127.0.0.1:9/x", ()),
        ("http://localhost:9/x", ()),
        ("http://[::1]:9/x", ()),
    ],
)
def test_addresses_that_are_allowed(url: str, hosts: tuple[str, ...]) -> None:
    check_webhook(url, hosts)


def test_a_public_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def inside() -> None:
        loop = asyncio.get_running_loop()

        async def looked_up(*_: object, **__: object) -> list[Any]:
            return [(2, 1, 6, "", ("10.0.0.9", 443))]

        monkeypatch.setattr(loop, "getaddrinfo", looked_up)
        await post("https://hooks.example.org/x", b"{}", {}, 1.0)

    with pytest.raises(WebhookError, match="inside"):
        asyncio.run(inside())
