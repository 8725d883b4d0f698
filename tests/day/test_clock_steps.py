"""The controller's wall clock jumps (FT13): what is decided and what flows stays the same, to the last watt."""

import math
from typing import Any

import numpy as np
import pytest

from gridtide.model.fleet import Floats
from gridtide.run import assembly
from gridtide.run.clock import Clock
from gridtide.run.steady_clock import BELIEVE_S, SteadyClock, keep_time, latest_s
from tests.day.wire_site import WireSite, on_wire, world

YEAR_S = 365.25 * 86_400.0
STEPS = {
    "an hour ahead": 3600.0,
    "an hour back": -3600.0,
    "a leap second": 1.0,
    "back to 1970": -56.0 * YEAR_S,
    "past 2038": 12.5 * YEAR_S,
    "to the year 9999": 7973.0 * YEAR_S,
}


Life = tuple[list[Floats], list[Floats], list[float]]


class SteppedClock:
    """The plant's clock, but for a wall side that somebody sets."""

    def __init__(self, true: Clock) -> None:
        self._true, self.step_s = true, 0.0

    def monotonic(self) -> float:
        return self._true.monotonic()

    def wall(self) -> float:
        return self._true.wall() + self.step_s

    async def sleep(self, duration_s: float) -> None:
        await self._true.sleep(duration_s)

    async def sleep_until(self, monotonic_s: float) -> None:
        await self._true.sleep_until(monotonic_s)


def lived(monkeypatch: pytest.MonkeyPatch, step_s: float) -> Life:
    """Setpoints decided, powers that flowed, and the discharge at the step, of a site whose clock jumps while vehicles give."""
    real, clocks, steady = assembly.controller, list[SteppedClock](), list[SteadyClock]()

    def controller(table: Any, settings: Any, store: Any, clock: Clock, meter: Any, **more: Any) -> Any:
        clocks.append(SteppedClock(clock))
        steady.append(SteadyClock(clocks[0]))
        return real(table, settings, store, steady[0], meter, **more)

    monkeypatch.setattr(assembly, "controller", controller)

    async def scenario() -> Life:
        here = WireSite(world(4, blocks_kw=(235.0,) * 8))
        here.start()
        here._spawn("time", keep_time(steady[0], lambda: False, here.site.note))
        await here.until_giving()
        await here.after(20.0)
        given, flowed = [float(-here.power_kw.sum())], list[Floats]()
        clocks[0].step_s = step_s
        for _ in range(40):
            await here.after(1.0)
            flowed.append(here.power_kw.copy())
        decided = [kw for _, kw in here.trace.setpoints]
        assert here.codes.get("clock_jumped", 0) == (1 if step_s else 0)
        await here.stop()
        return decided, flowed, given

    return on_wire(scenario)


