"""At least one negative case for every positive one, by functional block; the data is in tests/cases/ocpp."""

from __future__ import annotations

import string

import pytest

from gridtide.wire.ocpp.actions import TABLES, Version
from tests.wire.negative_cases import PLAYERS, Case, block_files, cases

ALL = list(cases())
FAMILIES = {
    "OccurrenceConstraintViolation", "TypeConstraintViolation", "PropertyConstraintViolation", "FormatViolation",
    "NotImplemented", "SecurityError",
}  # fmt: skip


@pytest.mark.parametrize(("block", "case", "version"), ALL, ids=[f"{b}-{c.name}-{v}" for b, c, v in ALL])
def test_negative(block: str, case: Case, version: Version) -> None:
    PLAYERS[case.kind](case, version)


def test_every_block_has_its_cases_and_they_are_distinct() -> None:
    assert [path.stem for path in block_files()] == [f"negative_{letter}" for letter in string.ascii_uppercase[:19]]
    names = [(block, case.name) for block, case, _ in ALL]
    distinct = set(names)
    assert len(distinct) >= 260
    assert len(names) == len({(block, case.name, version) for block, case, version in ALL})
    plays = {(case.kind, case.action, repr(case.change), repr(case.payload), case.raw, case.state, case.who, case.before)
             for _, case, _ in ALL if not isinstance(case.payload, dict)}  # fmt: skip
    assert len(plays) >= 150
    for letter in string.ascii_uppercase[:19]:
        mine = [case for block, case, _ in ALL if block == letter]
        assert len({case.name for case in mine}) >= 8, letter
    assert {case.error for _, case, _ in ALL} >= FAMILIES


def test_every_action_has_a_negative_case() -> None:
    covered = {case.action for _, case, _ in ALL}
    assert set(TABLES["2.1"]) - covered == set()
