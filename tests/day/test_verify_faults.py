"""Every fault of the catalogue once, by name, in a site whose vehicles give: how soon it is safe, that no invariant breaks, and
that service is back afterwards. Then what the rows of the safety case demand beyond the invariants, where it can be seen."""

import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from gridtide.control.grid_profiles import profile_of
from gridtide.model.thermal import derate
from gridtide.run.store.memory import MemoryStore
from gridtide.run.store.transactions_sql import AddTransactionEvent
from gridtide.run.verify import case as cases
from gridtide.run.verify import faults
from gridtide.run.verify.campaign import HEALED_S, WARM_S
from gridtide.run.verify.faults import BY_ID, CATALOGUE, Fault, Planned, rests
from gridtide.run.verify.invariants import NOTHING_KW, REACTION_S
from gridtide.run.verify.rig import TICK_S, Rig
from gridtide.wire.ocpp import meter
from tests.day.verify_kit import BUILDING_KW, GIVING_S, Shown, Tick, giving_case, show, stay

STRICT = profile_of("strict", 50.0)
ONSET_S = 12.0
LASTS_S = 12.0
RATED_KW = 11.0
NOT_BACK = {
    "FT08c": "a station that refused a discharge is not asked again until its next transaction",
    "FT25": "its vehicle has left",
    "FT27": "the heat sink has not cooled yet",
}
"""Faults whose own row gives no more within a minute, and why."""


def planned(fault: Fault, row: int = 0, luck: int = 7) -> Planned:
    """The fault at a known instant."""
    low, high = fault.lasts_s
    return Planned(fault.id, ONSET_S, min(max(LASTS_S, low), high), row if fault.by_row else -1, luck)


def site_for(fault: Fault) -> cases.Case:
    """A site where vehicles give, or charge where charging is what must stop; with a strictly watched grid where it takes that."""
    case = giving_case()
    if fault.safe == "nothing charged" or fault.id == "FT30c":
        case = giving_case(limit_kw=400.0, stays=[stay(row, soc=0.3, target=0.9, leaves_s=3600.0) for row in range(3)])
    return cases.watched(case, STRICT, rating_share=0.65) if fault.watched else case


def shown(item: Planned) -> Shown:
    """The fault in a site that gives, until everything must be well again."""
    end_s = max(WARM_S, item.at_s + item.lasts_s + HEALED_S) + 3.0
    return show(site_for(BY_ID[item.id]), [item], end_s)


@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: f"{fault.id}-{fault.name.replace(' ', '-')}")
def test_fault(fault: Fault) -> None:
    item = planned(fault, row=CATALOGUE.index(fault) % 2)
    run = shown(item)
    assert run.invariants.violations == []
    before = run.at(item.at_s - 1.0)
    assert (np.abs(before.power_kw) > RATED_KW - 0.1).all()
    if fault.safe != "as always":
        assert run.to_safe_s(item) <= fault.t_f_s + TICK_S + 1e-6
        assert {timing.id for timing in run.timings} <= {fault.id}
        assert all(timing.to_safe_s <= fault.t_f_s + TICK_S for timing in run.timings)
    _is_back(run, item)
    _books_are_right(run)


def _is_back(run: Shown, item: Planned) -> None:
    """Everybody who can gives again at the end."""
    last = run.ticks[-1]
    if rests(BY_ID[item.id], STRICT):
        assert not last.power_kw.any()
        return
    assert last.state == "ok"
    may = np.ones(last.power_kw.size, dtype=np.bool_)
    if item.id in NOT_BACK:
        may[item.row] = False
    assert (np.abs(last.power_kw[may]) > RATED_KW - 0.1).all()


def _books_are_right(run: Shown) -> None:
    """I9, I10: no event is kept twice, and whatever a station was told is kept is kept."""
    stored = run.stored()
    assert len(set(stored)) == len(stored) > 0
    assert {event for _, event in run.acknowledged} <= set(stored)
    assert len(run.acknowledged) > 0


def test_every_fault_has_a_safe_state_that_this_site_can_leave() -> None:
    """The scenarios above show something: what the catalogue calls safe does not hold before the fault."""
    for fault in CATALOGUE:
        if fault.safe != "as always":
            run = _calm(fault.safe == "nothing charged")
            item = Planned(fault.id, ONSET_S - 2.0, 1.0, 0 if fault.by_row else -1)
            assert run.to_safe_s(item) == pytest.approx(1.0), fault.id


@cache
def _calm(charges: bool) -> Shown:
    return show(site_for(BY_ID["FT30d" if charges else "FT01a"]), (), ONSET_S)


