"""Invariants of tariff and bill, and a parser that answers every document with a tariff or a `TariffError`."""

import json
import tomllib
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.market.bill import bill
from gridtide.market.charges import flat_ratchet
from gridtide.market.tariff import Tariff, TariffError, price_per_kwh, prices
from gridtide.market.tariff_formats import parse_tariff
from tests.unit.test_bill import FLAT, samples
from tests.unit.test_tariff import TOWN, berlin_s
from tools.fuzz_parsers import OWN_TARIFF, URDB

TARIFF = parse_tariff(tomllib.loads(TOWN))
powers = st.lists(st.floats(-500.0, 900.0), min_size=2, max_size=192)
starts = st.sampled_from([berlin_s(2026, 3, 28, 12), berlin_s(2026, 10, 24, 20), berlin_s(2026, 6, 30, 3)])
kinds = st.sampled_from([("block", 900), ("block", 3600), ("rolling", 900), ("rolling", 1800)])


def tariff_of(kind: tuple[Any, int], fraction: float = 0.0) -> Tariff:
    return msgspec.structs.replace(
        TARIFF, interval_kind=kind[0], interval_s=kind[1], sub_interval_s=900, ratchet=flat_ratchet(fraction)
    )


@given(begin_s=starts, kw=powers, cut=st.floats(0.0, 1.0))
def test_energy_credit_and_taxes_add_up_over_any_partition(begin_s: float, kw: list[float], cut: float) -> None:
    start_s, power = samples(begin_s, len(kw)), np.array(kw)
    at = int(cut * len(kw))
    whole = bill(TARIFF, start_s, power, 900.0)
    parts = [bill(TARIFF, start_s[part], power[part], 900.0) for part in (slice(None, at), slice(at, None))]
    for line in ("energy", "export_credit", "taxes"):
        assert abs(getattr(whole, line) - sum(getattr(p, line) for p in parts)) < 1e-6


@given(begin_s=starts, kw=powers, where=st.floats(0.0, 0.999), more=st.floats(0.0, 500.0), kind=kinds)
def test_demand_never_falls_when_an_interval_rises(
    begin_s: float, kw: list[float], where: float, more: float, kind: tuple[Any, int]
) -> None:
    tariff = tariff_of(kind, fraction=0.7)
    start_s, power = samples(begin_s, len(kw)), np.array(kw)
    raised = power.copy()
    raised[int(where * len(kw))] += more
    before, after = (bill(tariff, start_s, p, 900.0, [300.0]) for p in (power, raised))
    assert after.demand >= before.demand - 1e-9
    assert after.energy >= before.energy - 1e-9
    assert before.demand >= 0.7 * 300.0 * 9.0 - 1e-9, "never below the ratchet"


@given(begin_s=starts, kw=powers)
def test_samples_split_in_three_cost_the_same(begin_s: float, kw: list[float]) -> None:
    power = np.array(kw)
    coarse = bill(FLAT, samples(begin_s, len(kw)), power, 900.0)
    fine = bill(FLAT, samples(begin_s, 3 * len(kw), 300.0), np.repeat(power, 3), 300.0)
    assert abs(coarse.total - fine.total) < 1e-6


@given(t_s=st.lists(st.floats(0.0, 4e9), max_size=20))
def test_vector_prices_are_the_scalar_prices(t_s: list[float]) -> None:
    assert prices(TARIFF, np.array(t_s)).tolist() == [price_per_kwh(TARIFF, t) for t in t_s]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner))


@given(raw=documents)
def test_any_document_is_a_tariff_or_told_problems(raw: object) -> None:
    try:
        parse_tariff(raw)
    except TariffError as error:
        assert error.problems  # noqa: PT017 - most documents are refused, a few could be tariffs


def spots_of(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(spot for key, child in children for spot in spots_of(child, (*path, key)))]


ACN = {
    "name": "n",
    "interval_s": 900,
    "interval_kind": "block",
    "schedule": [
        {
            "id": "a",
            "effective_start": "6-1",
            "effective_end": "5-31",
            "dow_mask": "ALL",
            "times": [0, 8.5],
            "tariffs": [0.1, 0.2],
            "demand_charge": 4,
        }
    ],
}
BASES: list[dict[str, Any]] = [tomllib.loads(TOWN), ACN, json.loads(URDB), tomllib.loads(OWN_TARIFF.decode())]


@settings(max_examples=400, deadline=None)
@given(base=st.sampled_from(BASES), spot=st.integers(0, 400), value=documents)
def test_a_good_document_with_one_field_spoilt(base: dict[str, Any], spot: int, value: object) -> None:
    raw = msgspec.json.decode(msgspec.json.encode(base))
    path = spots_of(raw)[1:][spot % (len(spots_of(raw)) - 1)]
    holder = raw
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    try:
        tariff = parse_tariff(raw)
    except TariffError as error:
        assert all(" = " in problem and ": " in problem for problem in error.problems)  # noqa: PT017
    else:
        assert np.isfinite(price_per_kwh(tariff, 1.75e9))
