"""A figure of the trade-off: the subject's likeness against drift of the class and against prompts, one dot per variant."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.results.looking import over_subjects

__all__ = ["frontier"]

_MARKS = "#8a8a8a"  # visible on white and on black
_COLORS = ("#3b82c4", "#2f9e6e", "#d97a1e", "#c0487f", "#7a5fc4", "#8a8a3a", "#3aa0a8", "#b0503a", "#5a5a5a")
_STYLE = f"text{{font:12px system-ui,sans-serif;fill:{_MARKS}}}line,rect{{stroke:{_MARKS};fill:none}}"
_SIDE, _LEFT, _TOP, _GAP = 300, 50, 30, 70
_PANELS = (("drift", "drift of the class (less is better)"), ("place by the judge", "share of places shown (more is better)"))


@dataclass(frozen=True)
class _Axes:
    """A panel of the figure; both axes run from 0 to 1."""

    left: float

    def x(self, value: float) -> float:
        return round(self.left + value * _SIDE, 1)

    def y(self, value: float) -> float:
        return round(_TOP + (1 - value) * _SIDE, 1)


def frontier(numbers: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """The text of an SVG file; `numbers` maps (variant, subject) to the numbers of each measure.

    Lines through a dot are the 95% intervals of drawing other subjects.
    """
    variants = [*dict.fromkeys(variant for variant, _ in numbers)]
    means = {variant: _means([found for (other, _), found in numbers.items() if other == variant]) for variant in variants}
    drawn = "".join(
        _panel(_Axes(_LEFT + number * (_SIDE + _GAP)), measure, title, means) for number, (measure, title) in enumerate(_PANELS)
    )
    width, top = _LEFT + 2 * (_SIDE + _GAP), _TOP + _SIDE + 60
    legend = "".join(_name(variant, number, top) for number, variant in enumerate(variants))
    height = top + 20 * ((len(variants) + 3) // 4)
    label = html.escape(f"likeness of the subject against drift and places shown, for {', '.join(variants)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" width="{width}" height="{height}">'
        f"<style>{_STYLE}</style>{drawn}{legend}</svg>\n"
    )


def _means(found: list[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    return {name: over_subjects([one[name] for one in found], name) for name in ("DINO", *(measure for measure, _ in _PANELS))}


def _panel(axes: _Axes, measure: str, title: str, means: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> str:
    texts: list[tuple[float, float, str, str]] = [
        (axes.left, _TOP - 10, "start", "DINO of the subject"),
        (axes.left, _TOP + _SIDE + 34, "start", title),
    ]
    texts += [(axes.left - 6, axes.y(value) + 4, "end", f"{value:g}") for value in (0.0, 0.5, 1.0)]
    texts += [(axes.x(value), _TOP + _SIDE + 16, "middle", f"{value:g}") for value in (0.0, 0.5, 1.0)]
    written = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>' for x, y, anchor, text in texts)
    box = f'<rect x="{axes.left}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" stroke-width=".5"/>'
    return box + written + "".join(_dot(axes, one[measure], one["DINO"], number) for number, one in enumerate(means.values()))


def _dot(axes: _Axes, across: Mapping[str, float | None], up: Mapping[str, float | None], number: int) -> str:
    x, y = (_value(score, "value") for score in (across, up))
    color = _COLORS[number % len(_COLORS)]
    whiskers = (
        (_value(across, "low"), y, _value(across, "high"), y),
        (x, _value(up, "low"), x, _value(up, "high")),
    )
    lines = "".join(
        f'<line x1="{axes.x(x1)}" y1="{axes.y(y1)}" x2="{axes.x(x2)}" y2="{axes.y(y2)}" style="stroke:{color}"/>'
        for x1, y1, x2, y2 in whiskers
    )
    return f'{lines}<circle cx="{axes.x(x)}" cy="{axes.y(y)}" r="5" fill="{color}"/>'


def _value(score: Mapping[str, float | None], name: str) -> float:
    found = score[name] if score[name] is not None else score["value"]
    assert found is not None
    return found


def _name(name: str, number: int, top: int) -> str:
    x, y = _LEFT + number % 4 * 175, top + number // 4 * 20
    dot = f'<circle cx="{x + 4}" cy="{y - 4}" r="4" fill="{_COLORS[number % len(_COLORS)]}"/>'
    return f'{dot}<text x="{x + 14}" y="{y}">{html.escape(name)}</text>'
