"""20,000 hostile inputs into every parser that faces bytes of others; `make fuzz` runs a million each."""

from __future__ import annotations

import random
import time

import pytest

from tools import fuzz
from tools.fuzz_inputs import mutated, tokenised
from tools.fuzz_parsers import FRAMES, PARSERS

COUNT = 20_000
FAR_TOO_SLOW_S = 1.0
"""Machines that run tests are busy: here only what explodes is a finding, `make fuzz` has the sharp limit."""


@pytest.mark.parametrize("parser", sorted(PARSERS))
def test_nothing_is_uncaught(parser: str) -> None:
    result = fuzz.run(parser, COUNT, seed=2, limit_s=FAR_TOO_SLOW_S, held_mib=fuzz.highest_mib())
    assert result.findings == []
    assert result.inputs == COUNT


def test_what_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(data: bytes) -> None:
        if b"null" in data:
            raise KeyError("null")

    def slow(data: bytes) -> None:
        if len(data) > 3_000:
            until_s = time.thread_time() + 0.002
            while time.thread_time() < until_s:
                pass

    monkeypatch.setitem(PARSERS, "frame", lambda: (list(FRAMES), fragile))
    found = fuzz.run("frame", 2_000, held_mib=fuzz.highest_mib())
    assert found.findings
    assert all("KeyError" in text for text in found.findings)
    assert fuzz.main(["--parser", "frame", "--count", "2000"]) == 1
    monkeypatch.setitem(PARSERS, "frame", lambda: (list(FRAMES), slow))
    assert any("took" in text for text in fuzz.run("frame", 2_000, limit_s=0.001).findings)
    monkeypatch.setattr(fuzz, "RSS_LIMIT_MIB", 1)
    assert any("resident" in text for text in fuzz.run("frame", 1, limit_s=FAR_TOO_SLOW_S).findings)


def test_inputs_are_the_same_for_a_seed_and_differ_within_it() -> None:
    tokens = [tokenised(frame) for frame in FRAMES]
    assert [b"".join(parts) for parts in tokens] == list(FRAMES)
    made = [[mutated(source, FRAMES, tokens) for _ in range(500)] for source in (random.Random(1), random.Random(1))]
    assert made[0] == made[1]
    assert len(set(made[0])) > 400
    assert sum(item in FRAMES for item in made[0]) < 50


def test_a_fair_share_of_payloads_gets_through() -> None:
    """Inputs that are all refused at the first byte would prove little."""
    from gridtide.wire.ocpp import codec
    from gridtide.wire.ocpp.errors import RemoteProtocolError

    seeds, _ = PARSERS["payload"]()
    assert len({seed.partition(b"\n")[0] for seed in seeds}) == 309
    source, tokens = random.Random(3), [tokenised(seed) for seed in seeds]
    verdicts: dict[str, int] = {}
    for _ in range(6_000):
        name, _, body = mutated(source, seeds, tokens).partition(b"\n")
        parts = name.decode("utf-8", "replace").split(":")
        if len(parts) != 3:
            continue
        try:
            codec.decode(parts[0], parts[1], parts[2], body)  # type: ignore[arg-type]
            verdict = "accepted"
        except RemoteProtocolError as defect:
            verdict = defect.code
        except KeyError:
            continue
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
    assert verdicts["accepted"] > 100
    for code in (
        "OccurrenceConstraintViolation",
        "PropertyConstraintViolation",
        "TypeConstraintViolation",
        "FormatViolation",
    ):
        assert verdicts[code] > 20
