"""Water-filling against the worked cases of the reference."""

import numpy as np
import pytest

from gridtide.control.allocate import fill, share

WEIGHT, LOW, HIGH = np.array([1.0, 2.0, 3.0]), np.zeros(3), np.full(3, 10.0)


@pytest.mark.parametrize(("target_kw", "expected"), [(18.0, (3.0, 6.0, 9.0)), (24.0, (14 / 3, 28 / 3, 10.0))])
def test_shares_by_weight_within_bounds(target_kw: float, expected: tuple[float, ...]) -> None:
    assert share(target_kw, WEIGHT, LOW, HIGH).power_kw == pytest.approx(expected, abs=1e-9)


def test_a_group_at_its_cap_hands_the_rest_to_the_others() -> None:
    found = share(24.0, WEIGHT, LOW, HIGH, np.array([-1, 0, 0]), (15.0,))
    assert found.power_kw == pytest.approx((9.0, 6.0, 9.0), abs=1e-9)
    assert found.missing_kw == pytest.approx(0.0, abs=1e-9)
    assert found.capped.tolist() == [False, True, True]


@pytest.mark.parametrize(("target_kw", "expected", "missing_kw"), [(40.0, 30.0, 10.0), (2.0, 6.0, -4.0)])
def test_a_target_out_of_reach_gives_the_bound_and_says_what_is_missing(
    target_kw: float, expected: float, missing_kw: float
) -> None:
    found = share(target_kw, WEIGHT, np.full(3, 2.0), HIGH)
    assert float(found.power_kw.sum()) == pytest.approx(expected)
    assert found.missing_kw == pytest.approx(missing_kw)


def test_a_cap_below_the_lower_bounds_yields_to_them() -> None:
    found = share(20.0, WEIGHT, np.array([0.0, 5.0, 5.0]), HIGH, np.array([-1, 0, 0]), (4.0,))
    assert found.power_kw == pytest.approx((10.0, 5.0, 5.0))


def test_inputs_are_left_alone() -> None:
    low, high = LOW.copy(), HIGH.copy()
    fill(99.0, WEIGHT, low, high)[0] = -1.0
    fill(-1.0, WEIGHT, low, high)[0] = -1.0
    assert low.tolist() == LOW.tolist()
    assert high.tolist() == HIGH.tolist()
