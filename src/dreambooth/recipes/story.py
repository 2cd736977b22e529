"""What a run did, in pictures: one sheet, and one page that opens in any browser without a network."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth.files import write_text
from dreambooth.sampling.images import ImageSource, enlarged, png_bytes, write_contact_sheet

__all__ = ["Row", "write_report", "write_sheet"]

_SIDE = 128

_ABOUT_LOSSES = (
    "A rise for the photos says that the model learns these very pictures beside the subject; "
    "one for the class images, that the class is drifting."
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --paper: #fff; --soft: #6b6b70; --line: #2f6fdf; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --paper: #17171a; --soft: #9a9aa2; --line: #7aa8ff; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; padding: 0 1rem;
       max-width: 60rem; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
h3 { font-size: .9rem; margin: .6rem 0 0; }
p { margin: .2rem 0 .6rem; color: var(--soft); }
.row { display: flex; flex-wrap: wrap; gap: .4rem; }
figure { margin: 0; width: 8rem; }
figcaption { font-size: .8rem; color: var(--soft); }
img { width: 8rem; height: 8rem; border-radius: .3rem; display: block; }
pre { white-space: pre-wrap; border: 1px solid var(--soft); border-radius: .3rem; padding: .6rem; font-size: .85rem; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .1rem 1rem .1rem 0; text-align: left; font-weight: normal; }
svg { max-width: 40rem; }
polyline { fill: none; stroke: var(--line); stroke-width: 2; }
text { fill: var(--soft); font-size: 12px; }
"""


@dataclass(frozen=True)
class Row:
    """Pictures that belong together; captions of single ones are optional."""

    title: str
    sentence: str
    images: Sequence[ImageSource]
    captions: Sequence[str] = ()


def write_sheet(path: Path, rows: Sequence[Row]) -> Path:
    """All rows as one PNG, each picture 128 pixels wide; the path."""
    images = [[enlarged(image, _SIDE) for image in row.images] for row in rows]
    write_contact_sheet(path, images, row_labels=[row.title for row in rows])
    return path


def write_report(
    path: Path,
    title: str,
    rows: Sequence[Row],
    *,
    losses: Mapping[str, Mapping[int, float]],
    facts: Mapping[str, str],
    next_commands: str,
) -> Path:
    """One HTML page with the pictures inside it, readable in light and dark; the path.

    `losses` maps the name of a validation loss to its value by step, `facts` names to values of a table.
    """
    sections = "".join(_section(row) for row in rows)
    table = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>' for name, value in facts.items()
    )
    curves = "".join(f"<h3>{html.escape(name)}</h3>{_curve(name, values)}" for name, values in losses.items())
    body = (
        f"<main><h1>{html.escape(title)}</h1>{sections}"
        f"<h2>Loss on fixed noise and held-out views</h2><p>{_ABOUT_LOSSES}</p>{curves}"
        f"<h2>How it was made</h2><table>{table}</table>"
        f"<h2>Next</h2><pre>{html.escape(next_commands)}</pre></main>"
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    write_text(path, f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>\n')
    return path


def _section(row: Row) -> str:
    captions = [*row.captions, *[""] * (len(row.images) - len(row.captions))]
    figures = "".join(
        _figure(image, f"{row.title}, {number} of {len(row.images)}", caption)
        for number, (image, caption) in enumerate(zip(row.images, captions, strict=True), start=1)
    )
    return f'<h2>{html.escape(row.title)}</h2><p>{html.escape(row.sentence)}</p><div class="row">{figures}</div>'


def _figure(image: ImageSource, alternative: str, caption: str) -> str:
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{html.escape(alternative)}" src="data:image/png;base64,{_inline(image)}">{below}</figure>'


def _inline(image: ImageSource) -> str:
    return base64.b64encode(png_bytes(image)).decode("ascii")


def _curve(name: str, losses: Mapping[int, float]) -> str:
    """The losses as a line between their highest and their lowest value."""
    if not losses:
        return "<p>Not measured.</p>"
    steps = sorted(losses)
    first, last = steps[0], steps[-1]
    if first == last:
        return f"<p>Measured once: {losses[first]:.3f} at step {first}.</p>"
    width, height, low, high = 560, 120, min(losses.values()), max(losses.values())
    span = max(high - low, 1e-12)
    points = " ".join(
        f"{40 + (step - first) / (last - first) * width:.1f},{10 + (high - losses[step]) / span * height:.1f}" for step in steps
    )
    labels = "".join(
        f'<text x="{x}" y="{y}">{text}</text>'
        for x, y, text in (
            (0, 16, f"{high:.3f}"),
            (0, 14 + height, f"{low:.3f}"),
            (40, 32 + height, f"step {first}"),
            (width - 20, 32 + height, f"step {last}"),
        )
    )
    said = html.escape(f"{name}: {losses[first]:.3f} at step {first}, {losses[last]:.3f} at step {last}, lowest {low:.3f}")
    box = f'viewBox="0 0 {width + 50} {height + 40}" width="100%"'
    return f'<svg role="img" aria-label="{said}" {box}><polyline points="{points}"/>{labels}</svg>'
