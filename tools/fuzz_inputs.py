"""Makes hostile inputs: bit flips, cuts, and changes that know JSON, TOML and key = value text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

TOKEN = re.compile(rb'"(?:\\.|[^"\\])*"|-?\d[\d.eE+-]*|true|false|null|[A-Za-z_][\w.-]*|\s+|.', re.DOTALL)
VALUES: tuple[bytes, ...] = (
    b"null", b"true", b"0", b"-0", b"-1", b"1.0", b"1e308", b"1e400", b"-1e-400", b"9" * 25, b"9" * 5000, b"0.1" + b"0" * 400,
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"2147483648", b"NaN", b"Infinity", b"0x10", b"nan",
    b"0x" + b"f" * 5000,
    b'""', b'"x"', b'"' + b"a" * 3000 + b'"', b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xe2\x80\xae\xcc\x88"',
    b'"\xf0\x9f\x9a\x97"', b'"2026-13-01T00:00:00Z"', b'"222222017-01-01T00:00:00Z"', b'"2026-01-01T00:00:00"',
    b'"2026-01-01T00:00:00.000000000000Z"', b'"0001-01-01T00:00:00+23:59"', b'"2026-01-01T24:00:00Z"', b'"${jndi:x}"',
    b'"../../etc/passwd"', b"[]", b"{}", b"[[]]", b'{"vendorId":"v","x":[null]}', b"[1,2,3]", b'{"a":{"a":{"a":1}}}',
)  # fmt: skip
SPICES: tuple[bytes, ...] = (
    b"[", b"]", b"{", b"}", b'"', b"'", b"\\", b",", b":", b"=", b"#", b"\n", b"\r", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"%", b"..", b"-",
)  # fmt: skip

Change = Callable[[random.Random, list[bytes]], None]


def mutated(source: random.Random, seeds: Sequence[bytes], tokens: Sequence[list[bytes]]) -> bytes:
    """One input: a seed changed by a few steps, half of the time in its tokens, else in its bytes."""
    number = source.randrange(len(seeds))
    if source.random() < 0.5:
        parts = tokens[number].copy()
        for _ in range(source.choice((1, 1, 1, 2, 3))):
            if parts:
                source.choice(CHANGES)(source, parts)
        return b"".join(parts)
    data = bytearray(seeds[number])
    for _ in range(source.choice((1, 1, 2, 4))):
        _change_bytes(source, data, seeds)
    return bytes(data)


def tokenised(seed: bytes) -> list[bytes]:
    """The tokens of a seed; joined they are the seed again."""
    return TOKEN.findall(seed)


def _change_bytes(source: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    place = source.randrange(len(data) + 1)
    match source.randrange(6):
        case 0 if place < len(data):
            data[place] ^= 1 << source.randrange(8)
        case 1:
            del data[place:]
        case 2:
            del data[place : place + source.randint(1, 8)]
        case 3:
            data[place:place] = source.choice(SPICES)
        case 4:
            other = source.choice(seeds)
            data[place:] = other[source.randrange(len(other) + 1) :]
        case _:
            data[place:place] = bytes(data[place : place + source.randint(1, 16)])


def _replace(source: random.Random, parts: list[bytes]) -> None:
    parts[source.randrange(len(parts))] = source.choice(VALUES)


def _remove(source: random.Random, parts: list[bytes]) -> None:
    place = source.randrange(len(parts))
    del parts[place : place + source.randint(1, 4)]


def _repeat(source: random.Random, parts: list[bytes]) -> None:
    """A run of tokens twice: duplicate keys, doubled items."""
    place = source.randrange(len(parts))
    run = parts[place : place + source.choice((2, 4, 8))]
    parts[place:place] = run * source.choice((1, 1, 1, 40))


def _nest(source: random.Random, parts: list[bytes]) -> None:
    """A value inside many brackets, sometimes far beyond every depth limit."""
    place, depth = source.randrange(len(parts)), source.choice((1, 8, 31, 33, 2000))
    opened, closed = source.choice(((b"[", b"]"), (b'{"a":', b"}")))
    parts[place] = opened * depth + parts[place] + closed * depth


def _dot(source: random.Random, parts: list[bytes]) -> None:
    """A dotted key: TOML nests thousands of tables in a short file without recursion of its parser."""
    names = [index for index, part in enumerate(parts) if part[:1].isalpha()]
    if names:
        parts[source.choice(names)] += b".a" * (1100 if source.random() < 0.01 else source.choice((1, 40)))


def _swap(source: random.Random, parts: list[bytes]) -> None:
    one, other = source.randrange(len(parts)), source.randrange(len(parts))
    parts[one], parts[other] = parts[other], parts[one]


def _rename(source: random.Random, parts: list[bytes]) -> None:
    """An unknown key, or a known string grown or cut."""
    texts = [index for index, part in enumerate(parts) if part[:1] == b'"']
    if texts:
        place = source.choice(texts)
        inner = parts[place][1:-1]
        parts[place] = b'"' + source.choice((inner + b"X", inner[:-1], inner * 40, inner.upper(), b"")) + b'"'


def _insert(source: random.Random, parts: list[bytes]) -> None:
    parts.insert(source.randrange(len(parts) + 1), source.choice(VALUES) + source.choice((b",", b"", b":")))


CHANGES: tuple[Change, ...] = (_replace, _replace, _remove, _repeat, _nest, _dot, _swap, _rename, _insert)
