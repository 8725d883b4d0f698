"""The log on stderr: for people and as JSON lines; secrets and broken lines never get there."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gridtide.app.logs import HIDDEN, configure


@pytest.fixture(autouse=True)
def reset() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    sink = configure(logging.INFO, "json")
    log = structlog.get_logger("x")
    log.info("decision", evse="bay-1\nINJECTED", old_kw=1.5, new_kw=float("nan"), inputs=("a", "b"), odd=object)
    log.debug("not told")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("broke")
    sink.close()
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["evse"]) == ("decision", "info", "bay-1\nINJECTED")
    assert (first["old_kw"], first["new_kw"], first["inputs"]) == (1.5, None, ["a", "b"])
    assert first["timestamp"].endswith("Z")
    assert "ValueError: why" in second["exception"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_printed(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    sink = configure(logging.INFO, log_format)  # type: ignore[arg-type]
    structlog.get_logger("x").info("seen", password="hunter2", id_token="hunter2", api_key="hunter2", mapping="shown")
    sink.close()
    told = capsys.readouterr().err
    assert "hunter2" not in told
    assert told.count(HIDDEN) == 3
    assert "shown" in told


def test_level(capsys: pytest.CaptureFixture[str]) -> None:
    sink = configure(logging.WARNING, "json")
    structlog.get_logger("x").info("no")
    structlog.get_logger("x").warning("yes")
    sink.close()
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["yes"]
