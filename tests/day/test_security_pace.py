"""Security events are told one by one, and a flood of them is not."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gridtide.run.csms.security_events import CRITICAL_201
from gridtide.run.security_pace import DISTINCT, MORE, SOURCES, TEXT_CHARS, WINDOW_S, SecurityPace
from tests.day.wire_site import WireSite, on_wire, world

TAMPER = "TamperDetectionActivated: case open (critical)"


def test_tampering_between_other_security_events_is_told() -> None:
    async def scenario() -> None:
        here = WireSite(world(1))

        async def told(source: str) -> Any:
            await asyncio.sleep(0.1)
            found = [event for event in here.store.events(20) if event.code == "security" and event.source == source]
            return next(event for event in found if not event.seen)

        for text in ("InvalidMessages: x", TAMPER, TAMPER, "InvalidMessages: y"):
            here.site.note("security", "bay-1", text)
            await asyncio.sleep(0.1)
        for name in ("A", "B"):
            here.site.note("security", "ocpp", f"certificate {name} expires: renew it")
            await asyncio.sleep(0.1)
        bay, listener = await told("bay-1"), await told("ocpp")
        assert bay.text.startswith(f"{TAMPER} | InvalidMessages: y")
        assert bay.count == 3
        assert "certificate A expires" in listener.text
        assert "certificate B expires" in listener.text
        await here.site.mark_seen(bay.id, "test")
        here.site.note("security", "bay-1", "InvalidMessages: z")
        assert TAMPER not in (await told("bay-1")).text, "people have seen it"

    on_wire(scenario)


def test_a_flood_is_bounded_and_does_not_hide_tampering() -> None:
    pace = SecurityPace()
    flood = [pace.words("bay-1", f"InvalidMessages: {n}", 0.0) for n in range(1_000)]
    told = [text for text in flood if text is not None]
    assert told[:DISTINCT] == [f"InvalidMessages: {n}" for n in range(DISTINCT)]
    assert [text.split(" | ")[0] for text in told[DISTINCT:]] == [MORE]
    assert (pace.words("bay-1", TAMPER, 1.0) or "").startswith(TAMPER)
    assert pace.words("bay-1", TAMPER + "!", 1.0) is None
    assert pace.words("bay-2", "InvalidMessages: 1", 1.0) is not None
    assert pace.words("bay-1", "InvalidMessages: 1", WINDOW_S) is not None


def test_texts_stay_short_and_keep_what_is_critical() -> None:
    pace, now_s = SecurityPace(), 0.0
    pace.words("s", TAMPER, now_s)
    text: str | None = ""
    for number in range(200):
        now_s += WINDOW_S
        text = pace.words("s", f"kind {number}: {'x' * 300}", now_s)
    assert text is not None
    assert text.startswith(TAMPER)
    assert len(text) <= TEXT_CHARS
    assert len(pace._unseen["s"]) == DISTINCT


@given(
    st.lists(st.tuples(st.floats(0.0, 30.0), st.sampled_from([*sorted(CRITICAL_201), "a", "b"]), st.integers(0, 99)))
)
def test_never_more_than_the_budget_in_any_minute(heard: list[tuple[float, str, int]]) -> None:
    pace, now_s = SecurityPace(), 0.0
    told: list[tuple[float, str]] = []
    for wait_s, kind, number in heard:
        now_s += wait_s
        if pace.words("s", f"{kind}: {number}", now_s) is not None:
            told.append((now_s, f"{kind}: {number}"))
    for at_s, _ in told:
        within = [text for then_s, text in told if at_s <= then_s < at_s + WINDOW_S]
        assert len(within) <= DISTINCT + len(CRITICAL_201) + 1
        assert len(set(within)) >= len(within) - 1, "only the one that stands for more may be named again"


def test_quiet_sources_are_forgotten() -> None:
    pace = SecurityPace()
    for number in range(5 * SOURCES):
        pace.words(f"s{number}", "x", float(number))
    assert len(pace._told) <= SOURCES
