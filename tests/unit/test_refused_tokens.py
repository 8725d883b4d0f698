"""Cards that were refused: bounded, newest first, gone when the card may charge or its holder is erased."""

import asyncio

from gridtide.run.csms.refused_tokens import KEPT, RefusedTokens
from gridtide.run.csms.registry import Registry, TokenEntry
from gridtide.run.store import MemoryStore

NOW_S = 1_767_268_800.0


def test_the_latest_stands_first_and_tries_are_counted() -> None:
    kept = RefusedTokens()
    kept.note("bay-1", "04AB", "ISO14443", "Unknown", NOW_S)
    kept.note("bay-1", "other", "Central", "Blocked", NOW_S + 1)
    kept.note("bay-1", "04ab", "ISO14443", "Unknown", NOW_S + 2)
    kept.note("bay-2", "04AB", "ISO14443", "Unknown", NOW_S + 3)
    assert [(one.id_token, one.station, one.count, one.last_s - NOW_S) for one in kept.all()] == [
        ("04AB", "bay-2", 1, 3.0),
        ("04ab", "bay-1", 2, 2.0),
        ("other", "bay-1", 1, 1.0),
    ]


def test_no_more_than_the_latest_are_kept() -> None:
    kept = RefusedTokens()
    for number in range(KEPT + 50):
        kept.note("bay-1", f"card-{number}", "ISO14443", "Unknown", NOW_S + number)
    assert len(kept.all()) == KEPT == 200
    assert (kept.all()[0].id_token, kept.all()[-1].id_token) == ("card-249", "card-50")


def test_a_card_that_is_registered_leaves_the_list_and_a_blocked_one_stays() -> None:
    registry = Registry(MemoryStore(), accepts_unknown=False)
    for name in ("one", "two"):
        registry.refused.note("bay-1", name, "ISO14443", "Unknown", NOW_S)
    asyncio.run(registry.put_token(TokenEntry(id_token="ONE"), "test", NOW_S))
    asyncio.run(registry.put_token(TokenEntry(id_token="two", status="Blocked"), "test", NOW_S))
    assert [one.id_token for one in registry.refused.all()] == ["two"]
