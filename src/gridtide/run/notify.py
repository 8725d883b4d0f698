"""Notifications: alarms go to a webhook when they are raised and when they are over, each at least once, the same one under the
same id.

What is to be told lies in the store's outbox from the moment the alarm is noted until the receiver has answered 2xx, so a restart
neither loses it nor makes another one of it. A condition that stands is told once. The body is signed with the shared secret.
"""

import asyncio
import hashlib
import hmac
import random
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
import structlog
from msgspec import Struct, structs

from gridtide.model.events import BY_CODE, Severity
from gridtide.run.clock import Clock
from gridtide.run.site import LEVEL
from gridtide.run.store import Store, StoredEvent, StoreError, StoreRangeError
from gridtide.run.store.outbox import Alarm, Message
from gridtide.run.webhook import WebhookError, post

log = structlog.get_logger(__name__)
OVER: Final[Mapping[str, tuple[str, ...]]] = {
    "meter_back": ("meter_stale", "meter_frozen", "meter_errors", "meter_sign"),
    "station_back": ("station_timeout",),
    "estop_cleared": ("estop",),
    "shaving_ended": ("shaving_started",),
    "grid_returned": ("grid_trip", "grid_alarm"),
    "load_shed_ended": ("load_shed",),
    "operator_limit_ended": ("operator_limit",),
    "operator_limit_back": ("operator_limit_lost", "operator_limit_lifted"),
    "store_back": ("store_failed", "store_space"),
}
"""Event -> the alarms it ends: those of the site as a whole, but for a station's those of that station."""
REPEATED: Final = LEVEL
"""Told about once a minute while they last; silence ends them."""
SILENCE_S: Final = 180.0
QUIET_S: Final = 600.0
"""An event that is over as it happens is told again after so long at the earliest, for one source."""
NEVER: Final = frozenset({"notify_failed"})
MOST_MESSAGES: Final = 1_000
MOST_EVENTS: Final = 1_000
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 300.0
REFUSALS: Final = 10
"""A message that the receiver refuses so often (4xx) is given up, so that those behind it come through."""
FAILURES_TOLD: Final = 4
LOOK_S: Final = 5.0
Kind = Literal["raised", "cleared", "occurred"]
Send = Callable[[bytes, Mapping[str, str]], Awaitable[int]]


class NotifySettings(Struct, frozen=True, kw_only=True):
    """Where notifications go; `secret` signs them and is never shown."""

    url: str
    secret: bytes
    severities: tuple[Severity, ...] = ("alarm", "warning")
    hosts: tuple[str, ...] = ()
    site: str = ""
    timeout_s: float = 10.0

    def __repr__(self) -> str:
        return f"NotifySettings({len(self.severities)} severities)"


class Notification(Struct, frozen=True, kw_only=True):
    """The body of a message."""

    id: str
    """Unique; the same whenever this message is sent again."""
    alarm: str
    """Of the message that raised what this one is about: its own when it raises."""
    kind: Kind
    """`occurred`: over as it happens, nothing will clear it."""
    site: str
    code: str
    severity: Severity
    title: str
    text: str
    cause: str
    cure: str
    source: str
    at: str
    """UTC, ISO 8601."""


