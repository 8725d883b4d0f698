"""Water-filling: exact sum, bounds, caps, proportional to weight where nothing binds, monotone in the target."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from gridtide.control.allocate import Share, share
from gridtide.model.fleet import Floats, Ints


class Case(Struct, frozen=True, eq=False):
    """One allocation problem."""

    weight: Floats
    lo: Floats
    up: Floats
    group: Ints
    caps: tuple[float, ...]

    def solve(self, target_kw: float) -> Share:
        """Share `target_kw`."""
        return share(target_kw, self.weight, self.lo, self.up, self.group, self.caps)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """1 to 40 rows in up to 4 groups; some bounds are zero or equal."""
    size, groups = draw(st.integers(1, 40)), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    up = rng.choice([0.0, 3.7, 7.4, 11.0, 22.0, 150.0], size) * rng.uniform(0.1, 1.0, size)
    lo = np.where(rng.random(size) < 0.3, up * rng.choice([0.2, 1.0], size), 0.0)
    weight = 10.0 ** rng.uniform(-6.0, 3.0, size)
    caps = tuple(float(cap) for cap in rng.uniform(0.0, up.sum() + 1.0, groups))
    return Case(weight, lo, up, rng.integers(-1, max(groups, 1), size) if groups else np.full(size, -1), caps)


TARGETS = st.floats(-0.2, 1.2)


@given(cases(), TARGETS)
@settings(max_examples=200, deadline=None)
def test_sum_bounds_and_caps(case: Case, part: float) -> None:
    target = part * float(case.up.sum())
    found = case.solve(target)
    power = found.power_kw
    assert np.all(power >= case.lo - 1e-9)
    assert np.all(power <= case.up + 1e-9)
    assert abs(float(power.sum()) + found.missing_kw - target) < 1e-6
    for g, cap in enumerate(case.caps):
        rows = case.group == g
        assert power[rows].sum() <= max(cap, case.lo[rows].sum()) + 1e-6
    if not case.caps:
        reachable = min(max(target, float(case.lo.sum())), float(case.up.sum()))
        assert abs(float(power.sum()) - reachable) < 1e-6


@given(cases(), TARGETS)
@settings(max_examples=100, deadline=None)
def test_what_is_missing_could_not_be_placed(case: Case, part: float) -> None:
    found = case.solve(part * float(case.up.sum()))
    if found.missing_kw > 1e-6:  # then every row is at its bound, or its group at the cap
        full = found.power_kw >= case.up - 1e-6
        for g, cap in enumerate(case.caps):
            rows = case.group == g
            full |= rows & (found.power_kw[rows].sum() >= cap - 1e-6)
        assert bool(np.all(full))


@given(cases(), TARGETS, TARGETS)
@settings(max_examples=100, deadline=None)
def test_more_target_is_never_less_power(case: Case, one: float, two: float) -> None:
    low, high = sorted((one * float(case.up.sum()), two * float(case.up.sum())))
    less, more = case.solve(low).power_kw, case.solve(high).power_kw
    assert float(more.sum()) >= float(less.sum()) - 1e-6
    if not case.caps:
        assert np.all(more >= less - 1e-6)


@given(cases(), TARGETS)
@settings(max_examples=100, deadline=None)
def test_rows_that_nothing_binds_share_by_weight(case: Case, part: float) -> None:
    plain = Case(case.weight, case.lo, case.up, np.full(case.weight.size, -1), ())
    power = plain.solve(part * float(case.up.sum())).power_kw
    free = (power > case.lo + 1e-6) & (power < case.up - 1e-6)
    level = power[free] / case.weight[free]
    assert level.size == 0 or float(np.ptp(level)) <= 1e-6 * float(level.max())