# --- what the rows demand beyond the invariants -----------------------------------------------------------------------
def test_ft03_a_frozen_meter_is_found_out_when_the_fleet_moves() -> None:
    """A reading unchanged for 10 s although a third of the fleet stopped: nobody gives any more."""
    frozen, pulled = Planned("FT03", ONSET_S, 25.0), Planned("FT25", ONSET_S + 1.0, 1.0, 0)
    run = show(giving_case(), [frozen, pulled], ONSET_S + 25.0)
    assert run.broken == set()
    assert (run.at(ONSET_S + 8.0).power_kw[1:] < -10.0).all()
    assert all((tick.power_kw > -0.05).all() for tick in run.between(ONSET_S + 11.7, ONSET_S + 24.0))
    assert "meter_frozen" in run.told()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_ft04_one_wrong_sample_gives_no_more_and_less_at_once(sign: float) -> None:
    """Half of the fleet is enough: 200 kW too much on one sample draws nothing more, 200 kW too little takes back at once."""
    luck = next(luck for luck in range(100) if random.Random(luck).choice((-1.0, 1.0)) == sign)
    item = Planned("FT04", ONSET_S, 0.5, -1, luck)
    run = show(giving_case(limit_kw=BUILDING_KW - 7.0), [item], ONSET_S + 16.0)
    assert run.broken == set()
    before = [_given_kw(tick) for tick in run.between(ONSET_S - 2.0, ONSET_S)]
    assert 5.0 < min(before) < max(before) < 28.0
    if sign > 0.0:
        after = [_given_kw(tick) for tick in run.between(ONSET_S, ONSET_S + 3.0)]
        assert min(before) - 2.0 < min(after) < max(after) < max(before) + 2.0
    else:
        assert min(_given_kw(tick) for tick in run.between(ONSET_S, ONSET_S + REACTION_S)) < NOTHING_KW
    assert _given_kw(run.ticks[-1]) > 5.0


def _given_kw(tick: Tick) -> float:
    return -float(np.minimum(tick.power_kw, 0.0).sum())


def chatty(rig: Rig) -> None:
    """Every station tells a transaction event each second, as one whose readings are events does."""
    if abs(rig.at_s - round(rig.at_s)) < 0.01:
        for station in rig.stations.values():
            station.blocks.transactions.tell("Updated", "MeterValuePeriodic")


def _numbers(run: Shown, station: str = "bay-1") -> list[int]:
    """Sequence numbers that are kept of the station's one transaction."""
    mine = [(transaction, number) for name, transaction, number in run.stored() if name == station]
    assert len({transaction for transaction, _ in mine}) == 1
    return sorted(number for _, number in mine)


@pytest.mark.parametrize("fault_id", ["FT11", "FT11b"])
def test_ft11_doubled_messages_have_one_effect(fault_id: str) -> None:
    """Every message twice: what flows is what flows without, and no event of the one transaction is kept twice."""
    item = Planned(fault_id, 2.0, 30.0, 0, 3)
    run, alone = show(giving_case(), [item], 32.0, act=chatty), show(giving_case(), (), 32.0, act=chatty)
    assert run.broken == set()
    for tick, other in zip(run.between(ONSET_S, 32.0), alone.between(ONSET_S, 32.0), strict=True):
        assert np.allclose(tick.power_kw, other.power_kw, atol=0.01)
    kept, others = _numbers(run), _numbers(run, "bay-2")
    assert others == list(range(len(others)))
    assert len(set(kept)) == len(kept) > 10
    if fault_id == "FT11":
        assert kept == others


@pytest.mark.parametrize("fault_id", ["FT12", "FT10", "FT08a"])
def test_what_is_lost_with_a_link_is_told_again(fault_id: str) -> None:
    """Half of the messages lost, or the link again and again: in the end no event is missing, and none is there twice."""
    item = Planned(fault_id, ONSET_S, 35.0, 0, 5)

    def until_it_heals(rig: Rig) -> None:
        if rig.at_s < ONSET_S + 35.0:
            chatty(rig)

    run = show(giving_case(), [item], ONSET_S + 35.0 + 50.0, act=until_it_heals)
    assert run.broken == set()
    assert _numbers(run) == list(range(len(_numbers(run))))
    assert len(_numbers(run)) > 35
    assert "transaction_incomplete" not in run.told()
    late = [at_s for at_s, (name, _, _) in run.acknowledged if name == "bay-1" and at_s > ONSET_S + 35.0]
    assert late, "something had to be told again"


