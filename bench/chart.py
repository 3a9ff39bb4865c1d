"""A horizontal bar chart in SVG, written by hand: panels of bars, each panel on its own scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from bench.report import spread

WIDTH = 860
NAME_WIDTH = 270
VALUE_WIDTH = 190
BAR, GAP, TITLE, MARGIN = 16, 6, 34, 14
OURS, OTHERS, WHISKER = "#0b7a75", "#9aa5b1", "#2b2b2b"
_FONT = "font-family='system-ui, sans-serif' font-size='12' fill='#1f2933'"


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars under a title: the name and the values of each, of which the median is drawn."""

    title: str
    bars: Sequence[tuple[str, Sequence[float]]]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return TITLE + len(self.bars) * (BAR + GAP)


def draw(panels: Sequence[Panel]) -> str:
    """Give the chart; lines across the ends of bars go from the least value to the most."""
    height = 2 * MARGIN + sum(panel.height for panel in panels)
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img'>",
        "<title>Medians of each system, with the least and the most of the rounds</title>",
        f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
    ]
    top = MARGIN
    for panel in panels:
        lines += _panel(panel, top)
        top += panel.height
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(panel: Panel, top: int) -> Iterator[str]:
    yield (
        f"<text x='{MARGIN}' y='{top + 20}' {_FONT} font-weight='bold'>{escape(panel.title)}</text>"
    )
    most = max((max(values) for _, values in panel.bars), default=0.0) or 1.0
    room = WIDTH - NAME_WIDTH - VALUE_WIDTH - MARGIN
    for number, (name, values) in enumerate(panel.bars):
        y = top + TITLE + number * (BAR + GAP) - GAP
        yield from _bar(name, values, y, room / most)


def _bar(name: str, values: Sequence[float], y: int, scale: float) -> Iterator[str]:
    length = max(median(values) * scale, 1.0)
    middle, base = y + BAR / 2, y + BAR - 4
    colour = OURS if name.startswith("Taskmill") else OTHERS
    low, high = (NAME_WIDTH + one * scale for one in (min(values), max(values)))
    yield f"<text x='{NAME_WIDTH - 8}' y='{base}' {_FONT} text-anchor='end'>{escape(name)}</text>"
    yield (f"<rect x='{NAME_WIDTH}' y='{y}' width='{length:.1f}' height='{BAR}' fill='{colour}'/>")
    yield (f"<line x1='{low:.1f}' x2='{high:.1f}' y1='{middle}' y2='{middle}' stroke='{WHISKER}'/>")
    at = max(high, NAME_WIDTH + length) + 6
    yield f"<text x='{at:.1f}' y='{base}' {_FONT}>{escape(spread(values))}</text>"
