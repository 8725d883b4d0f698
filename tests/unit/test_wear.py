"""Wear: prices by the formula, cycles by the oracle, the table against a run of BLAST-Lite, the cost of a short driver."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from gridtide.market.rainflow import Cycle, rainflow
from gridtide.market.wear import (
    CELL_MODELS,
    CellModel,
    DriverRisk,
    Pack,
    calendar_cost_per_h,
    calendar_fade_per_h,
    cycle_damage,
    expected_shortfall_cost,
    holding_price,
    models_of,
    pack_throughput_price,
    price_from_cycle_life,
    shortfall_cost,
    throughput_price,
    throughput_range,
    wear_report,
)

STORED = json.loads((Path(__file__).parents[1] / "cases" / "blast_wear.json").read_text())
CELLS = STORED["cells"]
HISTORY = [0.8, 0.7, 0.6, 0.4, 0.8, 0.5, 0.55, 0.5, 0.8]
PRICE_COLUMN = {"NMC_Gr_75Ah_A": 0.040, "NMC622 DENSO 50 Ah": 0.037, "LFP 250 Ah": 0.014, "NCA Panasonic 3 Ah": 0.001}
LEFT_COLUMNS = {
    "NMC_Gr_75Ah_A": (0.9843, 0.9634, 0.9602, 0.9219),
    "NMC622 DENSO 50 Ah": (0.9174, 0.9310, 0.8978, 0.8633),
    "LFP 250 Ah": (0.9630, 0.9477, 0.9364, 0.9230),
    "NCA Panasonic 3 Ah": (0.8760, 0.8232, 0.8323, 0.8310),
}
SNAPSHOT = 2e-3


def test_price_of_throughput() -> None:
    assert pack_throughput_price(Pack(60.0)) == pytest.approx(0.0375)
    assert pack_throughput_price(Pack(60.0, "LFP")) == pytest.approx(0.015)
    assert pack_throughput_price(Pack(60.0, "NCA")) == pytest.approx(0.0075)
    assert price_from_cycle_life(3_000.0) == pytest.approx(0.05)
    assert price_from_cycle_life(3_000.0) / 2.0 == pytest.approx(0.025), "per kWh moved, in or out"


def test_cycles_and_damage_of_the_oracle() -> None:
    found = sorted((round(c.depth, 9), c.count) for c in rainflow(HISTORY))
    assert found == [(0.05, 1.0), (0.30, 1.0), (0.40, 0.5), (0.40, 0.5)]
    damage = cycle_damage(rainflow(HISTORY))
    assert round(damage, 9) == 1.98762e-4
    report = wear_report(Pack(60.0), HISTORY, 1.0)
    assert report.equivalent_full_cycles == pytest.approx(0.75)
    assert round(report.cycle_cost, 4) == 1.7889


@pytest.mark.parametrize(
    ("values", "cycles"),
    [
        ([], ()),
        ([0.5], ()),
        ([0.5, 0.5, 0.5], ()),
        ([0.2, 0.4, 0.9], (Cycle(0.7, 0.55, 0.5),)),
        ([0.9, 0.2, 0.2, 0.9], (Cycle(0.7, 0.55, 0.5), Cycle(0.7, 0.55, 0.5))),
    ],
)
def test_short_histories(values: list[float], cycles: tuple[Cycle, ...]) -> None:
    assert [(round(c.depth, 9), round(c.mean, 9), c.count) for c in rainflow(values)] == [
        (c.depth, c.mean, c.count) for c in cycles
    ]


@pytest.mark.parametrize("model", CELL_MODELS, ids=lambda m: m.name)
def test_the_table_is_what_blast_lite_says(model: CellModel) -> None:
    """Fade and price columns from a run of the cell model; the table's own figures are rounded."""
    cell = CELLS[model.name]
    fade = (cell["v1g"] - cell["v2g"]) / STORED["extra_efc"]
    assert fade == pytest.approx(model.fade_per_efc, rel=0.05 if model.chemistry != "NCA" else 0.15)
    assert throughput_price(fade) == pytest.approx(PRICE_COLUMN[model.name], abs=8e-4)
    assert throughput_price(model.fade_per_efc) == pytest.approx(PRICE_COLUMN[model.name], abs=8e-4)
    assert (1.0 - model.fade_50, 1.0 - model.fade_80) == pytest.approx(
        (cell["calendar_50"], cell["calendar_80"]), abs=1e-4
    )
    left = tuple(cell[key] for key in ("calendar_50", "calendar_80", "v1g", "v2g"))
    assert left == pytest.approx(LEFT_COLUMNS[model.name], abs=SNAPSHOT)
    assert cell["efc_v1g"] == pytest.approx(720.0, rel=0.1), "about 72 equivalent full cycles a year"


