"""The part of docs/explanation/performance.md that `make bench-peers` writes, and its chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.chart import Panel, draw
from bench.goals import goal_table
from bench.processes import ROOT, BenchFault
from bench.report import TITLES, costs, table
from bench.rounds import Figures, Sizes

DOCUMENT = Path("docs/explanation/performance.md")
CHART = "performance-peers.svg"
BEGIN, END = "<!-- bench-peers -->", "<!-- end of bench-peers -->"
CHARTED = ("drain", "large", "bulk", "submit8", "p50", "p99")


class Document:
    """One run, as it is printed and as it stands on the page.

    Args:
        about: the machine and the run, lines of a name and a value.
    """

    def __init__(self, found: Sequence[Figures], sizes: Sizes, about: Mapping[str, str]) -> None:
        self._found = found
        self._sizes = sizes
        self._about = about

    def text(self) -> str:
        """Give the run as Markdown."""
        lines = [f"* {name}: {value}" for name, value in self._about.items()]
        sizes = self._sizes
        lines.append(
            f"* sizes: {self._rounds()} rounds in turn; backlogs of {sizes.drain_tasks:,} tasks and"
            f" of {sizes.large_tasks:,} with {sizes.large_bytes:,} bytes; {sizes.samples} samples;"
            f" {sizes.subscribers:,} subscribers"
        )
        parts = ["\n".join(lines), goal_table(self._found), table(self._found), costs(self._found)]
        return "\n\n".join(parts)

    def _rounds(self) -> int:
        """Give how many rounds there was time for."""
        return max(
            (len(values) for one in self._found for values in one.values.values()), default=0
        )

    def chart(self) -> str:
        """Give the run as SVG."""
        panels = []
        for name in CHARTED:
            bars = [(one.system, one.values[name]) for one in self._found if name in one.values]
            if bars:
                panels.append(Panel(TITLES[name], bars))
        return draw(panels)

    def write(self, root: Path = ROOT) -> None:
        """Put the run between the marks of the page, and the chart beside the page.

        Raises:
            BenchFault: the page has no marks.
        """
        page = root / DOCUMENT
        before, begin, rest = page.read_text(encoding="utf8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise BenchFault(f"{page} has no lines {BEGIN} and {END} to write between")
        picture = f"![What each system did]({CHART})"
        body = f"{before}{BEGIN}\n\n{picture}\n\n{self.text()}\n\n{END}{after}"
        page.write_text(body, encoding="utf8")
        (page.parent / CHART).write_text(self.chart(), encoding="utf8")
