"""20,000 random states through the guard, many rows a call; `make fuzz-guard` asks about ten million."""

import pytest

from gridtide.control import guard
from tools import fuzz_guard

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
STATES = 20_000


def test_no_invariant_breaks_in_a_large_fleet() -> None:
    result = fuzz_guard.run(STATES, 500, seed=2)
    assert result.findings == []
    assert result.states == STATES
    assert result.charging > STATES / 50
    assert result.giving > STATES / 100


def test_a_kernel_that_forgets_silence_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard._Cut, "zero", lambda *_: None)
    found = fuzz_guard.run(STATES, 500, seed=2)
    assert len(found.findings) == fuzz_guard.KEPT
    assert {"I7 freshness", "fault"} <= set(found.broken)


def test_the_same_seed_asks_the_same() -> None:
    assert fuzz_guard.run(2000, 300, seed=3) == fuzz_guard.run(2000, 300, seed=3)
    assert fuzz_guard.run(2000, 300, seed=3) != fuzz_guard.run(2000, 300, seed=4)
    assert fuzz_guard.run(2000, 300, seed=3).calls == 8 + 7
