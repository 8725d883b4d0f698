"""The wear table from BLAST-Lite, which lives in an environment of its own (.venv/blast): `make blast-wear`.

.venv/blast/bin/python tools/blast_wear.py [--store tests/cases/blast_wear.json]

A year of hourly charge, 25 degC, repeated to ten years: lying at 50 and 80 %; driving (80 to 70 % at 08-09 h, to 60 % at 17-18 h)
and charging at 22-24 h; the same charged just before leaving (06-08 h); and with 20 % more given to the grid at 18-20 h and
charged at 00-04 h. Packages of this environment are no dependency of the project.
"""

import argparse
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from blast import models  # type: ignore[import-not-found]

YEARS = 10
EFC_PER_YEAR = {"v1g": 72.0, "v2g": 143.0}
"""Equivalent full cycles of the two profiles, with what capacity is left."""
CELLS = {
    "NMC_Gr_75Ah_A": "NMC_Gr_75Ah_A",
    "NMC622 DENSO 50 Ah": "Nmc622_Gr_DENSO50Ah_Battery",
    "LFP 250 Ah": "Lfp_Gr_250AhPrismatic",
    "NCA Panasonic 3 Ah": "Nca_Gr_Panasonic3Ah_Battery",
}
DAYS = {
    "calendar_50": [(0, 0.5), (24, 0.5)],
    "calendar_80": [(0, 0.8), (24, 0.8)],
    "v1g": [(0, 0.8), (8, 0.8), (9, 0.7), (17, 0.7), (18, 0.6), (22, 0.6), (24, 0.8)],
    "v1g_delayed": [(0, 0.6), (6, 0.6), (8, 0.8), (9, 0.7), (17, 0.7), (18, 0.6), (24, 0.6)],
    "v2g": [(0, 0.4), (4, 0.8), (8, 0.8), (9, 0.7), (17, 0.7), (18, 0.6), (20, 0.4), (24, 0.4)],
}


def capacity_left(cell: str, day: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Share of capacity left, and equivalent full cycles run, after ten years of a day."""
    hour = np.arange(8761.0)
    soc = np.interp(hour % 24.0, [h for h, _ in day], [s for _, s in day])
    inputs = {"Time_s": hour * 3600.0, "SOC": soc, "Temperature_C": np.full(hour.size, 25.0)}
    battery = getattr(models, cell)()
    battery.simulate_battery_life(inputs, threshold_time=YEARS, is_conserve_energy_throughput=False)
    years = battery.stressors["t_days"] / 365.0
    return float(np.interp(YEARS, years, battery.outputs["q"])), float(
        np.interp(YEARS, years, battery.stressors["efc"])
    )


def row(cell: str) -> dict[str, float]:
    """Capacity left by profile, and the cycles that the model counted."""
    found = {}
    for name, day in DAYS.items():
        left, cycles = capacity_left(cell, day)
        found[name] = round(left, 6)
        if name in EFC_PER_YEAR:
            found[f"efc_{name}"] = round(cycles, 1)
    return found


def main() -> None:
    """Print the table; keep it where the command line says."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--store", type=Path)
    chosen = options.parse_args()
    table = {name: row(cell) for name, cell in CELLS.items()}
    extra = YEARS * (EFC_PER_YEAR["v2g"] - EFC_PER_YEAR["v1g"])
    for name, found in table.items():
        fade = (found["v1g"] - found["v2g"]) / extra
        print(f"{name:20}", {k: round(v, 4) for k, v in found.items()}, f"fade per extra cycle {fade:.2e}")
    if chosen.store:
        version = importlib.metadata.version("blast-lite")
        told = {"made_by": "tools/blast_wear.py", "blast_lite": version, "extra_efc": extra, "cells": table}
        chosen.store.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
