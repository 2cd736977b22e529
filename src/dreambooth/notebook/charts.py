"""Charts of the losses as SVG text, which a cell can show without a plotting library."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dreambooth.runs.progress import Curve, Progress

__all__ = ["loss_chart"]

_COLORS = {"photos": "#2f7ed8", "class": "#e07b1f"}
_WIDTH, _HEIGHT = 720, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 30, 34  # pixels around the curves, for labels
_MOST_POINTS = 400  # more points are slow to send and not visible at this width
_UNSETTLED = 20  # the first smoothed losses average few steps, fluctuate, and would set the height of the chart
_CHARACTER = 5.3  # average width of a legend character in pixels
_MEASURED, _TRAINED = "stroke-width='2'", "stroke-width='1.5' stroke-opacity='0.55'"


@dataclass(frozen=True)
class _Scale:
    """Converts steps and losses into pixel coordinates."""

    last_step: int
    low: float
    high: float

    def x(self, step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / self.last_step

    def y(self, value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low)


def loss_chart(progress: Progress, *, last_step: int) -> str:
    """Draw the training losses, and the losses on fixed noise with dots, from step 0 to `last_step`.

    Training losses fluctuate with the noise level drawn at each step, so they are smoothed; losses on fixed noise are
    comparable from step to step. Returns an empty string when there are no losses.
    """
    losses = {name: _settled(curve) for name, curve in progress.losses.items()}
    curves = [*losses.values(), *progress.validation.values()]
    values = [value for curve in curves for _, value in curve if math.isfinite(value)]
    if not values:
        return ""
    low, high, ticks = _ticks(min(values), max(values))
    scale = _Scale(max(last_step, 1), low, high)
    parts = [
        *_grid(scale, ticks),
        *_lines(losses, scale, is_measured=False),
        *_lines(progress.validation, scale, is_measured=True),
        *_legend(progress),
    ]
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' height='{_HEIGHT}' "
        f"style='max-width:100%;height:auto' font-family='sans-serif' font-size='12' fill='currentColor' role='img'>"
        f"<title>Losses</title>{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float) -> tuple[float, float, list[float]]:
    """The range of the axis and about four round numbers in it, spaced by 1, 2 or 5 times a power of ten."""
    spread = max(high - low, abs(high) * 0.05, 1e-6)
    rough = spread / 4
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / gap), math.ceil((low + spread) / gap)
    return first * gap, last * gap, [number * gap for number in range(first, last + 1)]


def _grid(scale: _Scale, ticks: list[float]) -> Iterator[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    for tick in ticks:
        y = scale.y(tick)
        yield f"<line x1='{_LEFT}' y1='{y:.1f}' x2='{right}' y2='{y:.1f}' stroke='currentColor' stroke-opacity='0.15'/>"
        yield f"<text x='{_LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{tick:.{decimals}f}</text>"
    steps = list(dict.fromkeys(round(scale.last_step * part / 4) for part in range(5)))
    for step in steps:
        anchor = "end" if step == scale.last_step else "middle"
        yield f"<text x='{scale.x(step):.1f}' y='{bottom + 16}' text-anchor='{anchor}'>{step}</text>"
    yield f"<text x='{(_LEFT + right) / 2}' y='{_HEIGHT - 4}' text-anchor='middle' fill-opacity='0.7'>step</text>"


def _lines(curves: Mapping[str, Curve], scale: _Scale, *, is_measured: bool) -> Iterator[str]:
    for name, curve in curves.items():
        finite = [(step, value) for step, value in _thinned(curve) if math.isfinite(value)]
        places = [(scale.x(step), scale.y(value)) for step, value in finite]
        color = _COLORS[name]
        style = _MEASURED if is_measured else _TRAINED
        if len(places) > 1:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            yield f"<polyline points='{points}' fill='none' stroke='{color}' {style}/>"
        if is_measured or len(places) == 1:
            yield from (f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{color}'/>" for x, y in places)


def _settled(curve: Curve) -> Curve:
    return curve[_UNSETTLED:] if len(curve) > 3 * _UNSETTLED else curve


def _thinned(curve: Curve) -> Curve:
    stride = math.ceil(len(curve) / _MOST_POINTS) or 1
    return curve if stride == 1 else (*curve[:-1:stride], curve[-1])


def _legend(progress: Progress) -> Iterator[str]:
    kinds = ((progress.validation, "on fixed noise", _MEASURED), (progress.losses, "in training", _TRAINED))
    x = float(_LEFT)
    for curves, where, style in kinds:
        for name, curve in curves.items():
            if not curve:
                continue
            text = f"{name} {where} {curve[-1][1]:.4f}"
            yield f"<line x1='{x:.1f}' y1='14' x2='{x + 18:.1f}' y2='14' stroke='{_COLORS[name]}' {style}/>"
            yield f"<text x='{x + 22:.1f}' y='18' font-size='11'>{html.escape(text)}</text>"
            x += 26 + _CHARACTER * len(text)
