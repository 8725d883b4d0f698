"""The page on bills: its examples run and parse."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from gridtide.market.tariff_formats import parse_tariff
from gridtide.market.wear import CELL_MODELS, FADE_PER_EFC, DriverRisk, throughput_price

PAGE = (Path(__file__).parents[2] / "docs" / "bills.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_runs() -> None:
    subprocess.run([sys.executable, "-c", block("python")], check=True, timeout=60)


def test_the_tariff_parses() -> None:
    tariff = parse_tariff(tomllib.loads(block("toml")))
    assert (len(tariff.demand), len(tariff.holidays), tariff.notes) == (2, 3, ())


def test_the_table_of_wear_is_that_of_the_module() -> None:
    for model in CELL_MODELS:
        cells = [cell.strip() for cell in next(r for r in PAGE.splitlines() if model.name in r).strip("|").split("|")]
        left = (round(1.0 - model.fade_50, 3), round(1.0 - model.fade_80, 3))
        assert (float(cells[1]), float(cells[2])) == left
        assert float(cells[3].removeprefix("about ")) == model.fade_per_efc
        assert abs(float(cells[4]) - throughput_price(model.fade_per_efc)) < 6e-4
    for fade in FADE_PER_EFC.values():
        assert f"{throughput_price(fade):g}" in PAGE
    assert f"{DriverRisk().price_per_missing_kwh} per kWh" in PAGE
