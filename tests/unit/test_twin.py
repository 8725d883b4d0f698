"""The plant's physics: taper, losses, step lengths, chargers' delays, heat, the building and what happens at a bay."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gridtide.model import losses, taper, thermal
from gridtide.twin import arrivals, evse, plant
from gridtide.twin.arrivals import Arrival
from gridtide.twin.battery import Batteries
from gridtide.twin.building import Building, LoadSeries, textured
from gridtide.twin.evse import MODELS, EvseModel
from gridtide.twin.plant import Plant, StationaryBattery, World
from tests.unit.builders import column, evse_table

INSTANT = EvseModel(dead_s=0.0, ramp_kw_per_s=1e9, heat_c_per_kw=0.0)
FLAT = Building(0.0, np.cumsum(np.full(200_001, 100.0)) - 100.0)


def batteries(size: int = 1, **columns: float) -> Batteries:
    """60 kWh at half charge behind 10 kW, tapering above 80 % and below 10 %."""
    values = {"capacity_kwh": 60.0, "energy_kwh": 30.0, "charge_kw": 10.0, "discharge_kw": 10.0, "knee_soc": 0.8,
              "empty_soc": 0.05, "knee_low": 0.05} | columns  # fmt: skip
    return Batteries(**{name: column(value, size) for name, value in values.items()})


def charger(model: EvseModel = INSTANT, efficiency: float = 1.0, size: int = 1) -> evse.Columns:
    """Columns of equal chargers."""
    return evse.columns([model] * size, np.full(size, efficiency))


def play(
    cells: Batteries, models: evse.Columns, setpoint_kw: float, total_s: float, dt_s: float, ambient_c: float = 25.0
) -> tuple[evse.EvseState, Batteries, dict[str, float]]:
    """Hold one setpoint; returns the end and the sums of all energies. Checks the balance and the range at each step."""
    state = evse.command(evse.fresh(1, ambient_c), np.array([setpoint_kw]), models)
    sums = dict.fromkeys(("ac_in_kwh", "ac_out_kwh", "loss_kwh", "standby_kwh"), 0.0)
    for _ in range(round(total_s / dt_s)):
        done = evse.step(state, cells, models, ambient_c, dt_s)
        stored = done.energy_kwh - cells.energy_kwh
        residual = done.ac_in_kwh - done.ac_out_kwh - stored - done.loss_kwh - done.standby_kwh
        assert np.all(np.abs(residual) < 1e-9)
        assert np.all((done.energy_kwh >= 0.0) & (done.energy_kwh <= cells.capacity_kwh + 1e-12))
        state, cells = done.state, structs.replace(cells, energy_kwh=done.energy_kwh)
        for name in sums:
            sums[name] += float(getattr(done, name)[0])
    return state, cells, sums


@pytest.mark.parametrize("dt_s", [1.0, 60.0, 900.0, 3600.0])
def test_the_taper_follows_the_closed_form(dt_s: float) -> None:
    _, cells, _ = play(batteries(energy_kwh=48.0), charger(), 10.0, 3600.0, dt_s)
    assert cells.soc[0] == pytest.approx(0.913080, abs=5e-7)


def test_hours_to_charge_is_the_inverse_of_the_taper() -> None:
    one = np.ones(1)
    hours = taper.hours_to_charge(0.8 * one, 0.913080 * one, 60.0 * one, 10.0 * one, 0.8 * one)
    assert hours[0] == pytest.approx(1.0, abs=1e-5)


def test_charging_power_falls_monotonically_with_charge() -> None:
    room = np.linspace(1.0, 0.0, 101)
    power = taper.power_kw(room, np.full(101, 0.2), np.full(101, 10.0))
    assert np.all(np.diff(power) <= 0.0)
    assert power[0] == 10.0
    assert power[-1] == 0.0


@pytest.mark.parametrize("efficiency", [1.0, 0.95, 0.9])
@pytest.mark.parametrize("dt_s", [1.0, 60.0, 900.0])
@pytest.mark.parametrize("setpoint_kw", [10.0, -10.0, 3.0])
def test_energy_balances_at_every_step(efficiency: float, dt_s: float, setpoint_kw: float) -> None:
    start = batteries(energy_kwh=47.0 if setpoint_kw > 0.0 else 7.0)  # runs into the taper
    play(
        start, charger(MODELS["measured_v2g"], efficiency), setpoint_kw, max(900.0, 6.0 * dt_s), dt_s
    )  # checks each step


@pytest.mark.parametrize("setpoint_kw", [11.0, -11.0, 4.0])
@pytest.mark.parametrize("energy_kwh", [44.0, 8.0, 30.0])
def test_the_length_of_the_step_does_not_matter(setpoint_kw: float, energy_kwh: float) -> None:
    models = charger(MODELS["measured_v2g"], 0.93)  # dead time, ramp and standby on
    coarse, fine = (play(batteries(energy_kwh=energy_kwh), models, setpoint_kw, 3600.0, dt_s) for dt_s in (900.0, 1.0))
    assert coarse[1].soc[0] == pytest.approx(fine[1].soc[0], rel=1e-3)
    for name, value in fine[2].items():
        assert coarse[2][name] == pytest.approx(value, rel=1e-3, abs=1e-9), name


def test_a_round_trip_loses_what_the_oracle_says() -> None:
    cells = batteries(
        capacity_kwh=300.0, energy_kwh=20.0, charge_kw=49.5, discharge_kw=49.5, knee_soc=0.999, knee_low=1e-6
    )
    _, full, there = play(cells, charger(efficiency=0.9), 55.0, 5 * 3600.0, 60.0)
    assert full.energy_kwh[0] - 20.0 == pytest.approx(247.5)
    _, empty, back = play(full, charger(efficiency=0.9), -44.55, 5 * 3600.0, 60.0)
    assert empty.energy_kwh[0] == pytest.approx(20.0)
    assert there["ac_in_kwh"] == pytest.approx(275.0)
    assert back["ac_out_kwh"] == pytest.approx(222.75)
    assert there["loss_kwh"] + back["loss_kwh"] == pytest.approx(52.25)


@pytest.mark.parametrize("efficiency", [1.0, 0.9])
def test_one_loss_law_serves_both_directions(efficiency: float) -> None:
    ac, eta = np.array([-7.0, 0.0, 11.0]), np.full(3, efficiency)
    assert losses.battery_kw(ac, eta) == pytest.approx(ac - losses.loss_kw(ac, eta))
    assert losses.ac_kw(losses.battery_kw(ac, eta), eta) == pytest.approx(ac)


def test_a_measured_charger_waits_four_seconds_and_then_ramps() -> None:
    state, powers = evse.command(evse.fresh(1, 25.0), np.array([9.9]), charger(MODELS["measured_v2g"])), []
    for _ in range(8):
        state = evse.step(state, batteries(), charger(MODELS["measured_v2g"]), 25.0, 1.0).state
        powers.append(float(state.power_kw[0]))
    assert powers == pytest.approx([0.0, 0.0, 0.0, 0.0, 3.3, 6.6, 9.9, 9.9])
    assert (state.closings[0], state.starts[0]) == (1.0, 0.0)


def test_a_newer_setpoint_does_not_wait_anew() -> None:
    models, state = charger(MODELS["measured_v2g"]), evse.fresh(1, 25.0)
    for second in range(5):  # a new wish each second
        state = evse.command(state, np.array([5.0 + second]), models)
        state = evse.step(state, batteries(), models, 25.0, 1.0).state
    assert state.power_kw[0] == pytest.approx(3.3)  # began after 4 s all the same


def test_a_reversal_counts_a_start_of_giving() -> None:
    models, state = charger(MODELS["fast"]), evse.fresh(1, 25.0)
    for setpoint in (5.0, -5.0, -3.0, 5.0, -5.0):
        state = evse.command(state, np.array([setpoint]), models)
        state = evse.step(state, batteries(), models, 25.0, 1.0).state
    assert (state.closings[0], state.starts[0]) == (1.0, 2.0)


@pytest.mark.parametrize(("heat_c", "share"), [(20.0, 1.0), (75.0, 1.0), (80.0, 0.5), (85.0, 0.0), (120.0, 0.0)])
def test_derating_runs_from_75_to_85_degrees(heat_c: float, share: float) -> None:
    assert thermal.derate(np.array([heat_c]))[0] == pytest.approx(share)


def test_derating_engages_and_releases_with_hysteresis() -> None:
    hot = EvseModel(dead_s=0.0, ramp_kw_per_s=1e9, heat_c_per_kw=100.0, heat_tau_s=300.0)  # 1 kW of loss: 125 degrees
    models, cells = charger(hot, 0.9), batteries(capacity_kwh=1e6, energy_kwh=3e5)
    state, seen = evse.command(evse.fresh(1, 25.0), np.array([10.0]), models), []
    for _ in range(600):
        done = evse.step(state, cells, models, 25.0, 5.0)
        seen.append((float(state.heat_c[0]), float(done.ac_in_kwh[0]) * 720.0))
        state = done.state
    rising = [power for heat, power in seen[:20] if heat <= 75.0]
    assert rising
    assert rising == pytest.approx([10.0] * len(rising))
    assert max(heat for heat, _ in seen) < 85.0
    assert seen[-1][1] < 9.0  # settles below its rating
    state = evse.command(state, np.array([2.0]), models)  # cools: 0.2 kW of loss
    engaged = [(float(state.heat_c[0]), bool(state.cooling[0]))]
    while state.cooling[0]:
        state = evse.step(state, cells, models, 25.0, 5.0).state
        engaged.append((float(state.heat_c[0]), bool(state.cooling[0])))
    assert engaged[-1][0] <= 70.0  # released only below where it began
    between = structs.replace(state, heat_c=np.array([73.0]), pending_kw=np.array([10.0]), power_kw=np.array([10.0]),
                              target_kw=np.array([10.0]))  # fmt: skip
    free = evse.step(between, cells, models, 25.0, 1.0).ac_in_kwh[0]
    held = evse.step(structs.replace(between, cooling=np.array([True])), cells, models, 25.0, 1.0).ac_in_kwh[0]
    assert held < free  # at the same temperature, derated on the way down and not on the way up


def series(powers: list[float]) -> LoadSeries:
    """Quarter-hour means from 0."""
    return LoadSeries(0.0, 900.0, np.array(powers))


@pytest.mark.parametrize("step_s", [0.5, 1.0, 7.0, 60.0, 450.0, 900.0])
def test_the_buildings_means_are_kept_under_any_step(step_s: float) -> None:
    powers = [300.0, 520.0, 10.0, 0.0, 450.0]
    building = textured(series(powers), seed=4)
    for k, mean in enumerate(powers):
        borders = np.append(np.arange(900.0 * k, 900.0 * (k + 1), step_s), 900.0 * (k + 1))
        energy = sum(building.mean_kw(a, b) * (b - a) for a, b in itertools.pairwise(borders))
        assert energy / 900.0 == pytest.approx(mean, abs=1e-6)


def test_the_texture_is_seeded_moves_and_never_turns_a_load_negative() -> None:
    one, same, other = (textured(series([300.0, 5.0]), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.cumulated_kws, same.cumulated_kws)
    assert not np.array_equal(one.cumulated_kws, other.cumulated_kws)
    seconds = np.diff(one.cumulated_kws)
    assert seconds.min() >= -1e-9
    assert seconds[:900].std() > 3.0


def test_outside_the_data_the_nearest_value_holds() -> None:
    building = Building(100.0, np.array([0.0, 10.0, 30.0]))
    assert building.mean_kw(0.0, 1.0) == pytest.approx(10.0)
    assert building.mean_kw(500.0, 900.0) == pytest.approx(20.0)
    assert building.mean_kw(100.25, 101.5) == pytest.approx((7.5 + 10.0) / 1.25)


def stay(row: int, arrived_s: float, departs_s: float, soc: float = 0.5) -> Arrival:
    """One vehicle of 60 kWh that needs 80 %."""
    return Arrival(f"s{row}-{arrived_s:g}", row, arrived_s, departs_s, departs_s, 60.0, soc, 0.8, 18.0, True)


def two_bays(*stays: Arrival, model: EvseModel = INSTANT, pv: Building | None = None) -> World:
    """A flat building of 100 kW and two bays."""
    return plant.world(evse_table(2, efficiency=1.0), [model] * 2, FLAT, list(stays), pv)


def commanded(here: World, there: Plant, *setpoint_kw: float) -> Plant:
    """Both bays are told."""
    return plant.command(here, there, np.array(setpoint_kw))


def test_plugging_and_unplugging_split_a_step() -> None:
    here = two_bays(stay(0, 0.0, 300.0), stay(1, 450.0, 5000.0))
    there = commanded(here, plant.start(here, 0.0), 12.0, 0.0)
    there, sample = plant.advance(here, there, 900.0)
    assert sample.power_kw == pytest.approx([12.0 * 300.0 / 900.0, 0.0])
    assert sample.grid_kw == pytest.approx(104.0)
    assert [left.arrival for left in sample.left] == [0]
    assert sample.left[0].ac_kwh == pytest.approx(1.0)
    assert sample.left[0].soc == pytest.approx(0.5 + 1.0 / 60.0)
    assert sample.arrived == (1,)
    assert there.occupant.tolist() == [-1, 1]
    assert there.at_s == 900.0


def test_unplugging_ends_the_power_at_once() -> None:
    here = two_bays(stay(0, 0.0, 100.0), model=MODELS["measured_v2g"])
    there, _ = plant.advance(here, commanded(here, plant.start(here, 0.0), -9.9, 0.0), 60.0)
    assert there.evse.power_kw[0] == pytest.approx(-9.9)
    there, _ = plant.advance(here, there, 100.0)
    assert there.evse.power_kw[0] == 0.0
    assert plant.power_now_kw(here, there)[0] == 0.0
    there, sample = plant.advance(here, there, 110.0)
    assert sample.power_kw[0] == 0.0
    seen = plant.fleet_sample(here, there, sample.power_kw)
    assert not seen.connected[0]
    assert not seen.may_discharge[0]
    assert np.isnan(seen.soc[0])
    assert np.isnan(seen.need_soc[0])


def test_who_leaves_goes_before_who_comes_at_the_same_instant() -> None:
    here = two_bays(stay(0, 0.0, 500.0, 0.3), stay(0, 500.0, 900.0, 0.6))
    there, sample = plant.advance(here, plant.start(here, 0.0), 500.0)
    assert [left.arrival for left in sample.left] == [0]
    assert sample.arrived == (1,)
    assert there.batteries.soc[0] == pytest.approx(0.6)


def test_a_stay_that_began_earlier_is_plugged_in_at_the_start() -> None:
    here = two_bays(stay(0, 0.0, 500.0), stay(1, 0.0, 50.0))
    assert plant.start(here, 100.0).occupant.tolist() == [0, -1]


def test_pv_lowers_the_import_and_a_stationary_battery_is_always_there() -> None:
    sun = Building(0.0, np.cumsum(np.full(1001, 30.0)) - 30.0)
    here = two_bays(pv=sun)
    there = commanded(here, plant.start(here, 0.0, (StationaryBattery(1, 100.0, 0.4),)), 0.0, -20.0)
    there, sample = plant.advance(here, there, 360.0)
    assert [sample.grid_kw, sample.building_kw] == pytest.approx([50.0, 70.0])
    assert there.batteries.soc[1] == pytest.approx(0.38)
    assert plant.fleet_sample(here, there, sample.power_kw).left_s[1] == np.inf


SETPOINTS = st.lists(st.tuples(st.floats(-25.0, 25.0), st.floats(-25.0, 25.0)), min_size=1, max_size=12)


@given(
    SETPOINTS, st.sampled_from([1.0, 60.0, 900.0]), st.sampled_from([1.0, 0.95, 0.9]), st.sampled_from(sorted(MODELS))
)
@settings(max_examples=120, deadline=None)
def test_whatever_is_commanded_the_ledger_balances(
    setpoints: list[tuple[float, float]], dt_s: float, efficiency: float, model: str
) -> None:
    table = evse_table(2, efficiency=efficiency)
    here = plant.world(table, [MODELS[model]] * 2, FLAT, [stay(0, 30.0, 4000.0, 0.97), stay(1, 0.0, 2500.5, 0.07)])
    there = plant.start(here, 0.0)
    for k, pair in enumerate(setpoints):
        there, _ = plant.advance(here, commanded(here, there, *pair), (k + 1) * dt_s)
        soc = there.batteries.soc[there.occupant >= 0]
        assert np.all((soc >= 0.0) & (soc <= 1.0))
    ledger = there.ledger
    assert ledger.worst_residual_kwh < 1e-9
    assert ledger.import_kwh == pytest.approx(ledger.building_kwh + ledger.ac_in_kwh - ledger.ac_out_kwh, abs=1e-9)
    whole = ledger.ac_in_kwh - ledger.ac_out_kwh - ledger.stored_kwh - ledger.loss_kwh - ledger.standby_kwh
    assert whole == pytest.approx(0.0, abs=1e-9)


def test_sessions_are_placed_seeded_and_their_energy_fits() -> None:
    records = [
        arrivals.SessionRecord(f"r{k}", 600.0 * k, 600.0 * k + 7200.0, 6.0 + 3.0 * k, told_departs_s=1.0 if k else None)
        for k in range(6)
    ]
    placed, away = arrivals.assign(records, [11.0] * 4, [0.95] * 4, [True, False] * 2, seed=3)
    assert (len(placed), [item.session_id for item in away]) == (4, ["r4", "r5"])
    assert (placed, away) == arrivals.assign(records[::-1], [11.0] * 4, [0.95] * 4, [True, False] * 2, seed=3)
    for item in placed:
        assert 0.0 < item.soc <= item.target_soc <= arrivals.KNEE_SOC
        assert (item.target_soc - item.soc) * item.capacity_kwh == pytest.approx(item.need_kwh * 0.95)
        assert item.need_kwh <= 11.0 * (item.departs_s - item.arrived_s) / 3600.0
    assert [item.told_departs_s for item in placed] == [7200.0, 1.0, 1.0, 1.0]
