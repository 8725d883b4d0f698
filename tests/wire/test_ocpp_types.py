"""The generated types are current and carry every property of every message."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import FROM_BOTH, FROM_STATION, TABLES, Version
from tests.wire.ocpp_samples import FOLDERS, all_messages, property_names, sample, schema, validator

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = all_messages()


def same(value: Any) -> Any:
    """JSON value with numbers as floats and instants as instants, for comparison."""
    if isinstance(value, dict):
        return {name: same(member) for name, member in value.items()}
    if isinstance(value, list):
        return [same(item) for item in value]
    if isinstance(value, str) and value[:4].isdigit() and "T" in value:
        return datetime.fromisoformat(value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_generated_files_are_current() -> None:
    done = subprocess.run([sys.executable, "tools/generate_ocpp_types.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_a_changed_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools import generate_ocpp_types as generator

    monkeypatch.setattr(generator, "OUTPUT", tmp_path)
    assert generator.main(["--check"]) == 1
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    (tmp_path / "v21.py").write_text("stale", encoding="utf-8")
    assert generator.main(["--check"]) == 1


def test_message_counts() -> None:
    assert len(MESSAGES) == 309
    assert {version: len(table) for version, table in TABLES.items()} == {"2.0.1": 64, "2.1": 91}
    assert set(TABLES["2.0.1"]) <= set(TABLES["2.1"])
    assert set(TABLES["2.1"]) >= FROM_STATION | FROM_BOTH


@pytest.mark.parametrize("extent", ["minimal", "maximal"])
def test_every_type_round_trips(extent: Any) -> None:
    for message in MESSAGES:
        payload = sample(message, extent)
        validator(message).validate(payload)
        value = codec.decode(*message, json.dumps(payload).encode())
        again = json.loads(codec.encode(*message, value))
        assert same(again) == same(payload), message


@pytest.mark.parametrize(("version", "count"), [("2.0.1", 244), ("2.1", 555)])
def test_every_property_name_survives(version: Version, count: int) -> None:
    declared: set[str] = set()
    survived: set[str] = set()
    for message in (m for m in MESSAGES if m[0] == version):
        root = schema(message)
        for part in (root, *root.get("definitions", {}).values()):
            declared |= set(part.get("properties", {}))
        value = codec.decode(*message, json.dumps(sample(message, "maximal")).encode())
        survived |= set(property_names(json.loads(codec.encode(*message, value))))
    assert len(declared) == count
    assert declared <= survived


def test_the_schemas_notice_is_kept() -> None:
    for folder in FOLDERS.values():
        text = (ROOT / f"src/gridtide/wire/ocpp/generated/{folder}.py").read_text(encoding="utf-8")
        assert "GENERATED" in text.splitlines()[0]
        assert "Open Charge Alliance, Creative Commons Attribution-NoDerivatives 4.0" in text
