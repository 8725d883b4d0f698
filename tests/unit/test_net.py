"""In-memory links deliver in order, fail as told by their seed, and say why they closed."""

import asyncio
from collections.abc import Callable

import pytest

from gridtide.run.clock import LoopClock
from gridtide.run.net import Link, LinkClosed, MemoryLink, memory_link
from gridtide.run.simloop import run_sim

Pair = tuple[MemoryLink, MemoryLink]


def clock() -> LoopClock:
    return LoopClock(asyncio.get_running_loop().time, 1_700_000_000.0)


async def drain(link: Link) -> list[bytes]:
    got = []
    try:
        while True:
            got.append(await link.receive())
    except LinkClosed:
        return got


def numbers(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def test_zero_latency_needs_no_timer() -> None:
    async def main() -> tuple[list[bytes], float]:
        near, far = memory_link(clock())
        reader = asyncio.ensure_future(drain(far))
        for data in numbers(100):
            await near.send(data)
        await near.close()
        got = await reader
        loop = asyncio.get_running_loop()
        assert not loop._scheduled  # type: ignore[attr-defined]
        return got, loop.time()

    assert run_sim(main(), 3) == (numbers(100), 0.0)


def test_latency_delays_both_ways_and_keeps_order() -> None:
    async def main() -> tuple[list[bytes], float, float]:
        near, far = memory_link(clock(), 0.2, jitter_s=0.5, seed=4)
        for data in numbers(50):
            await near.send(data)
        first_s = 0.0
        got = []
        for _ in range(50):
            got.append(await far.receive())
            first_s = first_s or clock().monotonic()
        asked_s = clock().monotonic()
        await far.send(b"answer")
        await near.receive()
        return got, first_s, clock().monotonic() - asked_s

    got, first_s, answer_s = run_sim(main(), 1)
    assert got == numbers(50)
    assert 0.2 <= first_s <= 0.7
    assert 0.2 <= answer_s <= 0.7 + 1e-9


@pytest.mark.parametrize("latency_s", [0.0, 0.1])
def test_close_arrives_after_what_was_sent(latency_s: float) -> None:
    async def main() -> tuple[list[bytes], int, str]:
        near, far = memory_link(clock(), latency_s)
        for data in numbers(3):
            await near.send(data)
        await near.close(1001, "going away")
        await near.close(1011, "again")
        assert near.closed
        assert far.closed == (latency_s == 0.0)
        got = [await far.receive() for _ in range(3)]
        with pytest.raises(LinkClosed) as closed:
            await far.receive()
        assert far.closed
        for end in (near, far):
            with pytest.raises(LinkClosed):
                await end.send(b"late")
        return got, closed.value.code, closed.value.reason

    assert run_sim(main()) == (numbers(3), 1001, "going away")


@pytest.mark.parametrize("latency_s", [0.0, 5.0])
def test_closing_this_end_wakes_its_reader(latency_s: float) -> None:
    async def main() -> tuple[list[bytes], float]:
        near, far = memory_link(clock(), latency_s)
        reader = asyncio.ensure_future(drain(near))
        if latency_s:
            await far.send(b"under way")
        await asyncio.sleep(1.0)
        await near.close()
        return await reader, clock().monotonic()

    assert run_sim(main()) == ([], 1.0)


@pytest.mark.parametrize("waits_for", [lambda far: far.receive(), lambda far: far.send(b"too many")])
def test_cut_cord_wakes_everybody_with_1006(waits_for: Callable[[MemoryLink], "asyncio.Future[None]"]) -> None:
    async def main() -> int:
        near, far = memory_link(clock(), queue_limit=1)
        await far.send(b"one")
        waiter = asyncio.ensure_future(waits_for(far))
        await asyncio.sleep(1.0)
        near.drop()
        with pytest.raises(LinkClosed) as closed:
            await waiter
        assert near.closed
        return closed.value.code

    assert run_sim(main()) == 1006


def losses(seed: int, loss: float = 0.0, duplicate: float = 0.0) -> list[bytes]:
    async def main() -> list[bytes]:
        near, far = memory_link(clock(), loss=loss, duplicate=duplicate, seed=seed)
        for data in numbers(400):
            await near.send(data)
        await near.close()
        return await drain(far)

    return run_sim(main())


def test_loss_and_duplicates_follow_the_seed() -> None:
    lost = losses(1, loss=0.25)
    assert 250 < len(lost) < 350
    assert lost == losses(1, loss=0.25) != losses(2, loss=0.25)
    doubled = losses(1, duplicate=0.25)
    assert 450 < len(doubled) < 550
    assert sorted(set(doubled)) == sorted(numbers(400))
    assert losses(1, loss=1.0) == []
    assert losses(1, duplicate=1.0) == [data for data in numbers(400) for _ in range(2)]


def test_blackhole_swallows_one_way_and_the_close() -> None:
    async def main() -> tuple[bytes, bool]:
        near, far = memory_link(clock())
        near.blackhole = True
        await near.send(b"lost")
        await far.send(b"heard")
        heard = await near.receive()
        await near.close()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60.0):
                await far.receive()
        return heard, far.closed

    assert run_sim(main()) == (b"heard", False)


def test_slow_reader_holds_the_sender_back() -> None:
    async def main() -> tuple[int, list[bytes]]:
        near, far = memory_link(clock(), queue_limit=4)
        sent = 0

        async def sender() -> None:
            nonlocal sent
            for data in numbers(20):
                await near.send(data)
                sent += 1
            await near.close()

        task = asyncio.ensure_future(sender())
        await asyncio.sleep(1.0)
        before = sent
        got = await drain(far)
        await task
        return before, got

    assert run_sim(main(), 5) == (4, numbers(20))


def test_cancelled_receive_loses_nothing() -> None:
    async def main() -> bytes:
        near, far = memory_link(clock(), 1.0)
        await near.send(b"kept")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.25):
                    await far.receive()
        return await far.receive()

    assert run_sim(main()) == b"kept"


def test_two_readers_are_refused() -> None:
    async def main() -> None:
        _, far = memory_link(clock())
        reader = asyncio.ensure_future(drain(far))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two readers"):
            await far.receive()
        reader.cancel()

    run_sim(main())


@pytest.mark.parametrize(
    "wrong",
    [{"latency_s": -1.0}, {"latency_s": float("nan")}, {"jitter_s": float("inf")}, {"loss": 1.1}, {"duplicate": -0.1}],
)
def test_wrong_faults_are_refused(wrong: dict[str, float]) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            memory_link(clock(), **wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="queue_limit"):
            memory_link(clock(), queue_limit=0)

    run_sim(main())
