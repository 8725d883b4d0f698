"""Reports that come in parts: each part is kept when it comes, and once; the report is complete when its last part and all
before it are here. What a whole report did not name is forgotten. A report that never ends is given up."""

from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from gridtide.run.csms.desk import Desk
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json, tell
from gridtide.run.csms.station import Station
from gridtide.run.store import StoreRangeError
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.reports import ReportParts

State: TypeAlias = Literal["open", "complete", "incomplete"]
REPORT: Final = "report"
"""Kind of the records that tell how far each report has come."""
GIVE_UP_S: Final = 600.0
"""A report that is silent for so long before its end is given up."""
KEPT: Final = 32
"""Reports of a station that are remembered."""
MAX_PARTS: Final = 2_000


class Progress(Struct, frozen=True, kw_only=True):
    """How far a report has come; instants are UTC epoch seconds."""

    action: str
    request_id: int
    is_asked: bool
    is_whole: bool
    """It names everything there is: what it leaves out is gone."""
    began_s: float
    told_s: float
    """Its newest part, or when it was asked for."""
    seen: tuple[tuple[int, int], ...] = ()
    """Sequence numbers heard, as first and last of each run."""
    last: int | None = None
    """The sequence number of its last part, once heard."""
    state: State = "open"

    @property
    def key(self) -> str:
        """Key of its record."""
        return f"{self.action}/{self.request_id}"


class _Open(Struct, eq=False):
    progress: Progress
    numbers: set[int]
    parts: ReportParts