@pytest.fixture(scope="module")
def undisturbed() -> Life:
    with pytest.MonkeyPatch.context() as patch:
        return lived(patch, 0.0)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_the_wall_clock_changes_no_setpoint(
    name: str, undisturbed: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided, flowed, given = undisturbed
    assert given[0] > 10.0
    assert all(math.isfinite(value) for row in decided for value in row)
    stepped, stepped_flow, _ = lived(monkeypatch, STEPS[name])
    assert len(stepped) == len(decided)
    np.testing.assert_array_equal(np.array(stepped_flow), np.array(flowed))
    np.testing.assert_array_equal(np.array(stepped), np.array(decided))


class Machine:
    """A machine's clock in a test's hand."""

    def __init__(self) -> None:
        self.mono_s, self.wall_s = 50.0, 1_772_445_600.0

    def monotonic(self) -> float:
        return self.mono_s

    def wall(self) -> float:
        return self.wall_s

    async def sleep(self, duration_s: float) -> None:
        self.passes(duration_s)

    async def sleep_until(self, monotonic_s: float) -> None:
        self.passes(monotonic_s - self.mono_s)

    def passes(self, seconds: float) -> None:
        self.mono_s, self.wall_s = self.mono_s + seconds, self.wall_s + seconds


def test_a_jump_is_followed_when_it_lasts_and_nobody_gives() -> None:
    machine = Machine()
    clock = SteadyClock(machine)
    begun_s = clock.wall()
    machine.wall_s += 3600.0
    assert "+3600 s" in (clock.follow(is_quiet=True) or "")
    assert clock.follow(is_quiet=True) is None
    machine.passes(BELIEVE_S + 1.0)
    assert clock.follow(is_quiet=False) is None
    assert clock.wall() == pytest.approx(begun_s + BELIEVE_S + 1.0)
    assert "Followed" in (clock.follow(is_quiet=True) or "")
    assert clock.wall() == machine.wall()


def test_a_jump_that_goes_back_leaves_no_trace_and_small_steps_are_followed() -> None:
    machine = Machine()
    clock = SteadyClock(machine)
    machine.wall_s += 0.3
    assert clock.follow(is_quiet=False) is None
    assert clock.wall() == pytest.approx(machine.wall_s)
    machine.wall_s -= 7200.0
    assert clock.follow(is_quiet=True) is not None
    machine.passes(BELIEVE_S / 2.0)
    machine.wall_s += 7200.0
    assert clock.follow(is_quiet=True) is None
    machine.wall_s -= 7200.0
    assert clock.follow(is_quiet=True) is not None
    machine.passes(BELIEVE_S / 2.0 + 1.0)
    # The time of the first jump does not count for the second.
    assert clock.follow(is_quiet=True) is None
    assert clock.wall() == pytest.approx(machine.wall_s + 7200.0)


def test_impossible_times_are_never_followed_and_left_at_once() -> None:
    machine = Machine()
    true_s, machine.wall_s = machine.wall_s, 3.0
    clock = SteadyClock(machine)
    machine.wall_s = true_s
    assert clock.follow(is_quiet=False) is not None
    assert "Followed" in (clock.follow(is_quiet=False) or "")
    assert clock.wall() == true_s
    for wrong_s in (3.0, 2.5e11, math.inf, math.nan):
        machine.wall_s = wrong_s
        clock.follow(is_quiet=True)
        machine.mono_s += BELIEVE_S + 1.0
        clock.follow(is_quiet=True)
        assert clock.wall() == pytest.approx(true_s + machine.mono_s - 50.0)


@pytest.mark.parametrize("wrong_s", [3.0, 2.5e11, math.nan])
def test_a_clock_that_cannot_be_right_at_the_start_goes_on_from_what_was_stored(wrong_s: float) -> None:
    machine = Machine()
    stored_s = machine.wall_s
    machine.wall_s = wrong_s
    clock = SteadyClock(machine)
    clock.not_before(stored_s)
    machine.passes(5.0)
    assert clock.wall() == clock.latest_s == pytest.approx(stored_s + 5.0)
    assert "jumped" in (clock.follow(is_quiet=True) or "")
    assert clock.wall() == pytest.approx(stored_s + 5.0)
    machine.wall_s = stored_s + 60.0
    clock.follow(is_quiet=False)
    assert "Followed" in (clock.follow(is_quiet=False) or ""), "a guess gives way at once"
    assert clock.wall() == pytest.approx(stored_s + 60.0)


def test_a_clock_that_tells_less_than_was_stored_goes_on_but_departures_are_not_put_off() -> None:
    machine = Machine()
    stored_s, machine.wall_s = machine.wall_s, machine.wall_s - 3600.0
    clock = SteadyClock(machine)
    clock.not_before(stored_s)
    assert clock.wall() == machine.wall_s
    assert clock.latest_s == latest_s(clock) == stored_s
    machine.passes(3700.0)
    assert clock.latest_s == clock.wall() == machine.wall_s
    assert latest_s(machine) == machine.wall_s


@pytest.mark.parametrize("stored_s", [0.0, 1_772_445_000.0, 9e9, math.inf, -math.inf, math.nan])
def test_a_clock_that_may_be_right_is_not_set(stored_s: float) -> None:
    machine = Machine()
    clock = SteadyClock(machine)
    clock.not_before(stored_s)
    assert clock.wall() == clock.latest_s == machine.wall_s
