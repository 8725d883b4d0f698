"""Live streams: newest value only, never twice, ended together, and no patience with readers that stopped reading."""

import asyncio
from collections.abc import Iterator

import pytest

from gridtide.run.pace import Deadline, SlowReader, Streams, paced
from gridtide.run.simloop import run_sim


def test_slow_consumer_gets_the_newest_value() -> None:
    async def follow() -> list[int]:
        loop, closing, found = asyncio.get_running_loop(), asyncio.Event(), []
        async for tenth in paced(lambda: int(loop.time() * 10 + 1e-6) + 1_000, 0.5, closing):
            found.append(tenth - 1_000)
            await asyncio.sleep(2.0 if len(found) == 2 else 0.0)
            if len(found) == 4:
                closing.set()
        return found

    assert run_sim(follow()) == [0, 5, 30, 35]


def test_same_object_is_sent_once() -> None:
    first, second = object(), object()

    async def follow() -> tuple[list[object], float]:
        closing = asyncio.Event()
        values: Iterator[object] = iter([first, first, first, second])
        found = []
        async for value in paced(lambda: next(values), 1.0, closing):
            found.append(value)
            if value is second:
                closing.set()
        return found, asyncio.get_running_loop().time()

    found, ended_s = run_sim(follow())
    assert found == [first, second]
    assert ended_s == pytest.approx(3.0)


def test_closing_ends_a_waiting_stream_at_once() -> None:
    async def follow() -> float:
        loop, closing = asyncio.get_running_loop(), asyncio.Event()
        loop.call_later(1.5, closing.set)
        async for _ in paced(lambda: 1, 60.0, closing):
            pass
        return loop.time()

    assert run_sim(follow()) == pytest.approx(1.5)


def test_reader_that_stopped_reading_is_dropped() -> None:
    async def stuck(_: str) -> None:
        await asyncio.sleep(1e6)

    async def send() -> float:
        bounded = Deadline(stuck, 20.0)
        for _ in range(3):
            with pytest.raises(SlowReader):
                await bounded("view")
        assert bounded.expired
        return asyncio.get_running_loop().time()

    assert run_sim(send()) == pytest.approx(20.0), "waited for once only"


def test_send_in_time_passes() -> None:
    sent = []

    async def quick(message: str) -> None:
        sent.append(message)

    async def send() -> None:
        await Deadline(quick, 20.0)("view")

    run_sim(send())
    assert sent == ["view"]


def test_streams_are_bounded_and_counted_even_when_they_fail() -> None:
    streams = Streams(limit=1)

    def fail() -> None:
        with streams.one():
            assert streams.full
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert not streams.full
