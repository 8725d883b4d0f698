"""Reports that come in parts: order, gaps, repeats, strangers, bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.wire.ocpp.reports import ReportParts


def test_in_order() -> None:
    parts = ReportParts(5)
    assert parts.add(5, 0, ("a", "b"), is_more_to_come=True) == "more"
    assert not parts.is_complete
    assert parts.add(5, 1, ("c",), is_more_to_come=False) == "complete"
    assert (parts.items, parts.missing, parts.is_complete) == (("a", "b", "c"), (), True)


def test_a_report_of_one_part_may_be_empty() -> None:
    parts = ReportParts(5)
    assert parts.add(5, 0, (), is_more_to_come=False) == "complete"
    assert parts.items == ()


def test_a_gap_is_seen_and_can_be_filled() -> None:
    parts = ReportParts(5)
    assert parts.add(5, 1, ("b",), is_more_to_come=True) == "gap"
    assert parts.missing == (0,)
    assert parts.add(5, 2, ("c",), is_more_to_come=False) == "gap"
    assert not parts.is_complete
    assert parts.add(5, 0, ("a",), is_more_to_come=True) == "complete"
    assert parts.items == ("a", "b", "c")


def test_repeats_strangers_and_what_comes_after_the_end_change_nothing() -> None:
    parts = ReportParts(5)
    parts.add(5, 0, ("a",), is_more_to_come=True)
    parts.add(5, 1, ("b",), is_more_to_come=False)
    assert parts.add(5, 1, ("x",), is_more_to_come=True) == "duplicate"
    assert parts.add(6, 2, ("x",), is_more_to_come=True) == "foreign"
    assert parts.add(5, 2, ("x",), is_more_to_come=True) == "after_end"
    assert parts.add(5, -1, ("x",), is_more_to_come=True) == "after_end"
    assert parts.items == ("a", "b")


def test_an_end_before_parts_that_came_is_no_end() -> None:
    parts = ReportParts(5)
    parts.add(5, 3, ("d",), is_more_to_come=True)
    assert parts.add(5, 1, ("b",), is_more_to_come=False) == "after_end"
    assert parts.add(5, 4, ("e",), is_more_to_come=False) == "gap"
    assert parts.missing == (0, 1, 2)


def test_tbc_without_end_is_bounded() -> None:
    parts = ReportParts(5, max_parts=3, max_items=100)
    told = [parts.add(5, number, ("x",), is_more_to_come=True) for number in range(6)]
    assert told == ["more"] * 3 + ["too_much"] * 3
    assert len(parts.items) == 3
    few = ReportParts(5, max_parts=100, max_items=4)
    assert few.add(5, 0, ("x",) * 4, is_more_to_come=True) == "more"
    assert few.add(5, 1, ("x",), is_more_to_come=False) == "too_much"
    assert not few.is_complete


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.data())
def test_any_order_with_repeats_gives_the_whole_report_once(sizes: list[int], data: st.DataObject) -> None:
    pieces = [tuple(f"{number}.{item}" for item in range(size)) for number, size in enumerate(sizes)]
    order = data.draw(st.permutations(range(len(pieces))))
    order = [*order, *data.draw(st.lists(st.sampled_from(range(len(pieces))), max_size=4))]
    parts, told = ReportParts(1), []
    for number in order:
        told.append(parts.add(1, number, pieces[number], is_more_to_come=number < len(pieces) - 1))
    assert parts.items == tuple(item for piece in pieces for item in piece)
    assert told.count("complete") == 1
    assert told.count("duplicate") == len(order) - len(pieces)


Message = tuple[int, int, int, bool]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-2, 9), st.integers(0, 9), st.booleans()), max_size=40))
def test_whatever_a_station_says_it_stays_bounded_and_consistent(said: list[Message]) -> None:
    parts = ReportParts(1, max_parts=8, max_items=20)
    for request_id, seq_no, size, more in said:
        before = parts.items
        told = parts.add(request_id, seq_no, ("x",) * size, is_more_to_come=more)
        if told in ("foreign", "duplicate", "after_end", "too_much"):
            assert parts.items == before
        assert (told == "complete") <= parts.is_complete
    assert len(parts.items) <= 20
    assert not (parts.is_complete and parts.missing)