def test_charging_late_keeps_more_for_the_cells_that_suffer_from_a_high_charge() -> None:
    for model in CELL_MODELS:
        cell = CELLS[model.name]
        assert (cell["v1g_delayed"] > cell["v1g"]) == (model.fade_80 > model.fade_50)


def test_holding_a_high_charge_has_a_price() -> None:
    pack = Pack(60.0)
    dear, odd = models_of("NMC")
    assert calendar_fade_per_h(dear, 0.5) * 87_600.0 == pytest.approx(0.0157)
    assert calendar_fade_per_h(dear, 0.8) * 87_600.0 == pytest.approx(0.0366)
    assert calendar_fade_per_h(dear, 0.0) == 0.0, "the line is not followed below nothing"
    higher = calendar_cost_per_h(pack, dear, 0.8) - calendar_cost_per_h(pack, dear, 0.5)
    assert higher == pytest.approx(holding_price(pack, dear) * 0.3 * 60.0)
    assert holding_price(pack, dear) == pytest.approx(150.0 / 0.2 * (0.0366 - 0.0157) / 0.3 / 87_600.0)
    assert holding_price(pack, odd) < 0.0


def test_wear_is_a_range_with_names() -> None:
    report = wear_report(Pack(60.0), HISTORY, 24.0)
    assert {m.model for m in report.models} == {"NMC_Gr_75Ah_A", "NMC622 DENSO 50 Ah"}
    assert report.low.total < report.high.total
    assert (report.low.model, report.high.model) == ("NMC_Gr_75Ah_A", "NMC622 DENSO 50 Ah")
    assert report.models[0].throughput == pytest.approx(0.75 * 60.0 * 150.0 * 5.3e-5 / 0.2)
    known = wear_report(Pack(60.0), HISTORY, 24.0, discharged_kwh=90.0)
    assert known.models[0].throughput == pytest.approx(2.0 * report.models[0].throughput)


def test_what_discharged_energy_costs_by_model() -> None:
    found = throughput_range(100.0)
    assert [name for name, _ in found] == ["NCA Panasonic 3 Ah", "LFP 250 Ah", "NMC622 DENSO 50 Ah", "NMC_Gr_75Ah_A"]
    assert (found[0][1], found[-1][1]) == pytest.approx((0.15, 3.975))


def test_a_short_driver_costs() -> None:
    risk = DriverRisk()
    assert shortfall_cost(risk, 3.0) == 6.0
    assert shortfall_cost(risk, -1.0) == 0.0
    assert expected_shortfall_cost(DriverRisk(5.0), [(0.7, 0.0), (0.2, 1.0), (0.1, 4.0)]) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="add up to 1"):
        expected_shortfall_cost(risk, [(0.5, 1.0)])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: throughput_price(5e-5, 150.0, 0.0), "fade_at_end"),
        (lambda: throughput_price(-1.0), "fade_per_efc"),
        (lambda: throughput_price(5e-5, math.inf), "price_per_kwh"),
        (lambda: price_from_cycle_life(0.0), "cycles"),
        (lambda: wear_report(Pack(60.0), [0.5, 1.2], 1.0), "0 to 1"),
        (lambda: wear_report(Pack(60.0), [0.5], 0.0), "step_h"),
    ],
)
def test_what_cannot_be(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
