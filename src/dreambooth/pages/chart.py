"""Line charts as SVG: values by training step, on an axis that begins at 0, so that small changes look small."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dreambooth.display import format_score
from dreambooth.pages.templates import Markup, render

__all__ = ["Line", "chart"]

_COLOURS = ("#2f7ed8", "#e07b1f", "#2b8a4b", "#8a3fa8")  # readable on white and on black
_WIDTH, _HEIGHT = 720, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 34  # pixels around the lines, for labels
_MOST_POINTS = 400  # more points are slow to send and not visible at this width
_MOST_DOTS = 30
_CHARACTER = 6.2  # average width of a legend character in pixels
_ROW = 20  # height of a row of the legend


@dataclass(frozen=True)
class Line:
    """One line of a chart; values that are not finite are left out."""

    name: str
    values: Mapping[int, float]
    colour: int | None = None
    """Number of its colour; None for its place among the lines."""
    is_faint: bool = False
    """Whether it stays in the background, without dots."""


@dataclass(frozen=True)
class _Scale:
    """Converts steps and values into pixel coordinates."""

    last_step: int
    low: float
    high: float

    def x(self, step: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * step / self.last_step, 1)

    def y(self, value: float) -> float:
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low), 1)


def chart(lines: Sequence[Line], *, last_step: int | None = None, is_styled: bool = True) -> Markup:
    """Draw lines from step 0 to `last_step` (by default the last step of any line), with a legend if there are several.

    Without values, or with values of a single step where no `last_step` is given, it is a sentence instead.
    A page whose security policy forbids style attributes takes it without (`is_styled`) and shapes it in its style sheet.
    """
    drawn = [_Drawn(line, number) for number, line in enumerate(lines)]
    drawn = [one for one in drawn if one.points]
    steps = sorted({step for one in drawn for step, _ in one.points})
    if not steps:
        return Markup("<p>Not measured.</p>")
    if len(steps) == 1 and last_step is None:
        named = [f"{format_score(one.points[0][1])}{f' ({one.name})' if len(drawn) > 1 else ''}" for one in drawn]
        return Markup("<p>Measured once: {} at step {}.</p>").format(", ".join(named), steps[0])
    values = [value for one in drawn for _, value in one.points]
    low, high, ticks = _ticks(min(0.0, *values), max(values))
    scale = _Scale(max(last_step or 0, steps[-1], 1), low, high)
    legend = list(_legend(drawn)) if len(drawn) > 1 else []
    return render(
        "chart.svg",
        label="; ".join(one.words for one in drawn),
        width=_WIDTH,
        height=max([_HEIGHT, *(entry["y"] + 6 for entry in legend)]),
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        bottom=_HEIGHT - _BOTTOM,
        values_axis=[{"place": scale.y(tick), "text": text} for tick, text in ticks],
        steps_axis=[{"place": scale.x(step), "text": step} for step in _quarters(scale.last_step)],
        lines=[one.on(scale) for one in drawn],
        legend=legend,
        is_styled=is_styled,
    )


class _Drawn:
    """A line as it is drawn."""

    def __init__(self, line: Line, number: int) -> None:
        self.name = line.name
        self.is_faint = line.is_faint
        self.points = [(step, value) for step, value in _thinned(sorted(line.values.items())) if math.isfinite(value)]
        colour = number if line.colour is None else line.colour
        self.colour = f"var(--line-{colour % len(_COLOURS)}, {_COLOURS[colour % len(_COLOURS)]})"

    def on(self, scale: _Scale) -> dict[str, object]:
        return {
            "colour": self.colour,
            "is_faint": self.is_faint,
            "places": [(scale.x(step), scale.y(value)) for step, value in self.points],
            "has_dots": len(self.points) == 1 or (not self.is_faint and len(self.points) <= _MOST_DOTS),
        }

    @property
    def words(self) -> str:
        """The line for those who do not see it."""
        (first, start), (last, end) = self.points[0], self.points[-1]
        values = [value for _, value in self.points]
        return (
            f"{self.name}: {format_score(start)} at step {first}, {format_score(end)} at step {last}, "
            f"lowest {format_score(min(values))}, highest {format_score(max(values))}"
        )


def _ticks(low: float, high: float) -> tuple[float, float, list[tuple[float, str]]]:
    """The range of the axis and about five round numbers in it, spaced by 1, 2 or 5 times a power of ten."""
    rough = max(high - low, 1e-3) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / gap + 1e-6), max(math.ceil(high / gap - 1e-6), 1)
    decimals = max(0, -math.floor(math.log10(gap) + 1e-9))
    return first * gap, last * gap, [(number * gap, f"{number * gap:.{decimals}f}") for number in range(first, last + 1)]


def _quarters(last_step: int) -> list[int]:
    return list(dict.fromkeys(round(last_step * part / 4) for part in range(5)))


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    stride = math.ceil(len(points) / _MOST_POINTS) or 1
    return points if stride == 1 else [*points[:-1:stride], points[-1]]


def _legend(drawn: Sequence[_Drawn]) -> Iterator[dict[str, Any]]:
    x, y = float(_LEFT), _HEIGHT + 14
    for one in drawn:
        width = 14 + _CHARACTER * len(one.name)
        if x > _LEFT and x + width > _WIDTH - _RIGHT:
            x, y = float(_LEFT), y + _ROW
        yield {"x": round(x, 1), "y": y, "text": one.name, "colour": one.colour, "is_faint": one.is_faint}
        x += width + 14
