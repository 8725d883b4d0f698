"""Turns: never more than the limit at once, in the order of asking, bounded, and none lost to a cancellation."""

import asyncio
import random

import pytest

from gridtide.run.csms.turns import WAITING_PER_TURN, TooManyWait, Turns


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="limit is 0: give 1 or more"):
        Turns(0)


def test_at_most_so_many_at_once_and_the_rest_in_order() -> None:
    async def scenario() -> None:
        turns, begun, gate = Turns(2), list[int](), asyncio.Event()

        async def one(number: int) -> None:
            async with turns:
                begun.append(number)
                assert turns.taken <= 2
                await gate.wait()

        tasks = [asyncio.ensure_future(one(number)) for number in range(6)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (begun, turns.waiting) == ([0, 1], 4)
        gate.set()
        await asyncio.gather(*tasks)
        assert (begun, turns.taken, turns.waiting) == ([0, 1, 2, 3, 4, 5], 0, 0)

    asyncio.run(scenario())


def test_the_waiting_room_is_bounded() -> None:
    async def scenario() -> None:
        turns = Turns(1)
        await turns.__aenter__()
        tasks = [asyncio.ensure_future(turns.__aenter__()) for _ in range(WAITING_PER_TURN)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyWait):
            await turns.__aenter__()
        tasks[0].cancel()
        await asyncio.sleep(0)
        late = asyncio.ensure_future(turns.__aenter__())
        await asyncio.sleep(0)
        assert not late.done(), "one that gave up makes room for another"
        for task in (*tasks, late):
            task.cancel()

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(20))
def test_no_turn_is_lost_whoever_is_cancelled_when(seed: int) -> None:
    async def scenario() -> None:
        luck, turns, most = random.Random(seed), Turns(3), 0

        async def one() -> None:
            nonlocal most
            async with turns:
                most = max(most, turns.taken)
                for _ in range(luck.randrange(4)):
                    await asyncio.sleep(0)

        tasks = []
        for _ in range(25):
            tasks.append(asyncio.ensure_future(one()))
            if luck.random() < 0.5:
                await asyncio.sleep(0)
            if luck.random() < 0.4:
                luck.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (turns.taken, turns.waiting) == (0, 0)
        assert 1 <= most <= 3

    asyncio.run(scenario())
