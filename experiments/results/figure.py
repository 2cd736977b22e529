"""A figure of learning rates and steps: one panel for the balance and each of its parts, one line per rate."""

from __future__ import annotations

import html
from collections.abc import Mapping

__all__ = ["sweep_figure"]

Lines = Mapping[str, Mapping[int, float]]
"""Maps the name of each line to its values by step."""

_COLORS = ("#3b82c4", "#2f9e6e", "#d97a1e", "#c0487f")
_MARKS = "#8a8a8a"  # visible on white and on black
_STYLE = f"text{{font:12px system-ui,sans-serif;fill:{_MARKS}}}polyline{{fill:none;stroke-width:2}}"
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 330, 150, 40, 30, 70


def sweep_figure(panels: Mapping[str, Lines]) -> str:
    """The text of an SVG file. Values lie in [0, 1]; all panels have the same steps and lines."""
    steps = [step for lines in panels.values() for values in lines.values() for step in values]
    drawn = "".join(
        _panel(title, lines, (column, row), (min(steps), max(steps)))
        for (title, lines), (row, column) in zip(panels.items(), _grid(len(panels)), strict=True)
    )
    names = [*next(iter(panels.values()))]
    rows = (len(panels) + 1) // 2
    height = _TOP + rows * (_HEIGHT + _GAP)
    legend = "".join(_name(name, number, height - 12) for number, name in enumerate(names))
    size = f'width="{2 * (_LEFT + _WIDTH) + 30}" height="{height}"'
    label = html.escape(f"{', '.join(panels)} over steps {min(steps)} to {max(steps)}, for {', '.join(names)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" {size}>'
        f"<style>{_STYLE}</style>{drawn}{legend}</svg>\n"
    )


def _grid(num: int) -> list[tuple[int, int]]:
    return [divmod(number, 2) for number in range(num)]


def _panel(title: str, lines: Lines, position: tuple[int, int], steps: tuple[int, int]) -> str:
    left, top = _LEFT + position[0] * (_LEFT + _WIDTH + 20), _TOP + position[1] * (_HEIGHT + _GAP)
    values = [value for line in lines.values() for value in line.values()]
    low, high = min(values), max(values)
    first, last = steps

    def at(step: int, value: float) -> str:
        x = left + (step - first) / max(1, last - first) * _WIDTH
        y = top + (high - value) / max(high - low, 1e-9) * _HEIGHT
        return f"{x:.1f},{y:.1f}"

    drawn = "".join(
        f'<polyline stroke="{_COLORS[number % len(_COLORS)]}" points="{" ".join(at(*xy) for xy in sorted(line.items()))}"/>'
        for number, line in enumerate(lines.values())
    )
    box = f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="{_MARKS}" stroke-width=".5"/>'
    texts = (
        (left, top - 8, "start", title),
        (left - 6, top + 8, "end", f"{high:.2f}"),
        (left - 6, top + _HEIGHT, "end", f"{low:.2f}"),
        (left, top + _HEIGHT + 16, "start", f"step {first}"),
        (left + _WIDTH, top + _HEIGHT + 16, "end", f"step {last}"),
    )
    written = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>' for x, y, anchor, text in texts
    )
    return f"{box}{drawn}{written}"


def _name(name: str, number: int, y: int) -> str:
    x = _LEFT + number * 160
    dot = f'<circle cx="{x + 4}" cy="{y - 4}" r="4" fill="{_COLORS[number % len(_COLORS)]}"/>'
    return f'{dot}<text x="{x + 14}" y="{y}">{html.escape(name)}</text>'
