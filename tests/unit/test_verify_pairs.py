"""Two faults together: which can be, that both are there at once and begin while vehicles give, and what a failing pair tells."""

from math import comb
from typing import Any

import pytest

from gridtide.app.commands import verify_pairs
from gridtide.run.verify import campaign, invariants, pairs
from gridtide.run.verify.faults import BY_ID, CATALOGUE, read
from gridtide.run.verify.invariants import NOTHING_KW, Violation
from gridtide.run.verify.pairs import DURATION_S, GAP_S, ONSET_S, Site

SITE = Site(7, (1, 3))


def test_every_two_can_meet_but_those_that_need_the_same_place() -> None:
    can, cannot = pairs.all_pairs()
    assert len(can) + len(cannot) == comb(len(CATALOGUE), 2)
    assert len(can) > 500
    assert all(one.slot == other.slot and not one.by_row for one, other in cannot)
    assert ("FT01a", "FT02") in [(one.id, other.id) for one, other in cannot]
    assert ("FT08a", "FT09") in [(one.id, other.id) for one, other in can]


@pytest.mark.parametrize("turn", range(4))
def test_both_are_there_at_once_and_end_in_time_to_heal(turn: int) -> None:
    for pair in pairs.all_pairs()[0]:
        first, second = pairs.plan(pair, SITE, 6, turn).planned
        assert {first.id, second.id} == {pair[0].id, pair[1].id}
        assert first.at_s == ONSET_S
        assert ONSET_S <= second.at_s <= ONSET_S + GAP_S
        assert second.at_s < first.at_s + first.lasts_s
        assert max(item.at_s + item.lasts_s for item in (first, second)) + campaign.HEALED_S < DURATION_S - 1.0
        by_row = [item.row for item in (first, second) if BY_ID[item.id].by_row]
        assert all(row in SITE.giving for row in by_row)
        assert all(item.row == -1 for item in (first, second) if not BY_ID[item.id].by_row)
        if len(by_row) == 2:
            apart = turn % 2 == 1 or pair[0].slot == pair[1].slot
            assert (by_row[0] != by_row[1]) == apart


def test_a_plan_is_the_same_again_and_another_on_another_site() -> None:
    pair = (BY_ID["FT01a"], BY_ID["FT08a"])
    assert pairs.plan(pair, SITE, 6, 0) == pairs.plan(pair, SITE, 6, 0)
    assert pairs.plan(pair, SITE, 6, 0) != pairs.plan(pair, Site(8, (1, 3)), 6, 0)


def test_with_one_that_gives_the_second_station_is_another() -> None:
    for turn in (1, 3):
        run = pairs.plan((BY_ID["FT08a"], BY_ID["FT09"]), Site(1, (0,)), 2, turn)
        assert {item.row for item in run.planned} == {0, 1}


def test_vehicles_give_when_the_faults_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    (site,) = pairs.giving_sites(1, 1, 6)
    assert 0 < len(site.giving) < 6
    pair = (BY_ID["FT11"], BY_ID["FT08a"])
    gave: list[tuple[int, ...]] = []
    look = invariants.Invariants.look

    def watch(self: invariants.Invariants, rig: Any) -> None:
        if abs(rig.at_s - ONSET_S) < 0.05:
            gave.append(tuple(row for row, power in enumerate(rig.power_kw) if power < -NOTHING_KW))
        look(self, rig)

    monkeypatch.setattr(invariants.Invariants, "look", watch)
    ended = list(pairs.play(pairs.runs([pair], [site], 6), 6, 1))
    assert gave == [site.giving]
    assert ended[0][1].faults == ended[0][0].planned
    found = verify_pairs.summary(ended, [site], 6)
    assert (found["pairs"], found["runs"], found["runs_with_discharge"]) == (1, 1, 1)


def test_too_few_sites_that_give_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_giving", lambda seed, _evses: (0,) if seed == 5 else ())
    assert pairs.giving_sites(1, 1, 2) == (Site(5, (0,)),)
    with pytest.raises(ValueError, match="only 1 have a vehicle that gives"):
        pairs.giving_sites(1, 2, 2)


def test_a_failing_pair_is_told_with_the_least_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    run = pairs.plan((BY_ID["FT01a"], BY_ID["FT08a"]), SITE, 4, 0)

    def bad(seed: int, duration_s: float, evses: int, planned: Any, **_until: float) -> campaign.Outcome:
        broken = (Violation(30.0, "I1", "too little import"),) if any(item.id == "FT08a" for item in planned) else ()
        return campaign.Outcome(
            seed=seed, duration_s=duration_s, evses=evses, faults=tuple(planned), violations=broken, cpu_s=1.0
        )

    monkeypatch.setattr(campaign, "run_case", bad)
    found = verify_pairs.summary(list(pairs.play([run], 4, 1)), [SITE], 4)
    assert found["violations_by_invariant"] == {"I1": 1}
    assert found["failing_pairs"] == ["FT01a+FT08a"]
    (told,) = found["failing"]
    assert told["alone"]
    assert told["command"].count("--evses 4") == 1
    assert [item.id for item in read(told["command"].split("'")[1])] == ["FT08a"]