def signature(secret: bytes, at_s: int, body: bytes) -> str:
    """Value of the header `X-Gridtide-Signature`: HMAC-SHA256 over `<at_s>.<body>`."""
    digest = hmac.new(secret, str(at_s).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


class Notifier:
    """Takes events, keeps alarms and outbox, delivers. `send` posts a body with headers and returns the HTTP status."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: NotifySettings,
        *,
        send: Send | None = None,
        note: Callable[[str, str, str], None] = lambda _code, _source, _text: None,
        rng: random.Random | None = None,
    ) -> None:
        """`note` raises an event of the site when nothing can be delivered for long."""
        self._store, self._clock, self._settings, self._note = store, clock, settings, note
        self._send = send or self._posted
        self._rng = rng or random.Random()
        self._events: deque[StoredEvent] = deque(maxlen=MOST_EVENTS)
        self._news, self._mail = asyncio.Event(), asyncio.Event()
        self._done: set[str] = set()
        self._refused: dict[str, int] = {}
        self.delivered = self.failures = self.given_up = 0
        self._in_a_row = 0
        self._begun_s = clock.wall()

    def told(self, event: StoredEvent) -> None:
        """Take an event of the site; never waits."""
        if event.code not in NEVER and (event.code in OVER or event.severity in self._settings.severities):
            self._events.append(event)
            self._news.set()

    async def run(self) -> None:
        """Note and deliver, for ever; a failure of ours here ends no site."""
        await asyncio.gather(self._for_ever(self._note_all), self._for_ever(self._deliver_all))

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("notifier_failed")
                await self._clock.sleep(LOOK_S)

    # --- noting -----------------------------------------------------------------------------------------------------
    async def _note_all(self) -> None:
        while True:
            self._news.clear()
            while self._events:
                await self._note_first()
            try:
                await self.end_silent()
            except StoreError as error:
                log.warning("alarm_not_ended", error=str(error))
            if not self._events:
                await self._or_later(self._news, LOOK_S)

    async def _note_first(self) -> None:
        event = self._events.popleft()
        try:
            await self.note(event)
        except StoreRangeError as error:
            log.warning("notification_not_noted", code=event.code, error=str(error))
        except StoreError as error:
            log.warning("notification_waits_for_store", code=event.code, error=str(error))
            self._events.appendleft(event)
            await self._clock.sleep(LOOK_S)

    async def note(self, event: StoredEvent) -> None:
        """Put what is to be told of one event into the outbox; raises StoreError when it cannot be kept."""
        for alarm in self._store.alarms() if event.code in OVER else ():
            if alarm.code in OVER[event.code] and (event.code != "station_back" or alarm.source == event.source):
                await self._clear(alarm, event.at_s, event.text)
        if event.severity not in self._settings.severities:
            return
        mine = str(uuid.uuid4())
        alarm = Alarm(event.code, event.source, mine, event.at_s, event.at_s)
        message = self._message(mine, mine, "raised" if lasts(event.code) else "occurred", event)
        if await self._store.raise_alarm(alarm, message, MOST_MESSAGES):
            self._mail.set()

    async def end_silent(self) -> None:
        """End alarms that nobody ends by an event: those told again and again once they are silent, and what was over at once."""
        now_s = self._clock.wall()
        for alarm in self._store.alarms():
            silent_s = now_s - alarm.latest_s
            if alarm.code in REPEATED and silent_s > SILENCE_S:
                await self._clear(alarm, now_s, "Not repeated for three minutes.")
            elif not lasts(alarm.code) and silent_s > QUIET_S:
                await self._store.clear_alarm(alarm, None, MOST_MESSAGES)
            elif is_latched(alarm.code):
                if self._is_seen(alarm):
                    await self._clear(alarm, now_s, "Acknowledged.")
            elif alarm.latest_s < self._begun_s < now_s - SILENCE_S:
                # Nobody is left who remembers it and would tell its end.
                await self._clear(alarm, now_s, "Not seen again since the restart.")

    def _is_seen(self, alarm: Alarm) -> bool:
        """Whether a person has acknowledged it; the emergency stop is cleared, not seen."""
        mine = (item for item in self._store.events(200) if (item.code, item.source) == (alarm.code, alarm.source))
        return alarm.code != "estop" and next((item.seen for item in mine), False)

    async def _clear(self, alarm: Alarm, at_s: float, text: str) -> None:
        kind, message = BY_CODE.get(alarm.code), None
        if kind is not None and lasts(alarm.code):
            event = StoredEvent(
                at_s=at_s, code=alarm.code, title=kind.title, text=text, severity=kind.severity, source=alarm.source
            )
            message = self._message(str(uuid.uuid4()), alarm.uuid, "cleared", event)
        if await self._store.clear_alarm(alarm, message, MOST_MESSAGES):
            self._mail.set()

    def _message(self, own: str, alarm: str, kind: Kind, event: StoredEvent) -> Message:
        known = BY_CODE[event.code]
        told = Notification(
            id=own, alarm=alarm, kind=kind, site=self._settings.site, code=event.code, severity=event.severity,
            title=event.title, text=event.text, cause=known.cause, cure=known.cure, source=event.source,
            at=datetime.fromtimestamp(event.at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )  # fmt: skip
        body = msgspec.json.encode(told)
        if len(body) > 12_000:
            body = msgspec.json.encode(structs.replace(told, text=event.text[:1_000]))
        return Message(own, event.at_s, body.decode())

    # --- delivering -------------------------------------------------------------------------------------------------
    async def _deliver_all(self) -> None:
        while True:
            try:
                wait_s = await self.deliver_one()
            except StoreError as error:
                log.warning("outbox_not_kept", error=str(error))
                wait_s = LOOK_S
            if wait_s is None:
                self._mail.clear()
                await self._or_later(self._mail, LOOK_S)
            elif wait_s > 0.0:
                await self._clock.sleep(wait_s)

    async def deliver_one(self) -> float | None:
        """Send the oldest message; how long to wait before the next try, None when nothing is left."""
        waiting = self._store.outbox(1)
        if not waiting:
            return None
        message = waiting[0]
        if message.uuid in self._done or await self._taken(message):
            # The receiver has it, also when the store cannot forget it yet.
            self._done.add(message.uuid)
            await self._store.delivered(message.uuid)
            self._done.discard(message.uuid)
            self._refused.pop(message.uuid, None)
            self._in_a_row = 0
            return 0.0
        self.failures += 1
        self._in_a_row += 1
        if self._in_a_row == FAILURES_TOLD:
            self._note("notify_failed", "notify", f"{self._store.outbox_size()} notifications wait.")
        longest_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self._in_a_row - 1, 20))
        return longest_s * self._rng.uniform(0.75, 1.0)

    async def _taken(self, message: Message) -> bool:
        """Whether the receiver has it, or will never take it."""
        body, now_s = message.body.encode(), int(self._clock.wall())
        headers = {
            "Idempotency-Key": message.uuid,
            "X-Gridtide-Signature": signature(self._settings.secret, now_s, body),
        }
        try:
            status = await self._send(body, headers)
        except WebhookError as error:
            log.info("notification_waits", id=message.uuid, why=str(error), tries=self._in_a_row + 1)
            return False
        if 200 <= status < 300:
            self.delivered += 1
            return True
        log.info("notification_waits", id=message.uuid, why=f"status {status}", tries=self._in_a_row + 1)
        if 400 <= status < 500 and status not in (408, 425, 429):
            self._refused[message.uuid] = self._refused.get(message.uuid, 0) + 1
            if self._refused[message.uuid] >= REFUSALS:
                self.given_up += 1
                log.error("notification_given_up", id=message.uuid, status=status)
                return True
        return False

    async def _posted(self, body: bytes, headers: Mapping[str, str]) -> int:
        own = self._settings
        return await post(own.url, body, headers, own.timeout_s, own.hosts)

    async def _or_later(self, event: asyncio.Event, within_s: float) -> None:
        """Until the event is set, or for so long."""
        waiting = asyncio.ensure_future(event.wait())
        sleeping = asyncio.ensure_future(self._clock.sleep(within_s))
        try:
            await asyncio.wait([waiting, sleeping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()


def lasts(code: str) -> bool:
    """Whether this event begins something that is told to be over later."""
    return code in REPEATED or is_latched(code) or any(code in ended for ended in OVER.values())


def is_latched(code: str) -> bool:
    """Whether it stays until a person clears it."""
    return code in BY_CODE and BY_CODE[code].latched


def severities(names: Collection[str]) -> tuple[Severity, ...]:
    """The severities named, in rising order; an empty list means none."""
    known: tuple[Severity, ...] = ("info", "warning", "alarm")
    return tuple(name for name in known if name in names)
