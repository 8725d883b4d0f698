"""The transformer's thermal model against its oracle, the tolerance above its rating, and what a hot one still carries."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.control import transformer
from gridtide.control.transformer import Load, Transformer, TransformerState
from gridtide.twin import transformer as truth
from gridtide.twin.transformer import TransformerModel

UNIT = Transformer(rating_kva=400.0, power_factor=1.0, ambient_c=20.0)
MODEL = TransformerModel(rating_kva=400.0)


def settled(load: float, at_s: float = 0.0) -> TransformerState:
    """The state after a very long time at that share of the rating."""
    return TransformerState(transformer.steady_oil_k(load), transformer.steady_winding_k(load), at_s=at_s)


@pytest.mark.parametrize(("load", "hot_spot_c"), [(1.0, 98.0), (1.5, 161.4), (0.7, 68.3)])
def test_steady_temperatures_follow_the_oracle(load: float, hot_spot_c: float) -> None:
    """At 20 degC; ageing is 1 at 98 degC."""
    assert transformer.hot_spot_c(settled(load), 20.0) == pytest.approx(hot_spot_c, abs=0.1)
    assert truth.steady(MODEL, load).hot_spot_c(20.0) == pytest.approx(hot_spot_c, abs=0.1)
    assert transformer.ageing(98.0) == 1.0


def test_a_step_of_load_reaches_the_limit_when_the_oracle_says() -> None:
    """From 0.7 of the rating to 1.5 at 20 degC: 120 degC after 73.0 minutes, for controller and plant alike."""
    for minutes, is_there in ((72.5, False), (73.5, True)):
        oil_k, winding_k = transformer.heated(settled(0.7), 1.5, minutes * 60.0, UNIT)
        assert (20.0 + oil_k + winding_k >= 120.0) is is_there
        heat = truth.steady(MODEL, 0.7)
        for _ in range(round(minutes * 6)):
            heat = truth.advance(heat, MODEL, 600.0, 20.0, 10.0)
        assert (heat.hot_spot_c(20.0) >= 120.0) is is_there


def play(
    loads_kw: list[float], dt_s: float = 0.5, unit: Transformer = UNIT, kvar: float = math.nan
) -> list[tuple[float, tuple[str, ...]]]:
    """Caps and events of a run of loads."""
    state, told = settled(0.5), []
    for k, load_kw in enumerate(loads_kw, 1):
        state, cap_kw, events = transformer.step(state, Load(load_kw, kvar), k * dt_s, unit)
        told.append((cap_kw, events))
    return told


def test_more_than_a_tenth_over_is_cut_at_once() -> None:
    told = play([380.0, 441.0])
    assert told[0] == (400.0, ())
    assert told[1] == (400.0, ("transformer_overload",))


def test_up_to_a_tenth_over_is_held_for_a_minute_and_never_grows() -> None:
    told = play([420.0] * 130)
    assert [cap for cap, _ in told[:115]] == [420.0] * 115  # no more than what flows already
    assert {cap for cap, _ in told[115:]} == {400.0}
    assert [k for k, (_, events) in enumerate(told) if events] == [115]


def test_noise_around_the_rating_after_a_cut_is_told_once() -> None:
    told = play([420.0] * 130 + [399.9, 400.3] * 100)
    assert {cap for cap, _ in told[115:]} == {400.0}
    assert sum(len(events) for _, events in told) == 1


def test_the_tolerance_comes_back_slowly() -> None:
    soon = play([420.0] * 100 + [390.0] * 20 + [420.0] * 30)
    assert soon[-1][0] == 400.0  # 50 s used up, 10 s of rest give less than one back
    late = play([420.0] * 100 + [390.0] * 1_800 + [420.0] * 30)
    assert late[-1][0] == 420.0


def test_a_hot_transformer_carries_less_and_recovers() -> None:
    hot = Transformer(rating_kva=400.0, power_factor=1.0, ambient_c=55.0)
    state, cap_kw, events = transformer.step(settled(1.0), Load(390.0), 0.5, hot)
    assert events == ("transformer_hot",)
    assert 200.0 < cap_kw < 399.0
    for k in range(2, 40):
        state, later_kw, events = transformer.step(state, Load(cap_kw), 900.0 * k, hot)
        assert transformer.hot_spot_c(state, 55.0) <= 133.5
        assert events == ()
        cap_kw = later_kw
    assert transformer.hot_spot_c(state, 55.0) <= 120.5
    assert transformer.step(state, Load(cap_kw, ambient_c=10.0), 900.0 * 40, hot)[1] == 400.0


def test_reactive_power_takes_its_part_of_the_rating() -> None:
    assert play([300.0], kvar=240.0)[0][0] == pytest.approx(320.0)
    assert play([300.0], kvar=500.0)[0][0] == 0.0
    assert play([300.0], unit=Transformer(rating_kva=400.0, power_factor=0.9))[0][0] == pytest.approx(360.0)


ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.tuples(ANY, ANY, ANY, ANY), min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
def test_total_on_any_number_and_never_above_the_rating_or_the_load(
    rows: list[tuple[float, float, float, float]],
) -> None:
    state = TransformerState()
    for load_kw, kvar, ambient_c, now_s in rows:
        state, cap_kw, _ = transformer.step(state, Load(load_kw, kvar, ambient_c), now_s, UNIT)
        assert math.isfinite(cap_kw)
        assert 0.0 <= cap_kw <= 440.0
        assert cap_kw <= 400.0 or cap_kw <= load_kw
        assert math.isfinite(state.oil_k)
        assert math.isfinite(state.winding_k)


@given(st.lists(st.floats(0.0, 1.6), min_size=5, max_size=60), st.floats(-10.0, 45.0))
@settings(max_examples=100, deadline=None)
def test_a_load_that_keeps_to_the_cap_never_overheats(wanted: list[float], ambient_c: float) -> None:
    """From a cool start the plant's hot spot stays below the limit when the cap of each minute is kept."""
    state, heat = settled(0.5), truth.steady(MODEL, 0.5)
    load_kw = 200.0
    for k, share in enumerate(wanted * 6, 1):
        state, cap_kw, _ = transformer.step(state, Load(load_kw, ambient_c=ambient_c), 60.0 * k, UNIT)
        load_kw = min(share * 400.0, cap_kw)
        heat = truth.advance(heat, MODEL, load_kw, ambient_c, 60.0)
        assert heat.hot_spot_c(ambient_c) <= 120.5
