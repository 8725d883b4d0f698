"""A vehicle's stay over a restart of the program: the count of its charge goes on, and a doubt that was latched stays."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gridtide.control import shadow, site, trust
from gridtide.control.shadow import Carried
from gridtide.run import memory
from gridtide.run.stay_memory import KeptStay, StayMemory
from gridtide.run.store import MemoryStore
from tests.unit.builders import evse_table, site_settings
from tests.unit.test_trust import Watched

WALL_S = 1_772_445_600.0
KWH = 60.0


class Program:
    """A program that watches bays and can be started again: what it keeps goes through the store's form."""

    def __init__(self, size: int = 1, **columns: Any) -> None:
        self.bays = Watched(size, **columns)
        self.open: dict[int, str] = {row: f"stay-{row}" for row in range(size)}
        self.memory = StayMemory(self.bays.table.ids, lambda: self.open)
        self.down_s = 0.0

    @property
    def wall_s(self) -> float:
        return WALL_S + self.bays.now_s + self.down_s

    def run(self, seconds: float = 0.5, **told: Any) -> "Program":
        self.bays.tell(**told)
        for _ in range(round(seconds / 0.5)):
            resumed = self.memory.resume(self.bays.state, self.bays.fleet, self.bays.now_s, self.wall_s)
            self.bays.state = resumed
            self.bays.run(0.5)
        return self

    def restart(self, down_s: float = 5.0) -> "Program":
        kept = msgspec.json.encode(self.memory.kept(self.bays.state, self.wall_s))
        self.down_s += down_s
        self.bays.state = trust.fresh(self.bays.fleet.size)
        self.memory = StayMemory(self.bays.table.ids, lambda: self.open)
        self.memory.begin(msgspec.json.decode(kept, type=tuple[KeptStay, ...]))
        self.bays.notes.clear()
        # Nothing is known of a bay until its station tells.
        return self.run(connected=False, soc=np.nan, power_kw=np.nan)

    def back(self, **told: Any) -> "Program":
        return self.run(connected=True, power_kw=told.pop("power_kw", 0.0), **told)

    @property
    def own(self) -> float:
        return float(self.bays.state.soc.own[0])


def test_a_charge_that_jumps_while_the_program_is_down_is_not_believed() -> None:
    site = Program().run(20.0).restart(5.0).back(soc=0.95)
    assert not site.bays.may_give
    assert site.bays.believed.soc[0] == pytest.approx(0.70, abs=0.01)
    site.run(5.0)
    assert site.bays.codes == ["soc_implausible"]
    assert not site.run(60.0, soc=0.70).bays.may_give, "latched until it leaves"
    site.run(connected=False)
    site.open[0] = "the next"
    assert site.back(soc=0.95).bays.may_give


@pytest.mark.parametrize("down_s", [5.0, 600.0, 3600.0])
def test_the_count_goes_on_over_a_restart(down_s: float) -> None:
    site = Program().run(20.0).restart(down_s).back(soc=0.70).run(60.0)
    assert site.bays.may_give
    assert site.own == pytest.approx(0.70, abs=1e-3)
    assert site.bays.codes == []


def test_what_could_have_flowed_meanwhile_is_believed_and_no_more() -> None:
    most = 22.0 * 1.2 / KWH * 0.5
    site = Program(soc=0.3).run(20.0).restart(1800.0).back(soc=0.3 + 0.95 * most)
    assert site.bays.may_give
    assert site.own == pytest.approx(0.3 + 0.95 * most, abs=1e-3)
    assert not Program(soc=0.3).run(20.0).restart(1800.0).back(soc=0.3 + most + 0.07).bays.may_give


def test_the_time_without_a_word_before_the_restart_counts_too() -> None:
    moved = 22.0 * 0.95 / KWH * 1500.0 / 3600.0
    silent = Program(soc=0.3).run(20.0).run(1200.0, power_kw=np.nan, age_s=60.0).restart(300.0)
    assert silent.back(soc=0.3 + moved, age_s=0.0).bays.may_give
    heard = Program(soc=0.3).run(1220.0).restart(300.0)
    assert not heard.back(soc=0.3 + moved).bays.may_give


def test_another_transaction_is_another_vehicle() -> None:
    site = Program().run(20.0).restart(5.0)
    site.open[0] = "the next"
    assert site.back(soc=0.20).bays.may_give
    assert site.own == pytest.approx(0.20)


