"""Invariants of two sessions that talk over a link which repeats, drops and reorders frames."""

from __future__ import annotations

import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.wire.ocpp.events import CallAnswered, CallFailed, CallReceived, Event
from gridtide.wire.ocpp.generated import v21
from gridtide.wire.ocpp.outgoing import Priority
from gridtide.wire.ocpp.session import Session

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "stop", "deliver", "repeat", "drop", "swap", "answer", "wait"]), st.integers(0, 5)
    ),
    max_size=60,
)


class Link:
    """A CSMS and a station with frames under way in both directions."""

    def __init__(self) -> None:
        counter = itertools.count(1)
        self.csms = Session("csms", "2.1", lambda: f"c{next(counter)}", boot_state="accepted")
        self.station = Session("station", "2.1", lambda: f"s{next(counter)}", boot_state="accepted")
        self.down: list[bytes] = []
        self.up: list[bytes] = []
        self.open_at_station: list[str] = []
        self.effects: list[str] = []
        self.asked: list[str] = []
        self.outcomes: list[str] = []
        self.now_s = 0.0

    def collect(self, events: list[Event]) -> None:
        self.outcomes += [event.id for event in events if isinstance(event, CallAnswered | CallFailed)]
        self.down += self.csms.bytes_to_send()
        self.up += self.station.bytes_to_send()

    def call(self, priority: Priority) -> None:
        self.asked.append(self.csms.call("ClearCache", v21.ClearCacheRequest(), self.now_s, priority=priority))
        self.collect([])

    def deliver(self) -> None:
        if self.down:
            events = self.station.receive(self.down.pop(0), self.now_s)
            names = [event.id for event in events if isinstance(event, CallReceived)]
            self.effects += names
            self.open_at_station += names
        if self.up:
            self.collect(self.csms.receive(self.up.pop(0), self.now_s))
        self.collect([])

    def answer(self) -> None:
        if self.open_at_station:
            self.station.answer(self.open_at_station.pop(0), v21.ClearCacheResponse(status="Accepted"), self.now_s)
        self.collect([])

    def disturb(self, kind: str, place: int) -> None:
        for frames in (self.down, self.up):
            if place >= len(frames):
                continue
            if kind == "drop":
                frames.pop(place)
            elif kind == "repeat":
                frames.insert(0, frames[place])
            else:
                frames.append(frames.pop(place))

    def step(self, kind: str, number: int) -> None:
        if kind == "call" and self.csms.waiting_calls < 60:
            self.call(Priority.NORMAL)
        elif kind == "stop" and self.csms.waiting_calls < 60:
            self.call(Priority.STOP)
        elif kind == "deliver":
            self.deliver()
        elif kind == "answer":
            self.answer()
        elif kind == "wait":
            self.now_s += number * 0.7
            self.collect(self.csms.tick(self.now_s))
        else:
            self.disturb(kind, number)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_at_most_one_effect_and_exactly_one_outcome_a_call(steps: list[tuple[str, int]]) -> None:
    link = Link()
    for kind, number in steps:
        link.step(kind, number)
    link.collect(link.csms.close())
    assert len(link.effects) == len(set(link.effects))
    assert sorted(link.outcomes) == sorted(link.asked)


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, 10))
def test_a_stop_leaves_within_its_turn_of_a_second(steps: list[tuple[str, int]], extra: int) -> None:
    link = Link()
    for kind, number in steps:
        if kind != "stop":
            link.step(kind, number)
    for _ in range(extra):
        link.call(Priority.NORMAL)
    link.down.clear()
    link.call(Priority.STOP)
    link.now_s += 1.0
    link.collect(link.csms.tick(link.now_s))
    assert json.loads(link.down[0])[1] == link.asked[-1]
