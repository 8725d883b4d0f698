"""Heights on the three A4 sheets: drawings take what the text leaves, so that a long text never pushes out the foot."""

import math

from msgspec import Struct

_ROOM_PX = 967.0
"""Between head and foot of a sheet, with a little to spare for another system's fonts."""
_GLYPH_EM = 0.50
_CAPTION_LINE = 18.0


class NoteStyle(Struct, frozen=True):
    """How the notes are set: class name, size, line height and width, px."""

    css: str
    size: float
    line: float
    width: float


_NOTE_STYLES = (NoteStyle("", 12, 18, 620), NoteStyle("p11", 11, 16, 680), NoteStyle("p9", 9, 12, 680))
_LEAST_DRAWING = 130.0
_WATERFALL = 196.0
_STAIRCASE = 264.0
_HALF_DRAWING = 220.0
_COMFORT = 350.0


def lines(text: str, size_px: float, width_px: float) -> int:
    """How many lines a text takes, rather one too many than one too few."""
    return math.ceil(len(text) * size_px * _GLYPH_EM / width_px)


def first_sheet(title: str, lead: str, noted: int, bare: int, caption: str) -> tuple[float, bool]:
    """Height of the waterfall, px, and whether the bill is set tight; `noted`, `bare`: its rows with a note and without."""
    head = 78 + 40 * lines(title, 31, 600) + 24 * lines(lead, 16, 600) + 120
    drawing = 62 + _CAPTION_LINE * lines(caption, 12, 620)
    loose = head + 84 + 49 * noted + 33 * bare + 36 + drawing
    if loose + _LEAST_DRAWING + 20 <= _ROOM_PX:
        return min(_ROOM_PX - loose, _WATERFALL), False
    tight = head + 84 + 27 * (noted + bare) + 36 + drawing
    return min(max(_ROOM_PX - tight, _LEAST_DRAWING), _WATERFALL), True


def second_sheet(captions: tuple[str, str, str, str]) -> tuple[float, float]:
    """Heights of the staircase and of the two drawings below it, px; `captions` are those of figures 2 to 5."""
    beside = max(lines(captions[1], 12, 324), lines(captions[2], 12, 324))
    text_lines = lines(captions[0], 12, 620) + beside + lines(captions[3], 12, 620)
    left = _ROOM_PX - (58 + 60 + 60 + 118) - _CAPTION_LINE * text_lines
    each = min(max(left / 2, _LEAST_DRAWING), _STAIRCASE)
    return each, each


def third_sheet(captions: tuple[str, str, str], notes: str) -> tuple[float, float, NoteStyle]:
    """Heights of the load duration and of the two drawings below it, px, and how the notes are set.

    `captions` are those of figures 6 to 8.
    """
    beside = max(lines(captions[1], 12, 324), lines(captions[2], 12, 324))
    fixed = 58 + 60 + 44 + _CAPTION_LINE * (lines(captions[0], 12, 620) + beside)
    for style in _NOTE_STYLES:
        left = _ROOM_PX - fixed - style.line * lines(notes, style.size, style.width)
        if left >= _COMFORT:
            break
    each = min(max(left / 2, _LEAST_DRAWING), _STAIRCASE)
    return each, min(each, _HALF_DRAWING), style
