"""Parts of a self-contained HTML page: one file, no scripts, no network, readable in light and dark."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

__all__ = ["chart", "figure", "number_text", "page", "table"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --paper: #fff; --soft: #6b6b70; --rule: #d5d5da; --alarm: #b3261e;
        --line-0: #2f6fdf; --line-1: #c4621c; --line-2: #2b8a4b; --line-3: #8a3fa8; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --paper: #17171a; --soft: #9a9aa2; --rule: #3a3a40;
        --alarm: #ff8a80; --line-0: #7aa8ff; --line-1: #ffab70; --line-2: #7bd69a; --line-3: #d59bf0; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; padding: 0 1rem;
       max-width: 60rem; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
h3, h4 { font-size: .9rem; margin: .6rem 0 0; }
section { border-top: 1px solid var(--rule); margin-top: 2rem; }
section h2 { font-size: 1.25rem; }
section h3 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
p { margin: .2rem 0 .6rem; color: var(--soft); }
p.alarm { color: var(--alarm); font-weight: 600; }
.row { display: flex; flex-wrap: wrap; gap: .4rem; }
figure { margin: 0; width: 8rem; }
figcaption { font-size: .8rem; color: var(--soft); }
img { width: 8rem; height: 8rem; border-radius: .3rem; display: block; }
pre { white-space: pre-wrap; border: 1px solid var(--soft); border-radius: .3rem; padding: .6rem; font-size: .85rem; }
.wide { overflow-x: auto; }
.headed { min-width: 54rem; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .1rem 1rem .1rem 0; text-align: left; vertical-align: top; font-weight: normal; }
tbody th { white-space: nowrap; }
thead th { border-bottom: 1px solid var(--rule); color: var(--soft); }
svg { max-width: 40rem; display: block; }
polyline { fill: none; stroke-width: 2; }
text { fill: var(--soft); font-size: 12px; }
"""
_NUM_COLOURS = 4
_LEFT, _TOP, _WIDTH, _HEIGHT = 48, 10, 552, 130


def page(title: str, body: str) -> str:
    """The whole document; `body` is markup below the title."""
    shown = html.escape(title)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{shown}</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head>'
        f"<body><main><h1>{shown}</h1>{body}</main></body></html>\n"
    )


def figure(data: bytes, *, kind: str, alternative: str, caption: str = "") -> str:
    """A picture that lies in the page itself: the bytes of a file of `kind`, png or jpeg."""
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    inline = base64.b64encode(data).decode("ascii")
    return f'<figure><img alt="{html.escape(alternative)}" src="data:image/{kind};base64,{inline}">{below}</figure>'


def table(rows: Sequence[Sequence[str]], *, columns: Sequence[str] = (), is_wide: bool = True) -> str:
    """Rows of texts, whose first cells are headings; all texts are escaped. With columns it fills the page where `is_wide`."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>{"".join(f"<td>{html.escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    opened = f"<thead><tr>{head}</tr></thead>" if columns else ""
    kind = ' class="headed"' if columns and is_wide else ""
    return f'<div class="wide"><table{kind}>{opened}<tbody>{body}</tbody></table></div>'


def chart(lines: Mapping[str, Mapping[int, float]]) -> str:
    """A line chart of values by step, with a legend if there are several lines."""
    drawn = {name: values for name, values in lines.items() if values}
    steps = sorted({step for values in drawn.values() for step in values})
    if not steps:
        return "<p>Not measured.</p>"
    if len(steps) == 1:
        said = ", ".join(f"{number_text(values[steps[0]])}{_of(name, drawn)}" for name, values in drawn.items())
        return f"<p>Measured once: {html.escape(said)} at step {steps[0]}.</p>"
    values = [value for one in drawn.values() for value in one.values()]
    low, high = min(values), max(values)
    marks = "".join(_line(one, number, (steps[0], steps[-1]), (low, high)) for number, one in enumerate(drawn.values()))
    names = "".join(_name(name, number) for number, name in enumerate(drawn)) if len(drawn) > 1 else ""
    labels = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
        for x, y, anchor, text in (
            (_LEFT - 6, _TOP + 5, "end", number_text(high)),
            (_LEFT - 6, _TOP + 5 + _HEIGHT, "end", number_text(low)),
            (_LEFT, _TOP + 22 + _HEIGHT, "start", f"step {steps[0]}"),
            (_LEFT + _WIDTH, _TOP + 22 + _HEIGHT, "end", f"step {steps[-1]}"),
        )
    )
    said = html.escape("; ".join(_in_words(name, one) for name, one in drawn.items()))
    height = _TOP + _HEIGHT + (48 if names else 28)
    box = f'viewBox="0 0 {_LEFT + _WIDTH + 10} {height}" width="100%"'
    return f'<svg role="img" aria-label="{said}" {box}>{marks}{labels}{names}</svg>'


def _of(name: str, drawn: Mapping[str, Mapping[int, float]]) -> str:
    return f" ({name})" if len(drawn) > 1 else ""


def _colour(number: int) -> str:
    return f"var(--line-{number % _NUM_COLOURS})"


def _line(values: Mapping[int, float], number: int, steps: tuple[int, int], bounds: tuple[float, float]) -> str:
    """A line through all points; a point is marked where there are few."""
    first, last = steps
    low, high = bounds
    span = max(high - low, 1e-12)
    points = [
        (_LEFT + (step - first) / (last - first) * _WIDTH, _TOP + (high - values[step]) / span * _HEIGHT)
        for step in sorted(values)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(number)}"/>' for x, y in points)
    return f'<polyline stroke="{_colour(number)}" points="{path}"/>{dots if len(points) <= 30 else ""}'


def _name(name: str, number: int) -> str:
    x, y = _LEFT + number * _WIDTH // _NUM_COLOURS, _TOP + _HEIGHT + 42
    dot = f'<circle cx="{x + 4}" cy="{y - 4}" r="4" fill="{_colour(number)}"/>'
    return f'{dot}<text x="{x + 14}" y="{y}">{html.escape(name)}</text>'


def _in_words(name: str, values: Mapping[int, float]) -> str:
    first, last = min(values), max(values)
    lowest, highest = min(values.values()), max(values.values())
    return (
        f"{name}: {number_text(values[first])} at step {first}, {number_text(values[last])} at step {last}, "
        f"lowest {number_text(lowest)}, highest {number_text(highest)}"
    )


def number_text(value: float) -> str:
    """With three decimals; a rounding error below zero is not shown as -0.000."""
    return f"{round(value, 3) + 0.0:.3f}"