def test_ft12_a_gap_is_told() -> None:
    """A station that skipped a number: asked about, and told within the time the safety case allows."""

    def skip(rig: Rig) -> None:
        now = rig.stations[0].blocks.transactions.now
        if now is not None and abs(rig.at_s - ONSET_S) < 0.01:
            now.seq_no += 1
            rig.stations[0].blocks.transactions.tell("Updated", "MeterValuePeriodic")

    run = show(giving_case(), (), ONSET_S + 64.0, act=skip)
    assert run.broken == set()
    assert "transaction_incomplete" in run.told()
    missing = set(range(max(_numbers(run)))) - set(_numbers(run))
    assert len(missing) == 1


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0, 86_400.0, -1.7e9, 2.5e11])
def test_ft13_a_step_of_the_wall_clock_changes_no_setpoint(step_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller's wall clock jumps to another hour, day, or beyond what can be stored: the fleet does not notice."""
    item = Planned("FT13b", ONSET_S, 10.0)

    def choose(rig: Rig, _row: int, _luck: faults.Luck) -> None:
        rig.clock.step_s = step_s

    fault = BY_ID["FT13b"]
    monkeypatch.setitem(faults.BY_ID, "FT13b", structs.replace(fault, begin=choose))
    case = giving_case(limit_kw=BUILDING_KW - 7.0)
    run, calm = show(case, [item], ONSET_S + 15.0), show(case, (), ONSET_S + 15.0)
    assert run.broken == set()
    for tick, other in zip(run.ticks, calm.ticks, strict=True):
        assert tick.state == other.state
        if tick.setpoint_kw is not None and other.setpoint_kw is not None:
            assert np.allclose(tick.setpoint_kw, other.setpoint_kw, atol=1e-9), tick.at_s


def test_ft15_nothing_is_acknowledged_that_the_store_refused_and_all_of_it_is_kept_after() -> None:
    """While the store refuses: control goes on, transaction events go unanswered; afterwards every one of them is there."""
    item = Planned("FT15", ONSET_S, 20.0)

    def leave(rig: Rig) -> None:
        if rig.at_s < ONSET_S + 20.0:
            chatty(rig)
        if abs(rig.at_s - (ONSET_S + 5.0)) < 0.01:
            rig.pull(2)

    run = show(giving_case(), [item], ONSET_S + 20.0 + 63.0, act=leave)
    assert run.broken == set()
    assert (run.at(ONSET_S + 15.0).power_kw[:2] < -10.0).all()
    in_flight_s = 0.2
    assert not [event for at_s, event in run.acknowledged if ONSET_S + in_flight_s < at_s < ONSET_S + 20.0]
    assert {event for _, event in run.acknowledged} <= set(run.stored())
    assert run.rig is not None
    for station in run.rig.stations.values():
        told = _numbers(run, station.identity)
        assert told == list(range(len(told)))
        assert not station.core.outbox.owes()
    assert {item.station_id for item in run.rig.store.open_transactions()} == {"bay-1", "bay-2"}


def test_ft15_an_event_that_waited_is_no_clock_that_is_off() -> None:
    """What could not be stored for half a minute comes late: the stations' clocks are as right as before, and vehicles go on."""
    run = show(giving_case(), [Planned("FT15", 58.0, 30.0)], 125.0)
    assert run.broken == set()
    assert "security" not in run.told()
    assert all((tick.power_kw < -RATED_KW + 0.1).all() for tick in run.between(ONSET_S, 125.0))


def test_a_vehicle_that_cannot_give_is_replaced() -> None:
    """Nobody can know it over 2.0.1: after a while without effect another vehicle, which can, gives instead."""
    case = giving_case(3, limit_kw=195.0, stays=[stay(0), stay(1, may=False), stay(2)])
    run = show(case, (), 160.0)
    assert run.broken == set()
    asked = [tick for tick in run.between(100.0, 160.0) if tick.building_kw - 185.0 > 12.0]
    # More than one vehicle can, but for the moments in which the plan goes from two vehicles to one and back.
    assert np.mean([_given_kw(tick) > 11.1 for tick in asked]) > 0.95
    assert "vehicle_not_following" in run.told()


def test_the_check_of_the_books_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that says it has committed what it has not: found by what stations were told."""
    commit = MemoryStore._commit

    def lie(self: MemoryStore, write: object) -> object:
        return True if isinstance(write, AddTransactionEvent) and write.event.seq_no == 9 else commit(self, write)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryStore, "_commit", lie)
    run = show(giving_case(), (), GIVING_S, act=chatty)
    with pytest.raises(AssertionError):
        _books_are_right(run)


@pytest.mark.parametrize("luck", [3, 4])
def test_ft27_power_follows_the_derate(luck: int) -> None:
    """The power stage is at its derated rating within a tick."""
    item = Planned("FT27", ONSET_S, 5.0, 0, luck)
    run = show(giving_case(), [item], ONSET_S + 8.0)
    assert run.broken == set()
    share = _share_left(run)
    assert all(
        -tick.power_kw[0] <= RATED_KW * share + 0.15 for tick in run.between(ONSET_S + 2 * TICK_S, ONSET_S + 8.0)
    )
    assert (run.ticks[-1].power_kw[1:] < -RATED_KW + 0.1).all()


def test_ft27_the_setpoint_follows_a_heat_sink_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A station that tells its heat with its meter values is asked for no more than it can give, and people are told."""
    told = meter._samples

    def with_heat(reading: meter.MeterReading) -> list[Any]:
        return [*told(reading), ("Power.Offered", reading.temperature_c or 25.0, "Celsius")]

    monkeypatch.setattr(meter, "_samples", with_heat)
    run = show(giving_case(), [Planned("FT27", ONSET_S, 5.0, 0, 3)], ONSET_S + 8.0)
    assert run.broken == set()
    share = _share_left(run)
    assert 0.0 < share < 0.9
    for tick in run.between(ONSET_S + 2.5, ONSET_S + 8.0):
        assert tick.setpoint_kw is not None
        assert -RATED_KW * share - 0.05 <= tick.setpoint_kw[0] < 0.0
    assert "over_temperature" in run.told()


def _share_left(run: Shown) -> float:
    assert run.rig is not None
    return float(derate(run.rig.emulated.plant.evse.heat_c)[0])
