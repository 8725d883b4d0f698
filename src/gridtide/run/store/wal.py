"""Reading the write-ahead log before SQLite does: has anything in it been damaged after it was written?

SQLite takes the log up to the first frame whose checksum fails and drops the rest without a word: right after a power cut, where
the rest was never acknowledged, wrong after a flipped bit, where it was. Layout: https://www.sqlite.org/fileformat2.html#walformat
"""

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
MAGIC: Final = 0x377F0682
"""With the lowest bit set, checksums run over big-endian words."""
FRAMES_AT_ONCE: Final = 512
_WORD: Final = 0xFFFF_FFFF
Words = NDArray[np.uint32]
Matrix = tuple[int, int, int, int]


class Log(Struct, frozen=True, kw_only=True):
    """What the log beside a store holds."""

    frames: int
    """Frames up to the last commit that SQLite will take."""
    state: Literal["sound", "cut", "broken"]
    """`cut`: one commit at the end does not verify, as a power cut leaves it. `broken`: commits follow what does not verify, or
    the log's header is damaged: acknowledged rows would be lost."""
    salts: str
    """Hexadecimal; they change when the log begins anew. Empty without a log."""
    bytes: int = 0
    """Length of that part of the file."""


NOTHING: Final = Log(frames=0, state="sound", salts="")


def beside(path: Path) -> Path:
    """The log of the store at `path`."""
    return path.with_name(f"{path.name}-wal")


def salts(path: Path) -> str:
    """Salts of the log of the store at `path`, or empty."""
    try:
        with beside(path).open("rb") as file:
            header = file.read(HEADER_BYTES)
    except FileNotFoundError:
        return ""
    return header[16:24].hex() if len(header) == HEADER_BYTES else ""


def look(path: Path) -> Log:
    """Walk the log of the store at `path`; some 5 ms a MB. Nothing is changed. Raises OSError where it cannot be read."""
    log = beside(path)
    if not log.exists() or log.stat().st_size <= HEADER_BYTES:
        return NOTHING
    with log.open("rb") as file:
        header = file.read(HEADER_BYTES)
        magic, _, page_bytes, _, _, _, first, second = struct.unpack(">8I", header)
        order: Literal[">", "<"] = ">" if magic & 1 else "<"
        if magic & ~1 != MAGIC or page_bytes not in (2**power for power in range(9, 17)):
            return Log(frames=0, state="broken", salts="")
        words = np.frombuffer(header[:24], dtype=f"{order}u4").astype(np.uint32)
        if _after((0, 0), words) != (first, second):
            return Log(frames=0, state="broken", salts="")
        return _walk(file, page_bytes, order, header[16:24], (first, second))


def _walk(file: BinaryIO, page_bytes: int, order: str, salt: bytes, sums: tuple[int, int]) -> Log:
    """Follow the chain of checksums; behind its end only look for commits of the same generation."""
    taken, good, follows, lost = 0, True, list[bool](), False
    for number, (is_commit, own_salt, told, power, added) in enumerate(_frames(file, page_bytes, order), 1):
        if good:
            sums = _step(power, sums, added)
            good = own_salt == salt and sums == told
            # An older generation's frame never fits this chain: only its salts are damaged.
            lost = sums == told and not good
            if good and is_commit:
                taken = number
        if not good and own_salt == salt:
            follows.append(is_commit)
    # What was rolled back or killed before its commit has none; of a power cut only the very last may be there.
    lost = lost or True in follows[:-1]
    state: Literal["sound", "cut", "broken"] = "broken" if lost else "cut" if follows and follows[-1] else "sound"
    length = HEADER_BYTES + taken * (FRAME_HEADER_BYTES + page_bytes)
    return Log(frames=taken, state=state, salts=salt.hex(), bytes=length)


def _frames(
    file: BinaryIO, page_bytes: int, order: str
) -> Iterator[tuple[bool, bytes, tuple[int, int], Matrix, tuple[int, int]]]:
    """Of every whole frame: commit?, salts, stored checksum, and what it does to the checksum before it."""
    size = FRAME_HEADER_BYTES + page_bytes
    power, weights = _chain((8 + page_bytes) // 8)
    while True:
        data = file.read(size * FRAMES_AT_ONCE)
        rows = np.frombuffer(data[: len(data) // size * size], dtype=np.uint8).reshape(-1, size)
        if not len(rows):
            return
        summed = np.concatenate([rows[:, :8], rows[:, FRAME_HEADER_BYTES:]], axis=1)
        words = np.ascontiguousarray(summed).view(f"{order}u4").astype(np.uint32)
        added = [(words * weight).sum(axis=1, dtype=np.uint32) for weight in weights]
        for row, one, two in zip(rows, *added, strict=True):
            _, pages, told_one, told_two = struct.unpack(">II8xII", row[:FRAME_HEADER_BYTES].tobytes())
            yield pages != 0, row[8:16].tobytes(), (told_one, told_two), power, (int(one), int(two))


@cache
def _chain(pairs: int) -> tuple[Matrix, tuple[Words, Words]]:
    """The checksum is linear: with x, y a pair of words, s' = s + t + x and t' = t + y + s'. So after `pairs` pairs it is a power
    of a matrix on what was before, plus a weighted sum of the words, all modulo 2^32."""
    weights = np.zeros((2, 2 * pairs), dtype=np.uint32)
    power: Matrix = (1, 0, 0, 1)
    for index in range(pairs - 1, -1, -1):
        a, b, c, d = power
        weights[0, 2 * index], weights[0, 2 * index + 1] = (a + b) & _WORD, b
        weights[1, 2 * index], weights[1, 2 * index + 1] = (c + d) & _WORD, d
        power = cast(Matrix, tuple(value & _WORD for value in (a + b, a + 2 * b, c + d, c + 2 * d)))
    return power, (weights[0], weights[1])


def _step(power: Matrix, sums: tuple[int, int], added: tuple[int, int]) -> tuple[int, int]:
    a, b, c, d = power
    one, two = sums
    return (a * one + b * two + added[0]) & _WORD, (c * one + d * two + added[1]) & _WORD


def _after(sums: tuple[int, int], words: Words) -> tuple[int, int]:
    power, weights = _chain(len(words) // 2)
    added = [int((words * weight).sum(dtype=np.uint32)) for weight in weights]
    return _step(power, sums, (added[0], added[1]))
