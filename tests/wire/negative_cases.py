"""Negative cases as data (tests/cases/ocpp/negative_<block>.json), and how each kind is played."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from gridtide.run.assembly import ids, provisions
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.service import Csms
from gridtide.run.store import MemoryStore
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import TABLES, Version
from gridtide.wire.ocpp.checks import Context, request_problems
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.events import CallFailed, CallReceived, Event, FrameDropped, SendReceived
from gridtide.wire.ocpp.session import Session
from tests.day.raw_station import BOOT, RawStation
from tests.day.wire_site import START_S, EpochClock, on_wire, table
from tests.wire.ocpp_samples import Extent, sample, with_value, without

FOLDER = Path(__file__).parents[1] / "cases" / "ocpp"
VERSIONS: tuple[Version, ...] = ("2.0.1", "2.1")
HEAVY = frozenset({"absolutePriceSchedule", "priceLevelSchedule", "salesTariff"})
Kind = Literal["says", "asked", "answers", "sends", "boots"]


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One defect in a valid payload, at a dotted path."""

    path: str
    value: Any = None
    chars: int = 0
    """A string of so many characters instead of `value`."""
    drop: bool = False

    def applied(self, payload: Any) -> Any:
        """The payload with the defect."""
        path = tuple(int(step) if step.isdigit() else step for step in self.path.split("."))
        if self.drop:
            return without(payload, path)
        return with_value(payload, path, "x" * self.chars if self.chars else self.value)


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One negative case.

    Kinds: `says`, a raw station says it to a whole CSMS; `boots`, the same before it was accepted (session level); `asked`,
    our station is asked it; `answers`, it answers a good call of our CSMS; `sends`, our own check before sending.
    """

    name: str
    kind: Kind
    action: str
    versions: tuple[Version, ...] = VERSIONS
    state: str = "booted"
    """`unbooted`, `booted`, `transaction` (tx-1 runs at EVSE 1 of bay-1), `pending` or `rejected`."""
    who: str = "bay-1"
    payload: Any = None
    base: Extent = "maximal"
    change: Change | None = None
    raw: str = ""
    """A whole frame instead of a payload."""
    before: tuple[tuple[str, Any], ...] = ()
    """Calls that come first and are answered."""
    error: str = ""
    """Expected error code (of a CALLERROR, of a failed call of ours, or of our decoder)."""
    fields: dict[str, Any] = {}
    """Expected fields of the answer, by dotted path."""
    outcome: str = ""
    """`silence`, `unsolicited`, `duplicate`, `timed_out`, or a field that our check complains about."""
    message_id: str = "n-1"
    """Id that the answer must carry."""

    def content(self, version: Version) -> Any:
        """The payload to play."""
        direction: codec.Direction = "response" if self.kind == "answers" else "request"
        made = self.payload
        if made is None:
            made = lighter(sample((version, self.action, direction), self.base))
        return self.change.applied(made) if self.change else made


def lighter(payload: Any) -> Any:
    """A sample without the optional price lists, which alone exceed the size of a frame."""
    if isinstance(payload, dict):
        return {name: lighter(item) for name, item in payload.items() if name not in HEAVY}
    return [lighter(item) for item in payload] if isinstance(payload, list) else payload


def block_files() -> list[Path]:
    """The data files, by block."""
    return sorted(FOLDER.glob("negative_*.json"))


def cases() -> Iterator[tuple[str, Case, Version]]:
    """(block, case, version) of every case in every file."""
    for path in block_files():
        for item in msgspec.json.decode(path.read_bytes(), type=tuple[Case, ...]):
            for version in item.versions:
                yield path.stem.removeprefix("negative_"), item, version


class Ward:
    """A CSMS of two stations with one EVSE each, in virtual time."""

    def __init__(self, version: Version) -> None:
        self.clock = EpochClock(asyncio.get_running_loop(), START_S)
        self.store, self.version = MemoryStore(), version
        self.board = EvidenceBoard(table(2))
        mine = provisions(table(2), (version, version))
        self.csms = Csms(table(2), mine, self.board, self.store, self.clock, ids("c"), lease_s=5.0)
        self.ticks = asyncio.ensure_future(self.csms.tick_forever())

    def state(self) -> Any:
        """What a case without effect must leave as it is."""
        store, board = self.store, self.board
        arrays = (board.connected, board.soc, board.power_kw, board.need_soc, board.may_discharge, board.fault)
        seen = {
            (name, key): [(event.seq_no, event.event_type) for event in store.transaction_events(name, key)]
            for name in ("bay-1", "bay-2")
            for key in ("tx-1", "tx-2", "", "x" * 37)
        }
        running = [sorted(station.transactions.items()) for station in self.csms.stations.values()]
        return (
            seen,
            running,
            len(store.open_transactions()),
            [np.nan_to_num(item, nan=-1.0).tolist() for item in arrays],
        )


def play_to_csms(case: Case, version: Version) -> None:
    """A raw station says it; the answer is as expected, nothing else changed, and both stations are still served."""

    async def scenario() -> None:
        ward = Ward(version)
        stations = {name: RawStation(ward.csms, ward.clock, name, version) for name in ("bay-1", "bay-2")}
        for station in stations.values():
            if case.state != "unbooted" or station is not stations[case.who]:
                await station.boot()
        if case.state == "transaction":
            await stations["bay-1"].tell("Started", 0, soc=70.0)
            await stations["bay-1"].tell("Updated", 1, soc=71.0)
        speaker = stations[case.who]
        for action, payload in case.before:
            assert (await speaker.call(action, payload))[0] == 3
        await ward.clock.sleep(0.5)
        before = ward.state()
        answer = await spoken(speaker, case, version)
        check_answer(answer, case)
        await ward.clock.sleep(0.5)
        assert ward.state() == before, "it had an effect"
        for name, station in stations.items():
            alive = ("Heartbeat", {}) if case.state != "unbooted" or name != case.who else ("BootNotification", BOOT)
            assert (await station.call(*alive))[0] == 3
        ward.ticks.cancel()
        for station in stations.values():
            station.link.drop()

    on_wire(scenario)


async def spoken(station: RawStation, case: Case, version: Version) -> list[Any] | None:
    """The answer frame to what the case says, None for silence."""
    text = case.raw or json.dumps([2, case.message_id, case.action, case.content(version)])
    waiting: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    station._open[case.message_id] = waiting
    await station.link.send(text.encode("utf-8", "surrogatepass"))
    done, _ = await asyncio.wait([waiting], timeout=10.0)
    return waiting.result() if done else None


def check_answer(answer: list[Any] | None, case: Case) -> None:
    """The answer is the expected error, or has the expected fields."""
    if case.outcome == "silence":
        assert answer is None, answer
        return
    assert answer is not None, "no answer"
    if case.error:
        assert answer[:3] == [4, case.message_id, case.error], answer
        assert len(answer[3]) <= 255
        return
    assert answer[0] == 3, answer
    for path, expected in case.fields.items():
        found = answer[2]
        for step in path.split("."):
            found = found[int(step)] if step.isdigit() else found[step]
        assert found == expected if not isinstance(expected, list) else found in expected, (path, found)


def play_before_accepted(case: Case, version: Version) -> None:
    """A station that is pending or rejected says it to a CSMS session."""
    session = Session("csms", version, lambda: "own", boot_state="unbooted")
    session.receive(json.dumps([2, "boot", "BootNotification", BOOT]).encode(), 0.0)
    now = datetime.fromtimestamp(START_S, UTC)
    fields = {"currentTime": now, "interval": 300, "status": case.state.capitalize()}
    session.answer("boot", codec.payload_type(version, "BootNotification", "response")(**fields), 0.0)
    session.bytes_to_send()
    text = case.raw or json.dumps([2, case.message_id, case.action, case.content(version)])
    events = session.receive(text.encode(), 10.0)
    assert not any(isinstance(event, CallReceived | SendReceived) for event in events)
    (answer,) = session.bytes_to_send()
    check_answer(json.loads(answer), case)


def play_to_station(case: Case, version: Version) -> None:
    """Our station is asked it by a CSMS."""
    session = Session("station", version, lambda: "own", boot_state="accepted")
    text = case.raw or json.dumps([2, case.message_id, case.action, case.content(version)])
    events = session.receive(text.encode(), 0.0)
    assert not any(isinstance(event, CallReceived) for event in events)
    (answer,) = session.bytes_to_send()
    check_answer(json.loads(answer), case)


def play_answer(case: Case, version: Version) -> None:
    """The station answers a good call of our CSMS so; the call fails, later ones go on, and 2.1 is told with type 5."""
    numbers = itertools.count()
    session = Session("csms", version, lambda: f"own-{next(numbers)}", boot_state="accepted")
    kind = TABLES[version][case.action][0]
    session.call(case.action, msgspec.convert(sample((version, case.action, "request"), "minimal"), kind), 0.0)
    session.bytes_to_send()
    text = case.raw or json.dumps([3, "own-0", case.content(version)])
    events = session.tick(31.0) if case.outcome == "timed_out" else session.receive(text.encode(), 1.0)
    sent = [json.loads(frame) for frame in session.bytes_to_send()]
    if case.outcome == "unsolicited":
        assert [event.reason for event in events if isinstance(event, FrameDropped)] == ["unsolicited"]
        assert not failures(events)
        return
    (failure,) = failures(events)
    if case.outcome == "timed_out":
        assert failure.reason == "timed_out"
        late = session.receive(
            json.dumps([3, "own-0", sample((version, case.action, "response"), "minimal")]).encode(), 40.0
        )
        assert [event.reason for event in late if isinstance(event, FrameDropped)] == ["unsolicited"]
        return
    assert failure.code == case.error, failure
    is_refusal = case.raw.startswith("[4")
    assert failure.reason == ("call_error" if is_refusal else "invalid_answer")
    told = [] if is_refusal or version == "2.0.1" else [[5, "own-0", case.error]]
    assert [frame[:3] for frame in sent] == told


def failures(events: list[Event]) -> list[CallFailed]:
    """The calls of ours that failed."""
    return [event for event in events if isinstance(event, CallFailed)]


def play_sending(case: Case, version: Version) -> None:
    """We are about to send it; the codec or our checks refuse."""
    payload = json.dumps(case.content(version)).encode()
    if case.error:
        with pytest.raises(RemoteProtocolError, match=case.error):
            codec.decode(version, case.action, "request", payload)
        return
    request = codec.decode(version, case.action, "request", payload)
    context = Context(now=datetime.fromtimestamp(START_S, UTC), allows_discharge=case.state != "refuse")
    found = [item.field for item in request_problems(case.action, request, context)]
    assert case.outcome
    assert case.outcome in found, found


PLAYERS = {
    "says": play_to_csms,
    "boots": play_before_accepted,
    "asked": play_to_station,
    "answers": play_answer,
    "sends": play_sending,
}
