"""Clocks keep time without jumping, whatever the speed does; measured on virtual time, so nothing here waits."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gridtide.run.clock import Clock, LoopClock, ScaledClock, WallClock
from gridtide.run.simloop import run_sim

START_S = 1_700_000_000.0


def loop_time() -> float:
    return asyncio.get_running_loop().time()


def test_loop_clock_follows_the_loop() -> None:
    async def day() -> tuple[float, float]:
        clock = LoopClock(loop_time, START_S)
        await clock.sleep(86_400.0)
        return clock.monotonic(), clock.wall()

    assert run_sim(day()) == (86_400.0, START_S + 86_400.0)


def test_loop_clock_wakes_exactly_at_the_instant_and_not_before() -> None:
    async def main() -> list[float]:
        clock = LoopClock(loop_time, START_S)
        instants = [0.1 * step for step in range(1, 50)] + [1e7 + 0.1, 3e9 + 0.3]
        woken = []
        for instant in instants:
            await clock.sleep_until(instant)
            woken.append(clock.monotonic() - instant)
        return woken

    assert run_sim(main()) == [0.0] * 51


def test_scaled_clock_runs_at_its_speed() -> None:
    async def main() -> tuple[float, float, float]:
        clock = ScaledClock(60.0, START_S, loop_time)
        await clock.sleep(3_600.0)
        return loop_time(), clock.monotonic(), clock.wall()

    real_s, site_s, wall_s = run_sim(main())
    assert real_s == pytest.approx(60.0, abs=1e-6)
    assert site_s == pytest.approx(3_600.0, abs=1e-4)
    assert wall_s == pytest.approx(START_S + 3_600.0, abs=1e-3)


@pytest.mark.parametrize(("new_speed", "expected_real_s"), [(100.0, 50.0 + 5.0), (1.0, 50.0 + 500.0)])
def test_new_speed_wakes_sleepers_to_work_out_their_rest(new_speed: float, expected_real_s: float) -> None:
    async def main() -> tuple[float, float]:
        clock = ScaledClock(10.0, START_S, loop_time)
        sleeper = asyncio.ensure_future(clock.sleep_until(1_000.0))
        await asyncio.sleep(50.0)
        clock.set_speed(new_speed)
        await sleeper
        return loop_time(), clock.monotonic()

    real_s, site_s = run_sim(main())
    assert real_s == pytest.approx(expected_real_s, abs=1e-6)
    assert 1_000.0 <= site_s < 1_000.0 + 1e-3


def test_speed_has_a_floor() -> None:
    async def main() -> tuple[float, float]:
        clock = ScaledClock(1.0, START_S, loop_time)
        clock.set_speed(0.0)
        await asyncio.sleep(10.0)
        return clock.speed, clock.monotonic()

    speed, site_s = run_sim(main())
    assert speed == 0.1
    assert site_s == pytest.approx(1.0)


def test_site_time_never_jumps_back_when_real_time_does() -> None:
    real = iter([0.0, 10.0, 5.0, 5.0, 5.0, 11.0, 12.0])
    clock = ScaledClock(2.0, START_S, lambda: next(real))
    first, second = clock.monotonic(), clock.monotonic()
    clock.set_speed(4.0)
    assert (first, second) == (20.0, 20.0)
    assert [clock.monotonic(), clock.monotonic()] == [44.0, 48.0]


def test_a_past_instant_gives_way_once_and_returns() -> None:
    async def main(make: Callable[[], Clock]) -> list[str]:
        clock, seen = make(), list[str]()
        asyncio.get_running_loop().call_soon(seen.append, "other")
        await clock.sleep_until(clock.monotonic() - 5.0)
        seen.append("sleeper")
        return seen

    for make in (lambda: LoopClock(loop_time, START_S), lambda: ScaledClock(1.0, START_S, loop_time), WallClock):
        assert run_sim(main(make)) == ["other", "sleeper"]


def test_cancelled_sleep_leaves_no_sleeper_behind() -> None:
    async def main() -> int:
        clock = ScaledClock(1.0, START_S, loop_time)
        sleeper = asyncio.ensure_future(clock.sleep(100.0))
        await asyncio.sleep(1.0)
        sleeper.cancel()
        await asyncio.wait([sleeper])
        return len(clock._sleepers)

    assert run_sim(main()) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_is_refused(bad: float) -> None:
    async def refused(wait: Coroutine[Any, Any, None]) -> None:
        with pytest.raises(ValueError, match="finite"):
            await wait

    clocks: list[Clock] = [LoopClock(lambda: 0.0, START_S), ScaledClock(1.0, START_S, lambda: 0.0), WallClock()]
    for clock in clocks:
        run_sim(refused(clock.sleep(bad)))
        run_sim(refused(clock.sleep_until(bad)))
    with pytest.raises(ValueError, match="speed"):
        ScaledClock(bad, START_S)
    with pytest.raises(ValueError, match="start_wall_s"):
        LoopClock(lambda: 0.0, bad)


def test_wall_clock_is_the_machines() -> None:
    clock = WallClock()
    before_s, wall_before_s = time.monotonic(), time.time()
    asyncio.run(clock.sleep(0.001))
    assert before_s + 0.001 <= clock.monotonic() <= time.monotonic()
    assert abs(clock.wall() - wall_before_s) < 3_600.0
