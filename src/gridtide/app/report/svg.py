"""A few SVG shapes as strings, an axis, and labels that keep apart. Here text is escaped and coordinates rounded."""

import math
from collections.abc import Iterable, Sequence
from html import escape

from msgspec import Struct

Point = tuple[float, float]
_MEAN_GLYPH_EM = 0.58
"""Mean width of a glyph of a wide sans, em: labels keep apart in any system's font."""


class Scale(Struct, frozen=True):
    """A linear axis: value `low` is drawn at pixel `at_low`, `high` at `at_high`."""

    low: float
    high: float
    at_low: float
    at_high: float

    def at(self, value: float) -> float:
        """Pixel of a value; the axis' foot for one that is not finite."""
        if not math.isfinite(value) or self.high == self.low:
            return self.at_low
        return self.at_low + (value - self.low) / (self.high - self.low) * (self.at_high - self.at_low)


def nice_step(span: float, parts: int) -> float:
    """The step of 1, 2, 4 or 5 times a power of ten that divides `span` into about `parts`."""
    if not math.isfinite(span) or span <= 0:
        return 1.0
    raw = span / parts
    power = 10.0 ** math.floor(math.log10(raw))
    return next(k * power for k in (1.0, 2.0, 4.0, 5.0, 10.0) if k * power >= raw * 0.999)


def nice_range(low: float, high: float, parts: int) -> tuple[float, float, float]:
    """(low, high, step) of an axis that covers both values and is never empty."""
    low, high = (low, high) if math.isfinite(low) and math.isfinite(high) else (0.0, 1.0)
    if high - low < 1e-6 * max(1.0, abs(high)):
        low, high = max(low - 0.5, 0.0) if low >= 0 else low - 0.5, high + 0.5
    step = nice_step(high - low, parts)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step


def ticks(low: float, high: float, step: float) -> list[float]:
    """Multiples of `step` from `low` to `high`, both included."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def text_width(content: str, size_px: float = 12.5) -> float:
    """About how wide a text is drawn, px."""
    return len(content) * size_px * _MEAN_GLYPH_EM


def spread(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float, gap: float = 4.0) -> list[float]:
    """Centres as near to `wanted` (rising) as keeps labels of the given sizes apart and between `low` and `high`."""
    centres = list(wanted)
    edge = low
    for i, size in enumerate(sizes):
        centres[i] = max(centres[i], edge + size / 2)
        edge = centres[i] + size / 2 + gap
    edge = high
    for i in range(len(centres) - 1, -1, -1):
        centres[i] = min(centres[i], edge - sizes[i] / 2)
        edge = centres[i] - sizes[i] / 2 - gap
    return centres


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start") -> str:
    """A text whose baseline is at `y`."""
    return f'<text x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}" class="{css}">{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{_px(x1)}" y1="{_px(y1)}" x2="{_px(x2)}" y2="{_px(y2)}" class="{css}"/>'


def rect(x: float, y: float, width: float, height: float, css: str) -> str:
    """A filled box; a negative extent is drawn as none."""
    return (
        f'<rect x="{_px(x)}" y="{_px(y)}" width="{_px(max(width, 0))}" height="{_px(max(height, 0))}" class="{css}"/>'
    )


def circle(x: float, y: float, radius: float, css: str) -> str:
    """A dot."""
    return f'<circle cx="{_px(x)}" cy="{_px(y)}" r="{_px(radius)}" class="{css}"/>'


def path(points: Iterable[Point], css: str, closed: bool = False) -> str:
    """A line through points, or the area they enclose."""
    route = "L".join(f"{_px(x)} {_px(y)}" for x, y in points)
    return f'<path d="M{route}{"Z" if closed else ""}" class="{css}"/>' if route else ""


def figure_svg(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    """The drawing with the words a screen reader says for it."""
    head = f'<svg viewBox="0 0 {_px(width)} {_px(height)}" width="100%" role="img" aria-label="{escape(label)}">'
    return head + "".join(parts) + "</svg>"


def power_axis(scale: Scale, step: float, left: float, right: float, unit: str) -> list[str]:
    """Grid lines with their values at the left edge, and the unit above; an axis that is cut says where it starts."""
    drawn = []
    for value in ticks(scale.low, scale.high, step):
        y = scale.at(value)
        drawn.append(line(left, y, right, y, "g"))
        drawn.append(text(left - 6, y + 4, f"{value:g}".replace("-", "\u2212"), anchor="end"))
    cut = f"{unit}, axis cut at {scale.low:g}" if scale.low > 0 else unit
    return [*drawn, text(0, scale.at_high - 14, cut)]


def _px(value: float) -> str:
    shown = f"{value if math.isfinite(value) else 0.0:.1f}"
    return shown.removesuffix(".0")
