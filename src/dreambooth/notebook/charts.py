"""The chart of a run's losses for a cell."""

from __future__ import annotations

import math

from dreambooth.pages.chart import Line, chart
from dreambooth.pages.templates import Markup
from dreambooth.runs.progress import Curve, Progress

__all__ = ["loss_chart"]

_COLOURS = {"photos": 0, "class": 1}
_UNSETTLED = 20  # the first smoothed losses average few steps, fluctuate, and would set the height of the chart


def loss_chart(progress: Progress, *, last_step: int) -> Markup:
    """Draw the training losses, and the losses on fixed noise with dots, from step 0 to `last_step`.

    Training losses fluctuate with the noise level drawn at each step, so they are smoothed; losses on fixed noise are
    comparable from step to step. Returns empty markup when there are no losses.
    """
    trained = [_line(name, _settled(curve), "in training", is_faint=True) for name, curve in progress.losses.items() if curve]
    measured = [_line(name, curve, "on fixed noise", is_faint=False) for name, curve in progress.validation.items() if curve]
    lines = [*trained, *measured]
    if not any(math.isfinite(value) for line in lines for value in line.values.values()):
        return Markup("")
    return chart(lines, last_step=max(last_step, 1))


def _line(name: str, curve: Curve, where: str, *, is_faint: bool) -> Line:
    """A line whose name in the legend says the newest value."""
    return Line(f"{name} {where} {curve[-1][1]:.4f}", dict(curve), colour=_COLOURS[name], is_faint=is_faint)


def _settled(curve: Curve) -> Curve:
    return curve[_UNSETTLED:] if len(curve) > 3 * _UNSETTLED else curve
