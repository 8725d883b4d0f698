"""The safety case tells what was run, names only tests that exist, and never calls passed what was not run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs, toml

from gridtide.run.verify.faults import CATALOGUE
from tools import named_tests, safety_case
from tools.named_tests import UnknownTestError
from tools.safety_case_page import Row, Rows, Shown, named, page, passed

ATTACKS = """| Class | What | Tests |
|---|---|---|
| AT01 | get in | `tests/a.py::test_at01_…`, `::test_two` |
| AT02 | get out | no test yet: soon |
"""
THERE = {
    "tests/a.py": ("test_at01_door", "test_at01_window", "test_two", "test_three"),
    "tests/property/test_guard_defects.py": ("test_a_defect_in_the_kernel_is_caught",),
}
CAMPAIGN: dict[str, Any] = {
    "seeds": 4, "site_hours": 5.0, "quiet_hours": 1.1, "evses": 10, "faults": 30, "faults_by_id": {"FT01a": 7, "FT03": 2},
    "violations": 0, "violations_by_invariant": {}, "to_safe_s": {"FT01a": {"count": 3, "p50": 1.23, "p99_9": 1.5}},
    "peak_ratio": {"runs": 4, "median": 0.95, "p90": 1.0, "p99": 1.01, "worst": 1.02}, "given_kwh": 12.5,
    "site_s_per_cpu_s": 100.0, "failing": [],
}  # fmt: skip
VIOLATED = {
    **CAMPAIGN, "violations": 2, "violations_by_invariant": {"I1": 2},
    "failing": [{"command": "gridtide verify --seed 3", "violations": [{"at_s": 1.0, "invariant": "I1", "what": "9 kW | out"}]}],
}  # fmt: skip


def rows(**fault: Any) -> Rows:
    faults = [Row(id=name, name=f"row {name}") for name in sorted({item.id[:4] for item in CATALOGUE})]
    return Rows(
        invariant=(
            Row(id="I1", name="export", says="Never out.", by="simulation"),
            Row(id="I9", name="once", says="Once.", tests=("tests/a.py::test_three",)),
            Row(id="I13", name="market", says="Not twice.", not_built="markets"),
        ),
        fault=(*faults, Row(id="FT40", name="odd one", **(fault or {"tests": ("tests/a.py::test_three",)}))),
    )


def shown(**changes: Any) -> Shown:
    kept = Shown(
        commit="abc", campaign=CAMPAIGN, pairs=None, tests=THERE, ended=None, attacks=ATTACKS, mutation=None, hours=1.0
    )
    return structs.replace(kept, **changes)


def line(text: str, beginning: str) -> str:
    return next(item for item in text.splitlines() if item.startswith(f"| {beginning} |"))


def test_the_file_names_tests_that_exist_and_a_row_for_every_fault() -> None:
    found = toml.decode(safety_case.ROWS.read_bytes(), type=Rows)
    attacks = (safety_case.ROOT / "docs/attacks.md").read_text(encoding="utf-8")
    here = shown(tests=named_tests.tests_of(safety_case.ROOT), attacks=attacks)
    assert len(named(found, here)) > 50
    assert page(found, here)
    assert [row.id for row in found.fault] == [f"FT{number:02}" for number in range(1, 38)]
    assert [row.id for row in found.invariant] == [f"I{number}" for number in range(1, 21)]


def test_a_small_run_becomes_a_page(tmp_path: Path) -> None:
    output = tmp_path / "page.md"
    size = (
        "--seeds",
        "1",
        "--hours",
        "0.1",
        "--evses",
        "2",
        "--pair-seeds",
        "1",
        "--every",
        "1200",
        "--processes",
        "1",
    )
    code = safety_case.main([*size, "--output", str(output)])
    text = output.read_text(encoding="utf-8")
    found = re.search(r"\*\*(\d+) violations\*\*", text)
    assert found
    assert code == (1 if int(found[1]) else 0)
    assert "1 random sites of 2 stations, 0.1 h each" in text
    assert re.search(r"FT37: 1 of the \d+ pairs", text)
    assert "Not measured: runs shorter" in text
    for name in ("I1", "I20", "L1", "L2", "FT01a", "FT37", "AT01", "AT19"):
        assert line(text, name)
    assert "*not built*" in line(text, "I13")
    assert "*not built*" in line(text, "FT21")
    assert "passed" not in text


def test_figures_stand_where_they_belong() -> None:
    text = page(rows(), shown())
    assert "| 4 / 5 | 0 |" in line(text, "I1")
    assert "7 (3) | 1.2 | 1.5 | simulation" in line(text, "FT01a")
    assert "2 (0) | – | – | simulation" in line(text, "FT03")
    assert "*not run*" in line(text, "FT29a")
    assert "by tests alone | `tests/a.py::test_three`" in line(text, "I9")
    assert "fewer than 3 an hour" in line(text, "L2")
    assert "| nine of ten at most | 1.000 |" in text
    assert "*no test yet*" in line(text, "AT02")
    assert "Mutants: *not measured*" in text


def test_a_violation_is_on_the_page_with_its_command_and_fails() -> None:
    assert passed(rows(), shown())
    here = shown(campaign=VIOLATED)
    assert not passed(rows(), here)
    text = page(rows(), here)
    assert "**2 violations**" in text
    assert "| **2** |" in line(text, "I1")
    assert "`gridtide verify --seed 3`" in text


def test_pairs_count_as_well() -> None:
    pairs = {
        "pairs": 5, "pairs_that_can_be": 9, "pairs_that_cannot": ["a+b"], "seeds": [1, 4], "runs": 10, "site_hours": 0.5,
        "violations": 1, "violations_by_invariant": {"I1": 1}, "failing_pairs": ["FT01a+FT03"], "failing": [],
    }  # fmt: skip
    here = shown(pairs=pairs)
    assert not passed(rows(), here)
    text = page(rows(), here)
    assert "4 + 10 pairs / 5.5 | **1**" in line(text, "I1")
    assert "Pairs that failed: FT01a+FT03." in text


def test_a_false_trip_leaves_no_claim() -> None:
    text = page(rows(), shown(campaign={**CAMPAIGN, "violations": 1, "violations_by_invariant": {"L2": 1}}))
    assert "no rate can be claimed" in line(text, "L2")


@pytest.mark.parametrize(
    "name", ["tests/b.py", "tests/a.py::test_four", "tests/a.py::test_four…", "tests/a.py::test_at01"]
)
def test_a_test_that_is_not_there_stops_the_page(name: str) -> None:
    with pytest.raises(UnknownTestError, match=re.escape(name)):
        page(rows(tests=(name,)), shown())


def test_no_page_is_written_when_a_test_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = safety_case.ROWS.read_text(encoding="utf-8")
    (tmp_path / "rows.toml").write_text(text.replace("::test_tampering_is_found", "::test_gone"), encoding="utf-8")
    (tmp_path / "run.json").write_text(json.dumps(CAMPAIGN), encoding="utf-8")
    given = ["--campaign", str(tmp_path / "run.json"), "--pair-seeds", "0", "--output", str(tmp_path / "page.md")]
    assert safety_case.main(given) == 0
    (tmp_path / "page.md").unlink()
    monkeypatch.setattr(safety_case, "ROWS", tmp_path / "rows.toml")
    assert safety_case.main(given) == 2
    assert not (tmp_path / "page.md").exists()


def test_what_verify_did_not_print_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    given = ["--campaign", str(tmp_path / "run.json"), "--pair-seeds", "0", "--output", str(tmp_path / "page.md")]
    assert safety_case.main(given) == 2


def test_every_fault_of_the_catalogue_has_a_row_and_every_row_something_that_shows_it() -> None:
    with pytest.raises(ValueError, match="no row for FT01"):
        page(structs.replace(rows(), fault=tuple(row for row in rows().fault if row.id != "FT01")), shown())
    with pytest.raises(ValueError, match="FT40: nothing shows it"):
        page(rows(says="Trust us."), shown())


def test_what_was_run_tells_how_it_ended() -> None:
    ended = {
        "tests/a.py::test_at01_door": "passed",
        "tests/a.py::test_at01_window": "skipped",
        "tests/a.py::test_three": "failed",
    }
    text = page(rows(), shown(ended=ended))
    assert "`tests/a.py::test_at01_…` skipped, `tests/a.py::test_two` not run" in line(text, "AT01")
    assert "`tests/a.py::test_three` failed" in line(text, "I9")
    assert not passed(rows(), shown(ended=ended))


def test_the_worst_of_a_tests_parameters_counts() -> None:
    report = (
        '<testsuites><testsuite><testcase classname="tests.unit.test_x" name="test_a[1]"/>'
        '<testcase classname="tests.unit.test_x" name="test_a[2]"><failure/></testcase>'
        '<testcase classname="tests.unit.test_x" name="test_a[3]"><skipped/></testcase>'
        '<testcase classname="tests.unit.test_x" name="test_b"/></testsuite></testsuites>'
    )
    assert named_tests.outcomes(report) == {
        "tests/unit/test_x.py::test_a": "failed",
        "tests/unit/test_x.py::test_b": "passed",
    }


def test_named_tests_are_really_run(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_k.py").write_text("def test_good(): pass\ndef test_bad(): assert False\n", encoding="utf-8")
    ids = [f"tests/test_k.py::{name}" for name in ("test_good", "test_bad")]
    assert named_tests.tests_of(tmp_path) == {"tests/test_k.py": ("test_good", "test_bad")}
    assert named_tests.run(ids, tmp_path, tmp_path / "r.xml") == dict(zip(ids, ("passed", "failed"), strict=True))
    with pytest.raises(RuntimeError, match="exit code 4"):
        named_tests.run(["tests/test_k.py::test_gone"], tmp_path, tmp_path / "r.xml")


def test_figures_of_mutants_are_taken_over_once_there_are_some() -> None:
    page_of = "# M\n\n## Mutants\n\nAt least 95 %.\n\n{}\n\n### Survivors\n\n| a | 7 |\n"
    assert "Mutants: *not measured*" in page(rows(), shown(mutation=page_of.format("<FIGURES>")))
    text = page(rows(), shown(mutation=page_of.format("| guard | 97 % |")))
    assert "| guard | 97 % |" in text
    assert "| a | 7 |" not in text
