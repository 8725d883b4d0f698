"""The campaign's form for every change: twenty random sites, twenty minutes each, under faults; then a part of it without."""

from collections.abc import Iterator

import pytest
import structlog

from gridtide.run.verify import campaign

DURATION_S = 1200.0


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Runs silence the log of their process; other tests want theirs back."""
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("seed", range(1, 21))
def test_nothing_is_violated_on_a_random_site_under_random_faults(seed: int) -> None:
    with_faults, without = campaign.run_seed(seed, DURATION_S, campaign.EVSES)
    assert with_faults.violations == (), with_faults.command
    assert without.violations == (), without.command
    assert with_faults.faults
    assert without.faults == ()
