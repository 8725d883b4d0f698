"""A test discharge at one station (DS7): charge first, then discharge through the guard, and time the transition.

The test asks by a manual override like a person would: drivers, limits and the guard stay above it. However it ends, the
override is given back, and it would end by itself.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from gridtide.control import words
from gridtide.model.decision import Decision
from gridtide.run.clock import ScaledClock
from gridtide.run.conversation import Conversation
from gridtide.run.csms.discharge_timing import STARTED_KW, Figures, Measured, Sample, judge, sentence
from gridtide.run.csms.station import Station
from gridtide.run.csms.why_not import driver_first, why_not
from gridtide.run.net import NORMAL_CLOSURE, Link, LinkClosed
from gridtide.run.site import SiteService

LONGEST_S = 600.0
LEAD_S = 20.0
"""How long the station may take to show that it charges, beyond the rest between two directions."""
SLACK_S = 60.0
"""The override ends by itself this long after the test should have."""
SETPOINTS = frozenset({"SetChargingProfile", "UpdateDynamicSchedule", "DataTransfer"})
"""Actions that carry a setpoint."""


class TestReport(Struct, frozen=True, kw_only=True):
    """One test and its outcome."""

    __test__ = False

    station: str
    evse: int
    at_s: float
    """UTC epoch seconds of its beginning."""
    duration_s: float
    words: str
    figures: Figures


class DischargeTester:
    """Runs one test at a time."""

    def __init__(self, site: SiteService, timezone: str = "UTC") -> None:
        self._site, self._zone = site, ZoneInfo(timezone)
        self._running = ""

    async def run(self, identity: str, evse: int, rate_kw: float, duration_s: float, actor: str) -> TestReport:
        """Test the EVSE; a test that could not begin is a failed one and says why.

        Raises KeyError for an unknown station or EVSE, ValueError (field, value, cure) for a bad wish.
        """
        station, row = self._find(identity, evse)
        self._check(row, rate_kw, duration_s)
        clock, began_s = self._site.clock, self._site.clock.wall()
        problems = self._hindrances(station, row, rate_kw)
        if problems:
            measured = Measured(rate_kw=rate_kw, asked_s=clock.monotonic(), ended_s=clock.monotonic(), aborted=problems)
        else:
            self._running = identity
            detail = msgspec.json.encode({"station": identity, "evse": evse, "kw": rate_kw, "s": duration_s})
            try:
                await self._site.store.append_audit(began_s, actor, "discharge.test", detail)
                measured = await _Test(self._site, station, evse, row, rate_kw, duration_s, actor, self._say).run()
            finally:
                self._running = ""
        figures = judge(measured)
        return TestReport(
            station=identity, evse=evse, at_s=began_s, duration_s=duration_s, words=sentence(figures), figures=figures
        )

    def _find(self, identity: str, evse: int) -> tuple[Station, int]:
        station = self._site.csms.stations.get(identity)
        if station is None:
            raise KeyError(f"there is no station {identity!r}")
        row = station.provision.rows.get(evse)
        if row is None:
            raise KeyError(f"station {identity} has no EVSE {evse} that is steered here")
        return station, row

    def _check(self, row: int, rate_kw: float, duration_s: float) -> None:
        table = self._site.settings.table
        least_kw, most_kw = max(float(table.least_kw[row]), STARTED_KW), float(table.discharge_kw[row])
        # An EVSE that cannot discharge at all is no bad wish: the test says why it cannot begin.
        if not 0.0 < rate_kw < math.inf or (most_kw > 0.0 and not least_kw <= rate_kw <= most_kw):
            raise ValueError(
                f"rate_kw is {rate_kw:g}: give {least_kw:g} to {most_kw:g} kW, what this EVSE is rated for"
            )
        if not 1.0 <= duration_s <= LONGEST_S:
            raise ValueError(f"duration_s is {duration_s:g}: give 1 to {LONGEST_S:g} s")
        if self._running:
            raise ValueError(f"station {self._running} is being tested: one test at a time; wait for its end")

    def _hindrances(self, station: Station, row: int, rate_kw: float) -> str:
        """Why the test cannot begin, in words; empty if it can."""
        site = self._site
        settings, snapshot, decision = site.settings, site.snapshot, site.decision
        if site.state.guard.estop:
            return "The emergency stop is pressed."
        if snapshot is None or decision is None or decision.state != "ok":
            return "The site meter cannot be trusted now."
        if any(o.row == row and snapshot.mono_s < o.until_s for o in settings.overrides):
            return "Somebody has set this vehicle by hand: end that first (override `auto`)."
        reasons = why_not(
            station, row, site.csms.registry, site.board, settings.table, settings.need, settings.guard.lease_s
        )
        kept = driver_first(row, snapshot.fleet, settings.table, settings.need, settings.cycle_s)
        if reasons or kept:
            return " ".join((*reasons, *([kept] if kept else [])))
        limits = settings.limits
        least_kw = limits.import_margin_kw if limits.export_kw <= 0.0 else -limits.export_kw
        import_kw = site.state.demand.power_kw - float(snapshot.fleet.power_kw[row])
        if not import_kw - rate_kw >= least_kw:
            return (
                f"It would export: the site takes {import_kw:.1f} kW without this vehicle, and {least_kw:g} kW of import must "
                f"remain; test at {max(0.0, import_kw - least_kw):.0f} kW or less, or when the building needs more."
            )
        return ""

    def _say(self, row: int, decision: Decision) -> str:
        """Why the row has its setpoint."""
        site = self._site
        if site.snapshot is None:
            return ""
        return words.explain(row, site.snapshot, decision, site.state, site.settings, self._time).reason

    def _time(self, at_s: float) -> str:
        return f"{datetime.fromtimestamp(at_s, self._zone):%H:%M}"


class _Test:
    """One test under way."""

    def __init__(
        self,
        site: SiteService,
        station: Station,
        evse: int,
        row: int,
        rate_kw: float,
        duration_s: float,
        actor: str,
        say: Callable[[int, Decision], str],
    ) -> None:
        self._site, self._station, self._evse, self._row = site, station, evse, row
        self._rate_kw, self._duration_s, self._actor, self._say = rate_kw, duration_s, actor, say
        self._samples: list[Sample] = []
        self._asked_s: float | None = None
        self._decided_s: float | None = None
        self._sent_s: float | None = None
        self._allowed_kw, self._bound, self._note = 0.0, "", ""

    async def run(self) -> Measured:
        """Charge, discharge, give back."""
        conversation = self._station.accepted
        if conversation is None:
            return self._measured("The station went offline.")
        hold_s = float(self._site.settings.table.hold_s[self._row])
        minutes = (2.0 * hold_s + LEAD_S + self._duration_s + SLACK_S) / 60.0
        try:
            with tapped(conversation, self._frame):
                aborted = await self._charge(hold_s, minutes) or await self._discharge(minutes)
        finally:
            # Given back also when whoever waits for the test has gone; the store may take its time.
            await asyncio.shield(asyncio.ensure_future(self._override("auto", 0.0, 1.0)))
        return self._measured(aborted)

    async def _charge(self, hold_s: float, minutes: float) -> str:
        """Let it charge until its meter shows it and the guard lets it turn; empty unless the test must end."""
        clock, row = self._site.clock, self._row
        wish_kw = min(self._rate_kw, float(self._site.settings.table.charge_kw[self._row]))
        await self._override("power", wish_kw, minutes)
        now_s, guard = clock.monotonic(), self._site.state.guard
        # A vehicle that has just been giving rests before it charges, and once more before it gives again.
        rest_s = max(0.0, hold_s - (now_s - float(guard.turned_s[row]))) if guard.direction[row] < 0.0 else 0.0
        until_s = now_s + rest_s + hold_s + LEAD_S
        while clock.monotonic() < until_s:
            aborted = await self._look()
            if aborted:
                return aborted
            guard = self._site.state.guard
            rested = guard.direction[row] >= 0.0 and clock.monotonic() - guard.turned_s[row] >= hold_s
            shown = bool(self._samples) and self._samples[-1].power_kw > STARTED_KW
            if rested and shown:
                return ""
        # A full vehicle, or a full connection: the transition then begins at rest.
        why = self._say(row, self._site.decision) if self._site.decision is not None else ""
        self._note = f"It began at rest and not while charging: {why}"
        return ""

    async def _discharge(self, minutes: float) -> str:
        clock = self._site.clock
        await self._override("power", -self._rate_kw, minutes)
        self._asked_s = clock.monotonic()
        until_s = self._asked_s + self._duration_s
        while clock.monotonic() < until_s:
            aborted = await self._look()
            if aborted:
                return aborted
        return ""

    async def _override(self, mode: str, power_kw: float, minutes: float) -> None:
        await self._site.override(self._row, mode, power_kw, minutes, self._actor)

    async def _look(self) -> str:
        """Wait a moment and take note; why the test must end, if it must."""
        site, row = self._site, self._row
        await site.clock.sleep(site.settings.cycle_s / 10.0)
        heard_s, power_kw = float(site.board.heard_s[row]), float(site.board.power_kw[row])
        if math.isfinite(power_kw) and (not self._samples or heard_s > self._samples[-1].at_s):
            self._samples.append(Sample(heard_s, power_kw))
        self._note_decision()
        if site.state.guard.estop:
            return "The emergency stop was pressed."
        if site.decision is None or site.decision.state != "ok":
            return "The site meter was lost."
        if self._station.accepted is None:
            return "The station went offline."
        if row not in self._station.transactions:
            return "The vehicle left."
        if row in self._station.refused:
            return "The station rejected the discharge."
        if not any(o.row == row for o in site.settings.overrides):
            return "Somebody else set this vehicle meanwhile."
        return ""

    def _note_decision(self) -> None:
        site = self._site
        if self._asked_s is None or site.decision is None or site.snapshot is None:
            return
        if site.snapshot.mono_s < self._asked_s:
            return
        given_kw = -float(site.decision.setpoint_kw[self._row])
        if given_kw > 0.0 and self._decided_s is None:
            self._decided_s = site.snapshot.mono_s
        if given_kw < self._rate_kw - 1e-3:
            self._bound = self._say(self._row, site.decision)
        self._allowed_kw = max(self._allowed_kw, given_kw)

    def _frame(self, data: bytes) -> None:
        """A frame has left: the first setpoint for this EVSE after the decision ends the control path."""
        self._note_decision()
        if self._decided_s is not None and self._sent_s is None and _sets(data, self._evse):
            clock = self._site.clock
            # Our own work takes real time, however fast the site's clock runs.
            speed = clock.speed if isinstance(clock, ScaledClock) else 1.0
            self._sent_s = self._decided_s + (clock.monotonic() - self._decided_s) / speed

    def _measured(self, aborted: str) -> Measured:
        now_s = self._site.clock.monotonic()
        return Measured(
            rate_kw=self._rate_kw, asked_s=self._asked_s if self._asked_s is not None else now_s,
            decided_s=self._decided_s, sent_s=self._sent_s, allowed_kw=self._allowed_kw, bound=self._bound, ended_s=now_s,
            samples=tuple(self._samples), aborted=aborted, note=self._note,
        )  # fmt: skip


def _sets(data: bytes, evse: int) -> bool:
    """Whether a frame is a call that may carry a setpoint for the EVSE."""
    frame = msgspec.json.decode(data)
    if not isinstance(frame, list) or len(frame) != 4 or frame[0] != 2 or frame[2] not in SETPOINTS:
        return False
    payload = frame[3] if isinstance(frame[3], dict) else {}
    return bool(payload.get("evseId", evse) == evse)


class _Tap:
    """A link that tells what left through it."""

    def __init__(self, link: Link, heard: Callable[[bytes], None]) -> None:
        self._link, self._heard = link, heard

    @property
    def closed(self) -> bool:
        return self._link.closed

    async def receive(self) -> bytes:
        return await self._link.receive()

    async def listen(self, on_message: Callable[[bytes], None]) -> LinkClosed:
        return await self._link.listen(on_message)

    async def send(self, data: bytes) -> None:
        await self._link.send(data)
        self._heard(data)

    def put(self, data: bytes) -> bool:
        has_left = self._link.put(data)
        if has_left:
            self._heard(data)
        return has_left

    async def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        await self._link.close(code, reason)

    def drop(self) -> None:
        self._link.drop()


@contextmanager
def tapped(conversation: Conversation, heard: Callable[[bytes], None]) -> Iterator[None]:
    """`heard` is told of every frame of the conversation right after it has left, meanwhile."""
    before = conversation.wrap_link(lambda link: _Tap(link, heard))
    try:
        yield
    finally:
        conversation.wrap_link(lambda _tap: before)
