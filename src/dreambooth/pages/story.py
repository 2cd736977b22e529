"""A run in images: one sheet, and one page that opens in any browser without a network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth.files import write_text
from dreambooth.pages.images import ImageSource, enlarged, png_bytes, write_contact_sheet
from dreambooth.pages.page import chart, figure, page, table

__all__ = ["Row", "write_report", "write_sheet"]

_SIDE = 128

_ABOUT_LOSSES = (
    "A rising loss on the photos means that the model is memorizing them; on the class images, that the class is drifting."
)


@dataclass(frozen=True)
class Row:
    """A group of images with optional captions."""

    title: str
    sentence: str
    images: Sequence[ImageSource]
    captions: Sequence[str] = ()


def write_sheet(path: Path, rows: Sequence[Row]) -> Path:
    """Write all rows as one PNG, each image 128 pixels wide; returns the path."""
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
    """Write one HTML page with embedded images, readable in light and dark; returns the path.

    `losses` maps the name of a validation loss to its value by step, `facts` names to values of a table.
    """
    sections = "".join(_section(row) for row in rows)
    curves = "".join(f"<h3>{html.escape(name)}</h3>{chart({name: values})}" for name, values in losses.items())
    body = (
        f"{sections}<h2>Loss on fixed noise and held-out views</h2><p>{_ABOUT_LOSSES}</p>{curves}"
        f"<h2>Settings</h2>{table(list(facts.items()))}"
        f"<h2>Next</h2><pre>{html.escape(next_commands)}</pre>"
    )
    write_text(path, page(title, body))
    return path


def _section(row: Row) -> str:
    captions = [*row.captions, *[""] * (len(row.images) - len(row.captions))]
    figures = "".join(
        figure(png_bytes(image), kind="png", alternative=f"{row.title}, {number} of {len(row.images)}", caption=caption)
        for number, (image, caption) in enumerate(zip(row.images, captions, strict=True), start=1)
    )
    return f'<h2>{html.escape(row.title)}</h2><p>{html.escape(row.sentence)}</p><div class="row">{figures}</div>'
