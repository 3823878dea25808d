"""Result as an SVG chart: one panel of bars for each case that matters most."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from .cases import contended, threads, uncontended
from .peers.registry import FAIR, FLOOR
from .result import Result, Row

PANELS = (
    (uncontended.BLOCK, "threads", "One thread, connections to spare"),
    (uncontended.BLOCK, "asyncio", "One task, connections to spare"),
    (threads.CROWDS[32], "threads", "32 threads on 8 connections"),
    (contended.FEW, "asyncio", "40 tasks on 4 connections"),
)

_WIDTH, _MARGIN, _GAP = 880, 24, 40
_PANEL = (_WIDTH - 2 * _MARGIN - _GAP) / 2
_LABEL = 176  # for the names, left of the bars
_VALUE = 52  # for the figures, right of them
_LINE = 24
_TITLE = 40

# Legible on light and dark pages alike: colours are set by the page's own preference.
_STYLE = """
  svg { font: 13px system-ui, sans-serif; }
  .page { fill: #ffffff; } text { fill: #1f2328; } .dim { fill: #656d76; }
  .title { font-weight: 600; } .bar { fill: #afb8c1; } .ours { fill: #0969da; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } text { fill: #e6edf3; } .dim { fill: #8d96a0; }
    .bar { fill: #484f58; } .ours { fill: #4493f8; }
  }
"""


def draw(result: Result) -> str:
    """Return the chart as an SVG document."""
    panels = []
    for case, where, title in PANELS:
        rows = [
            row
            for row in result.rows
            if (row.case, row.where) == (case, where) and row.peer != FLOOR
        ]
        if rows:
            panels.append((title, sorted(rows, key=lambda row: row.median)))
    parts: list[str] = []
    top = 72.0
    for left, right in _pairs(panels):
        parts += _panel(_MARGIN, top, *left)
        if right is not None:
            parts += _panel(_MARGIN + _PANEL + _GAP, top, *right)
        top += _TITLE + _LINE * max(len(left[1]), len(right[1]) if right else 0) + 16
    height = top + 24
    machine = result.machine
    note = (
        f"{machine['interpreter']}, {machine['cores']} cores; "
        "connections that do nothing, so that only the pool is measured"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" '
            f'height="{height:.0f}" viewBox="0 0 {_WIDTH} {height:.0f}" role="img">',
            "<title>What a checkout and its return cost</title>",
            f"<style>{_STYLE}</style>",
            '<rect class="page" width="100%" height="100%"/>',
            f'<text class="title" x="{_MARGIN}" y="30" font-size="16">'
            "What a checkout and its return cost, in µs (less is better)</text>",
            f'<text class="dim" x="{_MARGIN}" y="50">{escape(note)}</text>',
            *parts,
            f'<text class="dim" x="{_MARGIN}" y="{top + 4:.0f}">'
            "* lets later callers overtake those who wait</text>",
            "</svg>\n",
        ]
    )


_Panel = tuple[str, list[Row]]


def _pairs(panels: list[_Panel]) -> Iterator[tuple[_Panel, _Panel | None]]:
    for index in range(0, len(panels), 2):
        yield panels[index], panels[index + 1] if index + 1 < len(panels) else None


def _panel(left: float, top: float, title: str, rows: list[Row]) -> Iterator[str]:
    yield f'<text class="title" x="{left}" y="{top + 20:.0f}">{escape(title)}</text>'
    longest = max(row.median for row in rows)
    for number, row in enumerate(rows):
        middle = top + _TITLE + _LINE * number
        width = max(1.5, (_PANEL - _LABEL - _VALUE) * row.median / longest)
        start = left + _LABEL
        style = "ours" if row.ours else "bar"
        yield (
            f'<text x="{start - 8:.1f}" y="{middle + 4:.1f}" text-anchor="end">'
            f"{escape(_label(row))}</text>"
        )
        yield (
            f'<rect class="{style}" x="{start:.1f}" y="{middle - 8:.1f}" '
            f'width="{width:.1f}" height="16" rx="2"/>'
        )
        yield (
            f'<text class="dim" x="{start + width + 6:.1f}" y="{middle + 4:.1f}">'
            f"{_short(row.median)}</text>"
        )


def _label(row: Row) -> str:
    crowded = row.case != uncontended.BLOCK
    return f"{row.peer} *" if crowded and row.peer not in FAIR else row.peer


def _short(number: float) -> str:
    return f"{number:.1f}" if number < 100 else f"{number:.0f}"
