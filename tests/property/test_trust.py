"""Doubt can only take away (I15), is total on any float (I18), and leaves an honest site alone (L2)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gridtide.control import trust
from gridtide.control.trust import TrustSettings, TrustState
from gridtide.model.fleet import Bools, FleetSample
from tests.property.guard_cases import NOW_S, Case, case
from tests.unit.builders import column, evse_table, fleet_sample

NUMBERS = (
    "age_s", "power_kw", "soc", "capacity_kwh", "need_soc", "need_kwh", "minimum_soc", "left_s", "charge_limit_kw",
    "discharge_limit_kw", "temperature_c", "register_kwh",
)  # fmt: skip
ODD = st.sampled_from(
    [np.nan, np.inf, -np.inf, -1.0, 0.0, 0.3, 0.7, 1.0, 2.0, 11.0, -11.0, 60.0, 1e9, -1e9, 1e308, -1e308, 5e-324]
)


@st.composite
def tellings(draw: st.DrawFn) -> list[FleetSample]:
    """Up to eight cycles of two rows that tell anything at all."""
    found = []
    for _ in range(draw(st.integers(1, 8))):
        numbers = {name: draw(st.lists(ODD | st.floats(), min_size=2, max_size=2)) for name in NUMBERS}
        flags = {
            name: draw(st.lists(st.booleans(), min_size=2, max_size=2))
            for name in ("connected", "fault", "may_discharge")
        }
        found.append(fleet_sample(2, **numbers, **flags))
    return found


def took_away(told: FleetSample, believed: FleetSample) -> None:
    """Every column is as told, or more careful."""
    assert not (told.fault & ~believed.fault).any()
    assert not (believed.may_discharge & ~told.may_discharge).any()
    same = (believed.power_kw == told.power_kw) | (np.isnan(believed.power_kw) & np.isnan(told.power_kw))
    assert same[~believed.fault].all(), "power is changed at rows out of use alone"
    assert ((believed.power_kw == 0.0) & np.isfinite(told.power_kw))[~same].all(), "what is not known stays so"
    for name in ("charge_limit_kw", "discharge_limit_kw"):
        now, was = getattr(believed, name), getattr(told, name)
        assert ((now <= was) | (np.isnan(now) & np.isnan(was))).all(), name
    assert (~(believed.temperature_c < told.temperature_c)).all()
    same = (believed.soc == told.soc) | (np.isnan(believed.soc) & np.isnan(told.soc))
    assert ((believed.soc >= 0.0) & (believed.soc <= 1.0) | np.isnan(believed.soc))[~same].all()
    possible = (told.soc >= 0.0) & (told.soc <= 1.0)
    assert (~(believed.soc > told.soc))[possible].all()
    assert not believed.may_discharge[~same & ~np.isnan(believed.soc)].any(), (
        "without a charge the guard lets nothing out"
    )
    far = told.left_s > trust.LONGEST_STAY_S
    assert (believed.left_s == np.inf)[far].all(), "a departure that far away is not known"
    np.testing.assert_array_equal(believed.left_s[~far], told.left_s[~far])
    for name in ("connected", "age_s", "capacity_kwh", "need_soc", "need_kwh", "minimum_soc", "register_kwh"):
        assert getattr(believed, name) is getattr(told, name), name


@settings(max_examples=100, deadline=None)
@given(
    tellings(),
    st.lists(st.floats(0.0, 1e6) | st.sampled_from([0.0, 0.5, np.nan]), min_size=8, max_size=8),
    st.lists(ODD | st.floats(), min_size=2, max_size=2),
)
def test_any_evidence_comes_out_as_told_or_more_careful(
    told: list[FleetSample], steps_s: list[float], asked_kw: list[float]
) -> None:
    table, state, now_s = evse_table(2), trust.fresh(2), 0.0
    for k, sample in enumerate(told):
        now_s += steps_s[k] if np.isfinite(steps_s[k]) else 0.5
        state, believed, notes = trust.step(state, sample, now_s, table, TrustSettings(), np.array(asked_kw))
        took_away(sample, believed)
        assert all(note.row in (0, 1) and note.text for note in notes)


def doubting(seed: int, size: int) -> TrustState:
    """A state some way into a day, with doubts and latches."""
    rng, state = np.random.default_rng(seed), trust.fresh(size)

    def some() -> Bools:
        return rng.random(size) < 0.3

    soc = structs.replace(
        state.soc, own=rng.random(size), told=rng.random(size), fault=some(), capacity_kwh=column(60.0, size)
    )
    return structs.replace(
        state, at_s=NOW_S - 0.5, connected=~some(), soc=soc, energy=structs.replace(state.energy, fault=some()),
        discharge=trust.Slow(rng.uniform(0.0, 22.0, size), np.full(size, NOW_S - 10.0)),
        cold=trust.Slow(-rng.uniform(20.0, 90.0, size), np.full(size, NOW_S - 10.0)),
        open=structs.replace(state.open, welded=some()),
        wear=structs.replace(state.wear, operations=rng.integers(0, 120, size)),
    )  # fmt: skip


def discharge_kw(item: Case) -> np.ndarray:
    return np.maximum(-item.clamp()[1], 0.0)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_guard_never_lets_more_out_for_a_doubt(seed: int) -> None:
    """I15 through the guard: with doubt no row gives more, but for what a welded row draws, which the site meter shows as load."""
    plain = case(seed)
    state = doubting(seed, plain.table.size)
    _, believed, _ = trust.step(
        state, plain.snapshot.fleet, NOW_S, plain.table, TrustSettings(), plain.state.setpoint_kw
    )
    doubted = structs.replace(plain, snapshot=structs.replace(plain.snapshot, fleet=believed))
    drawn = np.maximum(plain.snapshot.fleet.power_kw, 0.0)[believed.fault & np.isfinite(plain.snapshot.fleet.power_kw)]
    before, after = discharge_kw(plain), discharge_kw(doubted)
    assert after.sum() <= before.sum() + float(np.nansum(drawn)) + 1e-6
    assert (after[~believed.may_discharge] == 0.0).all()
    assert np.isfinite(after).all()


@pytest.mark.parametrize("seed", range(4))
def test_noise_of_meters_and_rounding_never_makes_a_doubt(seed: int) -> None:
    """L2 on columns: a day of charging, giving and resting by turns, 2 % off, 2 % noise, taper, whole percents, silences of up to
    an hour."""
    rng, size, step_s = np.random.default_rng(seed), 12, 10.0
    table, state = evse_table(size, charge_kw=11.0, discharge_kw=11.0), trust.fresh(size)
    soc, capacity = rng.uniform(0.3, 0.8, size), rng.uniform(30.0, 90.0, size)
    aged, efficiency = rng.uniform(0.85, 1.0, size), rng.uniform(0.86, 0.97, size)
    power, silent_s, last = np.zeros(size), np.zeros(size), None
    for k in range(round(86_400.0 / step_s)):
        if k % 540 == 0:
            power = rng.choice([0.0, 11.0, 4.0, -11.0, -3.0], size)
        flow = np.where(power > 0.0, power * np.clip((1.0 - soc) / 0.2, 0.0, 1.0), np.where(soc > 0.25, power, 0.0))
        soc = np.clip(
            soc + np.where(flow > 0.0, flow * efficiency, flow / efficiency) * step_s / 3600.0 / (capacity * aged),
            0.0,
            1.0,
        )
        metered = flow * rng.normal(1.02, 0.02, size) + rng.normal(0.06, 0.02, size)
        sample = fleet_sample(
            size, power_kw=metered, soc=np.round(soc * 100.0) / 100.0, capacity_kwh=capacity, left_s=90_000.0 - k * step_s,
            temperature_c=40.0 + rng.normal(0.0, 1.0, size), age_s=rng.uniform(0.0, 1.4, size),
        )  # fmt: skip
        begins = (silent_s <= 0.0) & (rng.random(size) < 0.001)
        silent_s = np.where(begins, rng.uniform(10.0, 3600.0, size), np.maximum(silent_s - step_s, 0.0))
        is_silent = (silent_s > 0.0) & (last is not None)
        if last is not None:
            stale = {
                name: np.where(is_silent, getattr(last, name), getattr(sample, name)) for name in ("soc", "power_kw")
            }
            sample = structs.replace(sample, **stale, age_s=np.where(is_silent, last.age_s + step_s, sample.age_s))
        last = sample
        state, believed, notes = trust.step(state, sample, k * step_s, table, TrustSettings(), np.minimum(flow, 0.0))
        assert notes == (), (k, notes)
        assert believed.may_discharge.all()
        assert np.array_equal(believed.soc, sample.soc)


@pytest.mark.parametrize("seed", range(12))
def test_a_bay_is_judged_alike_in_an_empty_site_and_beside_a_neighbour(seed: int) -> None:
    """With nobody there most is left out: who comes then is judged as if somebody had been there all the time."""
    rng, settings, step_s = np.random.default_rng(seed), TrustSettings(), 3.0
    alone, beside, here, register_kwh = trust.fresh(1), trust.fresh(2), False, 0.0
    for k in range(200):
        if rng.random() < 0.2:
            here, register_kwh = not here, float(rng.choice([0.0, 2.0]))
        told = {
            "connected": here, "power_kw": rng.choice([0.0, 0.1, 0.1, np.nan]), "soc": rng.choice([0.5, 0.52, 0.6, np.nan]),
            "capacity_kwh": 60.0 if here else np.nan, "register_kwh": register_kwh, "left_s": 7200.0 - step_s * k,
            "temperature_c": rng.uniform(20.0, 80.0), "charge_limit_kw": rng.choice([11.0, 22.0]),
        }  # fmt: skip
        asked_kw = -11.0 if k % 100 < 70 else 0.0
        alone, first, notes = trust.step(
            alone, fleet_sample(1, **told), step_s * k, evse_table(1), settings, np.array([asked_kw])
        )
        pair = fleet_sample(2, **{name: [value, 1.0 if name == "connected" else 0.0] for name, value in told.items()})
        beside, both, more = trust.step(beside, pair, step_s * k, evse_table(2), settings, np.array([asked_kw, 0.0]))
        assert notes == tuple(note for note in more if note.row == 0)
        assert alone.wear.day_left_s == beside.wear.day_left_s
        for name in FleetSample.__struct_fields__:
            if here or name != "temperature_c":
                np.testing.assert_array_equal(getattr(first, name)[:1], getattr(both, name)[:1], err_msg=f"{k} {name}")