class PartBook:
    """Keeps the parts of all reports of all stations."""

    def __init__(self, desk: Desk, effects: Effects) -> None:
        self._desk, self._effects = desk, effects
        self._books: dict[str, dict[str, _Open]] = {}

    def expect(self, station: Station, action: str, request_id: int, *, is_whole: bool) -> None:
        """A report `action` was asked for under `request_id`; an earlier one of that number is over."""
        now_s = self._desk.clock.wall()
        made = Progress(
            action=action, request_id=request_id, is_asked=True, is_whole=is_whole, began_s=now_s, told_s=now_s
        )

        async def begin() -> None:
            await self._begin(station, made)

        self._effects.spawn(station, begin)

    async def cancel(self, station: Station, action: str, request_id: int) -> None:
        """The station will not send the report; call it in the station's turn."""
        key = f"{action}/{request_id}"
        self._book(station).pop(key, None)
        await self._desk.store.remove_records(station.provision.identity, REPORT, (key,))

    def reports(self, identity: str) -> tuple[Progress, ...]:
        """How far a station's reports have come."""
        now_s, found = self._desk.clock.wall(), []
        for record in self._desk.store.records(identity, REPORT):
            progress = msgspec.json.decode(record.value_json, type=Progress)
            is_dead = progress.state == "open" and now_s - progress.told_s >= GIVE_UP_S
            found.append(msgspec.structs.replace(progress, state="incomplete") if is_dead else progress)
        return tuple(found)

    async def take(self, station: Station, action: str, message: Any, kind: str, rows: dict[str, bytes]) -> None:
        """Keep a part's `rows` under `kind`, unless it was here before, and note how far its report has come.

        Raises RemoteProtocolError where the report is longer than any may be; returns with nothing kept for a repeated
        part and for one after the end.
        """
        await self._sweep(station)
        seq_no = getattr(message, "seqNo", None)
        found = self._book(station).get(f"{action}/{message.requestId}")
        if found is None or _starts_anew(found.progress, seq_no):
            found = await self._begin(station, self._unasked(action, message.requestId))
        number = len(found.numbers) if seq_no is None else seq_no
        taken = found.parts.add(message.requestId, number, (), is_more_to_come=bool(message.tbc))
        if taken in ("duplicate", "foreign", "after_end"):
            return
        if taken == "too_much":
            raise RemoteProtocolError("OccurrenceConstraintViolation", f"a report has at most {MAX_PARTS} parts")
        found.numbers.add(number)
        try:
            await self._keep(station, kind, rows, found.progress)
            await self._note(station, found, None if message.tbc else number)
            if found.progress.state == "complete" and found.progress.is_whole:
                await self._forget_older(station, kind, found.progress.began_s)
        except BaseException:
            # The station will send this part again: what is known is what the store knows.
            self._books.pop(station.provision.identity, None)
            raise

    # --- one part ---------------------------------------------------------------------------------------------------
    async def _keep(self, station: Station, kind: str, rows: dict[str, bytes], progress: Progress) -> None:
        if not rows:
            return
        name, at_s = station.provision.identity, max(self._desk.clock.wall(), progress.began_s)
        try:
            await self._desk.store.put_records(name, kind, rows, at_s)
        except StoreRangeError:
            if not progress.is_whole:
                raise
            # Full of what nobody asked for: a report of everything goes before that.
            await self._forget_older(station, kind, progress.began_s)
            await self._desk.store.put_records(name, kind, rows, at_s)

    async def _note(self, station: Station, found: _Open, last: int | None) -> None:
        state: State = "complete" if found.parts.is_complete else found.progress.state
        found.progress = msgspec.structs.replace(
            found.progress, told_s=self._desk.clock.wall(), seen=_runs(found.numbers), state=state,
            last=found.progress.last if last is None else last,
        )  # fmt: skip
        await self._store(station, found.progress)

    async def _forget_older(self, station: Station, kind: str, began_s: float) -> None:
        name = station.provision.identity
        older = tuple(record.key for record in self._desk.store.records(name, kind) if record.at_s < began_s)
        if older:
            await self._desk.store.remove_records(name, kind, older)

    # --- the book ---------------------------------------------------------------------------------------------------
    def _unasked(self, action: str, request_id: int) -> Progress:
        now_s = self._desk.clock.wall()
        return Progress(
            action=action, request_id=request_id, is_asked=False, is_whole=False, began_s=now_s, told_s=now_s
        )

    async def _begin(self, station: Station, progress: Progress) -> _Open:
        book = self._book(station)
        await self._make_room(station, book, progress.key)
        made = _Open(progress, set(), ReportParts(progress.request_id, MAX_PARTS))
        book.pop(progress.key, None)
        book[progress.key] = made
        await self._store(station, progress)
        if progress.is_asked:

            def look() -> None:
                self._effects.spawn(station, lambda: self._sweep(station))

            station.later.append((self._desk.clock.monotonic() + GIVE_UP_S, look))
        return made

    async def _make_room(self, station: Station, book: dict[str, _Open], key: str) -> None:
        """Of too many, those nobody asked for go first, the oldest before the newer."""
        while len(book) >= KEPT and key not in book:
            oldest = min(book.values(), key=lambda one: (one.progress.is_asked, one.progress.told_s))
            del book[oldest.progress.key]
            await self._desk.store.remove_records(station.provision.identity, REPORT, (oldest.progress.key,))

    async def _sweep(self, station: Station) -> None:
        """Give up what has been silent for too long before its end."""
        now_s = self._desk.clock.wall()
        for found in list(self._book(station).values()):
            progress = found.progress
            if progress.state != "open" or now_s - progress.told_s < GIVE_UP_S:
                continue
            found.progress = msgspec.structs.replace(progress, state="incomplete")
            await self._store(station, found.progress)
            if progress.is_asked:
                parts = f"{len(found.numbers)} parts came, the last of them is missing or one between"
                text = f"{progress.action} {progress.request_id} did not come to its end: {parts}."
                tell(self._desk, station, "report_incomplete", text)

    def _book(self, station: Station) -> dict[str, _Open]:
        name = station.provision.identity
        if name not in self._books:
            kept = self._desk.store.records(name, REPORT)
            progresses = [msgspec.json.decode(record.value_json, type=Progress) for record in kept]
            self._books[name] = {progress.key: _reopened(progress) for progress in progresses}
        return self._books[name]

    async def _store(self, station: Station, progress: Progress) -> None:
        name, now_s = station.provision.identity, self._desk.clock.wall()
        await self._desk.store.put_records(name, REPORT, {progress.key: as_json(progress)}, now_s)


def _starts_anew(progress: Progress, seq_no: int | None) -> bool:
    """A station may send a report of its own accord again under the number it used before."""
    return progress.state != "open" and not progress.is_asked and seq_no in (0, None)


def _reopened(progress: Progress) -> _Open:
    parts, numbers = ReportParts(progress.request_id, MAX_PARTS), set[int]()
    for first, last in progress.seen:
        for number in range(first, last + 1):
            parts.add(progress.request_id, number, (), is_more_to_come=number != progress.last)
            numbers.add(number)
    return _Open(progress, numbers, parts)


def _runs(numbers: set[int]) -> tuple[tuple[int, int], ...]:
    """Runs of successive numbers, as first and last."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return tuple(runs)
