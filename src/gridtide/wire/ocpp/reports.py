"""A report that comes in parts (NotifyReport and its kin): seqNo from 0, `tbc` while more is to come; bounded."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

Taken: TypeAlias = Literal["more", "complete", "duplicate", "foreign", "gap", "after_end", "too_much"]

MAX_PARTS: Final = 2_000
MAX_ITEMS: Final = 50_000


class ReportParts:
    """Puts the parts of one report together. Parts may come late or twice, but only those of its request count."""

    def __init__(self, request_id: int, max_parts: int = MAX_PARTS, max_items: int = MAX_ITEMS) -> None:
        """Wait for the report asked for under `request_id`, of at most so many parts and items."""
        self.request_id: Final = request_id
        self._max_parts, self._max_items = max_parts, max_items
        self._parts: dict[int, tuple[Any, ...]] = {}
        self._items = 0
        self._last: int | None = None

    def add(self, request_id: int, seq_no: int, items: tuple[Any, ...], *, is_more_to_come: bool) -> Taken:
        """Take one part. `gap`: kept, but an earlier one is missing; `foreign`, `duplicate`, `after_end` and `too_much`
        (beyond the bounds) leave everything as it was."""
        if request_id != self.request_id:
            return "foreign"
        if seq_no in self._parts:
            return "duplicate"
        ends_early = not is_more_to_come and any(number > seq_no for number in self._parts)
        if seq_no < 0 or ends_early or (self._last is not None and (seq_no > self._last or not is_more_to_come)):
            return "after_end"
        if seq_no >= self._max_parts or self._items + len(items) > self._max_items:
            return "too_much"
        self._parts[seq_no] = items
        self._items += len(items)
        if not is_more_to_come:
            self._last = seq_no
        if self.missing:
            return "gap"
        return "complete" if self.is_complete else "more"

    @property
    def is_complete(self) -> bool:
        """Whether the last part and all before it are here."""
        return self._last is not None and len(self._parts) == self._last + 1

    @property
    def missing(self) -> tuple[int, ...]:
        """Sequence numbers below the highest one heard that did not come."""
        return tuple(number for number in range(max(self._parts, default=-1)) if number not in self._parts)

    @property
    def items(self) -> tuple[Any, ...]:
        """The items so far, in the order of the report."""
        return tuple(item for number in sorted(self._parts) for item in self._parts[number])
