"""What becomes a notification, what ends one, and what is bounded; without a network."""

import asyncio
import random
from collections.abc import Mapping

import msgspec
import pytest

from gridtide.model.events import BY_CODE, Severity
from gridtide.run.notify import (
    MOST_MESSAGES,
    OVER,
    QUIET_S,
    REPEATED,
    SILENCE_S,
    Notification,
    Notifier,
    NotifySettings,
    signature,
)
from gridtide.run.store import MemoryStore, StoredEvent, StoreError
from gridtide.run.webhook import WebhookError

NOW_S = 1_772_445_600.0
SECRET = b"a secret of some length"


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def wall(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(0)

    async def sleep_until(self, monotonic_s: float) -> None:
        await asyncio.sleep(0)


class Rig:
    """A notifier whose receiver is a list."""

    def __init__(self, severities: tuple[Severity, ...] = ("alarm", "warning")) -> None:
        self.clock, self.sent, self.status = Hands(), list[Notification](), 200
        self.broken = False
        self.store = MemoryStore(lambda _: self.broken)
        self.severities = severities
        self.one = self.again()

    def again(self) -> Notifier:
        """A new start of the program on the same store."""
        settings = NotifySettings(url="https://hooks.example.org", secret=SECRET, severities=self.severities)
        self.one = Notifier(self.store, self.clock, settings, send=self._send, rng=random.Random(1))
        return self.one

    async def _send(self, body: bytes, headers: Mapping[str, str]) -> int:
        if self.status == 0:
            raise WebhookError("rehearsed")
        assert headers["X-Gridtide-Signature"] == signature(SECRET, int(self.clock.now_s), body)
        self.sent.append(msgspec.json.decode(body, type=Notification))
        return self.status

    async def tell(self, code: str, source: str = "site", text: str = "So.") -> None:
        kind = BY_CODE[code]
        event = StoredEvent(
            at_s=self.clock.now_s, code=code, title=kind.title, text=text, severity=kind.severity, source=source
        )
        await self.one.note(event)

    async def pass_s(self, seconds: float) -> None:
        self.clock.now_s += seconds
        await self.one.end_silent()

    async def post_all(self) -> list[tuple[str, str]]:
        """(kind, code) of what was delivered now."""
        self.sent.clear()
        while await self.one.deliver_one() is not None:
            pass
        return [(item.kind, item.code) for item in self.sent]


def test_every_code_there_is() -> None:
    assert set(OVER) | {code for ended in OVER.values() for code in ended} | REPEATED <= set(BY_CODE)


def test_what_is_over_at_once_is_told_again_after_a_pause() -> None:
    async def scenario() -> None:
        rig = Rig()
        for _ in range(3):
            await rig.tell("failed_shave")
            await rig.pass_s(60.0)
        assert await rig.post_all() == [("occurred", "failed_shave")]
        await rig.pass_s(QUIET_S)
        await rig.tell("failed_shave")
        assert await rig.post_all() == [("occurred", "failed_shave")]

    asyncio.run(scenario())


def test_what_is_repeated_while_it_lasts_is_over_when_it_is_silent() -> None:
    async def scenario() -> None:
        rig = Rig()
        for _ in range(4):
            await rig.tell("latency_over_budget")
            await rig.pass_s(60.0)
        assert await rig.post_all() == [("raised", "latency_over_budget")]
        await rig.pass_s(SILENCE_S)
        assert await rig.post_all() == [("cleared", "latency_over_budget")]
        assert rig.store.alarms() == ()

    asyncio.run(scenario())


def test_an_alarm_that_is_latched_is_over_when_a_person_has_seen_it() -> None:
    async def scenario() -> None:
        rig = Rig()
        kind = BY_CODE["meter_sign"]
        event = StoredEvent(at_s=NOW_S, code="meter_sign", title=kind.title, text="", severity="alarm", source="site")
        row = await rig.store.add_event(event)
        await rig.one.note(event)
        rig.again()
        await rig.pass_s(10 * SILENCE_S)
        assert await rig.post_all() == [("raised", "meter_sign")]
        await rig.store.mark_event_seen(row, "anna", rig.clock.now_s)
        await rig.pass_s(5.0)
        assert await rig.post_all() == [("cleared", "meter_sign")]

    asyncio.run(scenario())


def test_what_nobody_remembers_after_a_restart_is_over() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.tell("station_timeout", "bay-1")
        await rig.tell("station_timeout", "bay-2")
        await rig.tell("estop", "anna")
        rig.clock.now_s += 60.0
        rig.again()
        await rig.tell("station_timeout", "bay-2")
        await rig.pass_s(SILENCE_S + 1.0)
        told = await rig.post_all()
        assert told.count(("raised", "station_timeout")) == 2
        assert [item.source for item in rig.sent if item.kind == "cleared"] == ["bay-1"]

    asyncio.run(scenario())


def test_only_the_severities_that_are_wanted() -> None:
    async def scenario() -> None:
        rig = Rig(severities=("alarm",))
        await rig.tell("failed_shave")
        await rig.tell("meter_stale")
        await rig.tell("meter_back")
        assert await rig.post_all() == [("raised", "meter_stale"), ("cleared", "meter_stale")]

    asyncio.run(scenario())


def test_an_unreachable_receiver_costs_no_more_than_so_many_messages() -> None:
    async def scenario() -> None:
        rig = Rig()
        for number in range(MOST_MESSAGES + 50):
            await rig.tell("driver_short", f"bay-{number}")
        assert rig.store.outbox_size() == MOST_MESSAGES
        rig.status = 0
        waits = [await rig.one.deliver_one() for _ in range(14)]
        assert all(later is not None and later > 0.0 for later in waits)
        assert waits[0] is not None
        assert waits[-1] is not None
        assert waits[0] <= 1.0 < 200.0 < waits[-1] <= 300.0
        rig.status = 200
        assert len(await rig.post_all()) == MOST_MESSAGES
        assert rig.sent[0].source == "bay-50"

    asyncio.run(scenario())


def test_a_message_is_not_sent_again_because_the_store_cannot_forget_it() -> None:
    async def scenario() -> None:
        rig = Rig()
        await rig.tell("meter_stale")
        rig.broken = True
        for _ in range(3):
            with pytest.raises(StoreError):
                await rig.one.deliver_one()
        rig.broken = False
        assert await rig.one.deliver_one() == 0.0
        assert [item.code for item in rig.sent] == ["meter_stale"]
        assert await rig.one.deliver_one() is None

    asyncio.run(scenario())


def test_an_event_waits_for_a_store_that_fails() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.broken = True
        kind = BY_CODE["meter_stale"]
        rig.one.told(
            StoredEvent(at_s=NOW_S, code=kind.code, title=kind.title, text="", severity="alarm", source="site")
        )
        running = asyncio.ensure_future(rig.one.run())
        for _ in range(20):
            await asyncio.sleep(0)
        assert rig.sent == []
        rig.broken = False
        async with asyncio.timeout(5.0):
            while not rig.sent:
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [item.code for item in rig.sent] == ["meter_stale"]

    asyncio.run(scenario())


def test_a_failure_of_ours_ends_no_site(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        rig = Rig()
        failed = []

        async def broken() -> None:
            failed.append(1)
            raise RuntimeError("rehearsed")

        monkeypatch.setattr(rig.one, "end_silent", broken)
        running = asyncio.ensure_future(rig.one.run())
        async with asyncio.timeout(5.0):
            while len(failed) < 3:
                await asyncio.sleep(0)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


def test_the_secret_is_not_shown() -> None:
    assert SECRET.decode() not in repr(NotifySettings(url="https://hooks.example.org", secret=SECRET))
