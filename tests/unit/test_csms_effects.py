"""Effects are done to their end and in order; reports in parts come out whole whatever the order, doubles and failures."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.run.csms.effects import Effects
from gridtide.run.csms.parts import PartBook
from gridtide.run.csms.station import Station
from gridtide.run.store import MemoryStore, StoreError, StoreRangeError
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.generated import v21
from tests.day.csms_kit import Kit
from tests.day.wire_site import on_wire


class Part:
    """What `PartBook` reads of a message."""

    def __init__(self, seq_no: int, *, tbc: bool) -> None:
        self.requestId, self.seqNo, self.tbc = 7, seq_no, tbc


def bench(store: MemoryStore | None = None) -> tuple[Kit, Effects, Station]:
    kit = Kit(store=store)
    return kit, Effects(kit.csms._intake.desk), kit.csms.stations["bay-1"]


@pytest.mark.parametrize("seed", range(5))
def test_work_of_one_station_is_done_in_the_order_it_came(seed: int) -> None:
    async def scenario() -> None:
        _, effects, station = bench()
        done: list[int] = []

        def work(number: int) -> Any:
            async def run() -> None:
                for _ in range(10 - number):
                    await asyncio.sleep(0)
                done.append(number)

            return run

        for number in range(10):
            effects.spawn(station, work(number))
        await effects.idle()
        assert done == list(range(10))
        assert not effects._last
        assert not effects._waiting

    on_wire(scenario, seed)


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(StoreRangeError("no"), RemoteProtocolError), (StoreError("disk"), StoreError), (ValueError("bug"), ValueError)],
)
def test_a_failure_reaches_who_waits_and_holds_up_nobody(failure: Exception, raised: type[Exception]) -> None:
    async def scenario() -> None:
        kit, effects, station = bench()

        async def fails(_station: Any, _message: Any, _call: Any) -> Any:
            raise failure

        async def works(_station: Any, _message: Any, _call: Any) -> Any:
            return v21.NotifyReportResponse()

        bad: Any = effects.act(fails)(station, None, None)  # type: ignore[arg-type]
        good: Any = effects.act(works)(station, None, None)  # type: ignore[arg-type]
        with pytest.raises(raised):
            await bad
        assert await good == v21.NotifyReportResponse()
        assert ("store_failed" in kit.codes()) == (raised is StoreError)

    on_wire(scenario)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_parts_make_a_whole_in_any_order_with_doubles_and_restarts(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    order = data.draw(st.permutations(range(count)))
    doubles = data.draw(st.lists(st.integers(0, count - 1), max_size=4))
    restarts = data.draw(st.sets(st.integers(0, count)))

    async def scenario() -> None:
        kit, effects, station = bench()
        book = PartBook(kit.csms._intake.desk, effects)
        book.expect(station, "NotifyReport", 7, is_whole=True)
        await effects.idle()
        heard: set[int] = set()
        for place, number in enumerate([*order, *doubles]):
            if place in restarts:
                book = PartBook(kit.csms._intake.desk, effects)
            rows = {f"v{number}": b"1" if number not in heard else b'"again"'}
            heard.add(number)
            await book.take(station, "NotifyReport", Part(number, tbc=number != count - 1), "variable", rows)
            (progress,) = book.reports("bay-1")
            # Whoever hears the end before the rest knows what is missing; a second end would be one after the end.
            assert (progress.state == "complete") == (heard == set(range(count)))
            assert {n for a, b in progress.seen for n in range(a, b + 1)} == heard
        assert kit.records("variable") == {f"v{number}": 1 for number in range(count)}

    on_wire(scenario)


def test_a_part_that_could_not_be_kept_is_none_and_may_come_again() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        kit, effects, station = bench(store)
        book = PartBook(kit.csms._intake.desk, effects)
        book.expect(station, "NotifyReport", 7, is_whole=False)
        await effects.idle()
        store._fails = lambda _number: True
        with pytest.raises(StoreError):
            await book.take(station, "NotifyReport", Part(0, tbc=False), "variable", {"a": b"1"})
        store._fails = lambda _number: False
        assert book.reports("bay-1")[0].seen == ()
        await book.take(station, "NotifyReport", Part(0, tbc=False), "variable", {"a": b"1"})
        assert book.reports("bay-1")[0].state == "complete"
        assert kit.records("variable") == {"a": 1}

    on_wire(scenario)
