"""What a decoded file may hold at all: TOML's hexadecimal numbers and dotted keys make numbers and nestings without end."""

from typing import Final

MAX_DEPTH: Final = 16
PRINTABLE_BITS: Final = 13_000
"""Python prints whole numbers of up to 4300 digits."""


def unbounded(raw: object, bits: int = 63) -> str:
    """What is too big in a decoded document, as words that go on after its name; empty when nothing is.

    Whole numbers fit `bits` and a sign; tables and arrays nest at most 16 deep.
    """
    level, depth = [raw], 0
    while level:
        if any(isinstance(item, int) and item.bit_length() > bits for item in level):
            return f"holds a whole number of more than {bits} bits: give one that a meter or a bill can show"
        level = [inner for item in level for inner in _members(item)]
        depth += 1
        if depth > MAX_DEPTH:
            return f"nests tables deeper than {MAX_DEPTH}: no field lies that deep"
    return ""


def _members(item: object) -> list[object]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []
