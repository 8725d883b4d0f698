"""Foresight in the loop: it learns from what the site sees, knows nothing beforehand, and beats reflex with every driver served."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from gridtide.app.config import load_site
from gridtide.app.scenario import past_of, period_s, study_inputs
from gridtide.control import site
from gridtide.control.guidance import Guidance
from gridtide.model.decision import Decision, Snapshot
from gridtide.plan.registers import Peaks
from gridtide.run import fast, study
from gridtide.run.compare import compare, play
from gridtide.run.planning import Planning
from gridtide.run.study import StudyInputs
from gridtide.twin.building import Building
from gridtide.twin.plant import World

ROOT = Path(__file__).parents[2]
OFFICE = ROOT / "examples" / "office.toml"
STEP_S = 300.0


def office(start: str = "2019-06-12", days: int = 2) -> StudyInputs:
    """Two busy days of June; May's sessions and the load of the months before are known."""
    return study_inputs(
        load_site(OFFICE, {("study", "start"): start, ("study", "days"): days, ("study", "step_s"): int(STEP_S)})
    )


@pytest.fixture(scope="module")
def inputs() -> StudyInputs:
    return office()


DAY = office(days=1)


class Watched(Planning):
    """Remembers when it planned, and what it told."""

    def __init__(self, inputs: StudyInputs) -> None:
        super().__init__(inputs.tariff, inputs.settings, inputs.past, inputs.look)
        self.told: list[tuple[float, float]] = []
        self.made_s: list[float] = []

    def question(self, snapshot: Snapshot, state: site.State):  # type: ignore[no-untyped-def]
        self.made_s.append(snapshot.now_s)
        return super().question(snapshot, state)

    def advise(self, snapshot: Snapshot, state: site.State):  # type: ignore[no-untyped-def]
        found = super().advise(snapshot, state)
        if found is not None:
            self.told.append((found.limit_kw, float(np.nansum(found.power_kw))))
        return found


def run(inputs: StudyInputs, world: World | None = None) -> tuple[Watched, fast.Run]:
    planning = Watched(inputs)
    found = fast.controlled(
        world or inputs.world, inputs.settings, inputs.start_s, inputs.end_s, inputs.step_s, planning=planning
    )
    return planning, found


@pytest.fixture(scope="module")
def played(inputs: StudyInputs) -> tuple[Watched, fast.Run]:
    return run(inputs)


def test_every_driver_leaves_with_what_they_need(inputs: StudyInputs, played: tuple[Watched, fast.Run]) -> None:
    short = [item for item in played[1].left if study.is_short(inputs.world.arrivals[item.arrival], item)]
    assert len(played[1].left) > 60
    assert short == []


def test_it_plans_as_vehicles_come_and_go_and_at_least_hourly(
    inputs: StudyInputs, played: tuple[Watched, fast.Run]
) -> None:
    made = np.array(played[0].made_s)
    assert np.diff(made).max() <= 3600.0 + STEP_S
    for stay in inputs.world.arrivals:
        for at_s in (stay.arrived_s, stay.departs_s):
            if inputs.start_s + STEP_S < at_s < inputs.end_s - 2 * STEP_S:
                assert ((made > at_s) & (made <= at_s + 2 * STEP_S)).any()


def test_the_same_site_is_planned_the_same(inputs: StudyInputs, played: tuple[Watched, fast.Run]) -> None:
    again, found = run(inputs)
    assert again.told == played[0].told
    assert np.array_equal(found.grid_kw, played[1].grid_kw)


def test_nothing_is_known_beforehand(inputs: StudyInputs, played: tuple[Watched, fast.Run]) -> None:
    """Another second day, in load and vehicles, changes nothing that was told on the first."""
    half_s = inputs.start_s + 0.5 * (inputs.end_s - inputs.start_s)
    own = inputs.world
    edge = int(half_s - own.building.start_s)
    power = np.diff(own.building.cumulated_kws)
    power[edge:] *= 0.6
    world = structs.replace(
        own,
        building=Building(own.building.start_s, np.concatenate([[0.0], np.cumsum(power)])),
        arrivals=tuple(item for item in own.arrivals if item.arrived_s < half_s),
    )
    leaving = sorted(range(len(world.arrivals)), key=lambda i: (world.arrivals[i].departs_s, world.arrivals[i].row))
    other, _ = run(inputs, structs.replace(world, departures=tuple(leaving)))
    first = round((half_s - inputs.start_s) / STEP_S) - 1
    assert other.told[:first] == played[0].told[:first]
    assert other.told != played[0].told


def test_the_history_before_a_study_holds_nothing_of_it(inputs: StudyInputs) -> None:
    past = inputs.past
    assert past.load_starts_s.max() < inputs.start_s
    assert len(past.load_kw) == 120 * 96
    assert max(stay.departs_s for stay in past.stays) <= inputs.start_s
    assert len(past.stays) > 500


def test_a_year_that_uses_all_data_leaves_no_history() -> None:
    """But for a day that the shift by whole weeks leaves out."""
    config = load_site(OFFICE, {("study", "start"): "2019-05-02", ("study", "days"): 366})
    assert past_of(config, config.table(), *period_s(config)).load_kw.size <= 96


