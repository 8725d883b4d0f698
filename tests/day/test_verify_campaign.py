"""The campaign's form for every change: twenty random sites, twenty minutes each, under faults; then a part of it without."""

import pytest

from gridtide.run.verify import campaign
from gridtide.run.verify.faults import read

DURATION_S = 1200.0
FOUND = [
    # a report of before the last setpoint was taken for what a vehicle does now
    (98, "FT33a@204.3+7~1493675428,FT30b@319.6+13.4~583346696", 335.0),
    # a clock was set right, and setpoints were still stamped by what it had told before
    (54, "FT13a@1621.5+19.9:6~2091664688,FT30a@1640.1+44.9~301351721", 1715.0),
]
"""What longer campaigns found: seed, faults, and how much of the hour shows it."""


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.again) for seed in range(3, 21))])
def test_nothing_is_violated_on_a_random_site_under_random_faults(seed: int) -> None:
    with_faults, without = campaign.run_seed(seed, DURATION_S, campaign.EVSES)
    assert with_faults.violations == (), with_faults.command
    assert without.violations == (), without.command
    assert with_faults.faults
    assert without.faults == ()


PAIRS = [
    (8, "FT03@20+15.9~554542123,FT23a@21.1+15.7~601098158"),
    (1, "FT15@20+24.6~213493104,FT05@20+6.8~615779404"),
    (8, "FT08a@20+14:2~318757255,FT08b@22.1+19.6~181666701"),
    (3, "FT08b@20+11.5~607195127,FT26a@20+23.7:3~1027356003"),
    (8, "FT09@20+11.1:2~1541322898,FT26a@20+17.6:2~894993587"),
    (3, "FT33b@20+11.9~1230687657,FT26a@20+22.6:8~1960991450"),
]
"""What pairs of faults found, in the vehicles' trust as in the harness."""


@pytest.mark.parametrize(("seed", "faults"), PAIRS)
def test_what_pairs_found_stays_mended(seed: int, faults: str) -> None:
    assert campaign.run_case(seed, 115.0, campaign.EVSES, read(faults)).violations == ()


@pytest.mark.parametrize(("seed", "faults", "until_s"), FOUND)
def test_what_was_found_stays_mended(seed: int, faults: str, until_s: float) -> None:
    assert campaign.run_case(seed, 3600.0, campaign.EVSES, read(faults), until_s).violations == ()