def test_a_stay_that_ended_while_nobody_ran_is_forgotten() -> None:
    site = Program().run(20.0).restart(5.0)
    del site.open[0]
    site.run()
    site.open[0] = "stay-0"
    assert site.back(soc=0.20).bays.may_give, "it ended in between, whatever the next one is called"


def test_a_latched_charge_stays_latched_over_two_restarts_until_the_vehicle_leaves() -> None:
    site = Program().run(20.0).run(5.0, soc=0.95)
    assert site.bays.codes == ["soc_implausible"]
    # The second one comes before its station has told anything.
    site.restart().restart().back(soc=0.70).run(60.0)
    assert not site.bays.may_give
    assert trust.words(site.bays.state, 0).startswith("Does not give until it leaves")
    site.run(connected=False)
    site.open[0] = "the next"
    assert site.back(soc=0.5).bays.may_give


def test_a_latched_register_stays_latched() -> None:
    site = Program(register_kwh=5.0).run(20.0).run(30.0, register_kwh=9.0)
    assert site.bays.codes == ["energy_mismatch"]
    site.restart().back(soc=0.70, register_kwh=9.0).run(60.0)
    assert not site.bays.may_give
    assert site.bays.codes == [], "it was told before"


def test_a_latch_of_a_vehicle_that_never_told_its_charge_is_kept() -> None:
    site = Program(soc=np.nan, register_kwh=5.0).run(20.0).run(30.0, register_kwh=9.0)
    assert site.bays.state.energy.fault[0]
    site.restart().back(register_kwh=9.0)
    assert site.bays.state.energy.fault[0]


def test_the_count_waits_for_the_first_charge_told() -> None:
    site = Program().run(20.0).restart(5.0).back().run(30.0)
    assert math.isnan(site.bays.believed.soc[0])
    assert not site.run(soc=0.95).bays.may_give
    assert site.bays.believed.soc[0] == pytest.approx(0.70, abs=0.01)


def test_bays_that_are_no_more_are_left_out() -> None:
    before = Program(2).run(20.0)
    kept = before.memory.kept(before.bays.state, before.wall_s)
    assert [stay.bay for stay in kept] == ["bay-1", "bay-2"]
    after = Program(1)
    after.memory.begin(kept)
    assert after.back(soc=0.95).bays.may_give is False
    assert after.memory.kept(after.bays.state, after.wall_s)[0].bay == "bay-1"


def test_each_row_gets_its_own() -> None:
    site = Program(3, soc=[0.2, 0.5, 0.8]).run(20.0).restart(5.0).back(soc=[0.2, 0.9, 0.8])
    assert site.bays.believed.may_discharge.tolist() == [True, False, True]
    assert site.bays.believed.soc.tolist() == pytest.approx([0.2, 0.5, 0.8], abs=0.01)


def test_the_store_keeps_it_with_what_is_not_known() -> None:
    store, settings = MemoryStore(), site_settings(evse_table(1))
    here = Program(capacity_kwh=np.nan).run(20.0)
    kept = here.memory.kept(here.bays.state, WALL_S)
    assert kept[0].capacity_kwh is None
    state = structs.replace(site.fresh(settings), trust=here.bays.state)
    memory.save(store, Carried(), shadow.fresh(1), settings, state, WALL_S, kept)
    found = memory.restore(store, settings, site.fresh(settings), Carried(), shadow.fresh(1), False, 0.0)
    assert found.stays == kept


@given(
    soc=st.floats(0.0, 1.0), jump=st.floats(-1.0, 1.0), down_s=st.floats(0.0, 1e5), capacity_kwh=st.floats(10.0, 200.0)
)
def test_a_restart_never_makes_more_believable_than_full_power_could_have_moved(
    soc: float, jump: float, down_s: float, capacity_kwh: float
) -> None:
    told = min(max(soc + jump, 0.0), 1.0)
    here = Program(soc=soc, capacity_kwh=capacity_kwh).run(2.0).restart(down_s).back(soc=told)
    # Twenty two kW into the vehicle, and out of it with its losses; the cycle and the rounding of what is kept on top.
    most = 1.2 * 22.0 / 0.95 * (down_s + 3.0) / 3600.0 / capacity_kwh + 0.05 + 1e-4
    if soc > 0.0 and abs(told - soc) > most:
        assert not here.bays.may_give
        assert here.bays.believed.soc[0] <= min(soc, told) + most