def test_peaks_are_counted_by_register_and_begin_anew_with_the_period(inputs: StudyInputs) -> None:
    planning = Watched(inputs)
    snapshot, decision = _seen(inputs, inputs.start_s + 900.0)
    planning.note(snapshot, structs.replace(decision, closed=((inputs.start_s + 900.0, 300.0),)))
    assert list(planning._peaks.reached_kw.values()) == [300.0]
    later = structs.replace(snapshot, now_s=inputs.end_s, period_start_s=inputs.end_s - 60.0)
    planning.note(later, decision)
    assert planning._peaks == Peaks()
    assert planning._earlier_kw == [300.0]


def test_a_peak_beyond_the_target_asks_for_a_new_plan(inputs: StudyInputs) -> None:
    planning = Watched(inputs)
    snapshot, decision = _seen(inputs, inputs.start_s + 60.0)
    assert planning.advise(snapshot, site.fresh(inputs.settings)) is not None
    planning.note(snapshot, decision)
    planning._due = False
    target = planning.told[-1][0]
    ended = (inputs.start_s + 900.0,)
    planning.note(
        structs.replace(snapshot, now_s=ended[0] + 1.0), structs.replace(decision, closed=((*ended, target),))
    )
    assert not planning._due
    planning.note(
        structs.replace(snapshot, now_s=ended[0] + 2.0), structs.replace(decision, closed=((*ended, target + 5.0),))
    )
    assert planning._due


def _seen(inputs: StudyInputs, now_s: float) -> tuple[Snapshot, Decision]:
    """One cycle of the site without vehicles."""
    found: list[tuple[Snapshot, Decision]] = []
    fast.controlled(
        inputs.world, inputs.settings, now_s - 60.0, now_s, 60.0, period_start=lambda _: inputs.start_s,
        on_step=lambda snapshot, decision, _: found.append((snapshot, decision)),
    )  # fmt: skip
    return found[0]


def test_a_site_without_any_past_learns_and_plans(inputs: StudyInputs) -> None:
    from gridtide.run.planning import NOTHING

    bare = structs.replace(inputs, past=NOTHING)
    planning, found = run(bare)
    assert planning.plans > 20
    assert [i for i in found.left if study.is_short(inputs.world.arrivals[i.arrival], i)] == []


class Hostile:
    """A plan that asks for the same foolish thing all day."""

    def __init__(self, power_kw: float, limit_kw: float, size: int) -> None:
        self._told = Guidance(limit_kw=limit_kw, power_kw=np.full(size, power_kw), until_s=np.inf)

    def advise(self, *_: object) -> Guidance:
        return self._told

    def note(self, *_: object) -> None:
        """It learns nothing."""


@pytest.mark.parametrize("power_kw", [0.0, -11.0, 11.0, 1e9, np.nan])
@pytest.mark.parametrize("limit_kw", [1.0, 1e6])
def test_no_plan_costs_a_driver_the_departure_or_the_connection_its_limit(power_kw: float, limit_kw: float) -> None:
    day = DAY
    hostile = Hostile(power_kw, limit_kw, day.world.table.size)
    found = fast.controlled(day.world, day.settings, day.start_s, day.end_s, day.step_s, planning=hostile)  # type: ignore[arg-type]
    assert len(found.left) > 30
    assert [i for i in found.left if study.is_short(day.world.arrivals[i.arrival], i)] == []
    assert found.grid_kw.max() <= day.settings.limits.transformer_kw
    lowest = [(item.soc, min(day.world.arrivals[item.arrival].soc, day.settings.need.floor_soc)) for item in found.left]
    assert all(soc >= floor - 1e-9 for soc, floor in lowest)


# --- strategies side by side --------------------------------------------------------------------------------------------


def test_strategies_are_ordered_as_they_must_be(inputs: StudyInputs) -> None:
    found = {row.strategy: row for row in compare(inputs, ["threshold", "budget", "plan", "clairvoyant"]).strategies}
    assert list(found) == ["none", "threshold", "budget", "plan", "clairvoyant"]
    assert found["none"].saved == 0.0
    assert found["clairvoyant"].share_of_possible == 1.0
    for row in found.values():
        assert row.bill >= found["clairvoyant"].bill - 0.01
        assert row.bill == pytest.approx(row.energy + row.demand + row.other + row.wear)
        assert row.peak_kw == pytest.approx(max(row.day_peak_kw))
        assert row.drivers_short == 0
    assert found["plan"].share_of_possible is not None
    # Of two days: a month's share is in the docs.
    assert found["plan"].share_of_possible > 0.7
    assert found["plan"].saved > found["budget"].saved
    assert found["plan"].plans > 100


def test_processes_do_not_show_in_the_figures() -> None:
    short = office(days=1)
    alone, together = (
        compare(short, ["threshold", "clairvoyant"], processes=count) for count in (1, 2)
    )  # fmt: skip
    same = [
        [structs.replace(row, cpu_s=0.0) for row in found.strategies] for found in (alone, together)
    ]  # fmt: skip
    assert same[0] == same[1]
    assert alone.interval_kw == together.interval_kw


def test_the_lowest_bill_of_two_months_is_that_of_each() -> None:
    """Across the end of a billing period there are two peaks, each with its own price."""
    across = office("2019-05-30", 4)
    found = play(across, "clairvoyant")
    half = 2 * 96
    first = play(structs.replace(across, end_s=across.start_s + 2 * 86_400.0), "clairvoyant")
    assert found.sub_kw[:half].max() == pytest.approx(first.sub_kw.max(), abs=0.5)


def test_a_strategy_that_is_not_known_is_told(inputs: StudyInputs) -> None:
    with pytest.raises(ValueError, match="'magic': give some of none, threshold"):
        play(inputs, "magic")
