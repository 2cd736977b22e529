"""A run in images: one sheet, and one page that opens in any browser without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth.files import write_text
from dreambooth.pages.chart import Line, chart
from dreambooth.pages.images import ImageSource, inline_image, with_caption, write_contact_sheet
from dreambooth.pages.templates import render

__all__ = ["Row", "write_report", "write_sheet"]

_SIDE = 128

_ABOUT_LOSSES = (
    "Both change little in a training this short. A loss on the photos that rises for long means that the model is memorizing "
    "them; one on the class images, that the class is drifting. The images above show more than these numbers."
)


@dataclass(frozen=True)
class Row:
    """A group of images with optional captions."""

    title: str
    sentence: str
    images: Sequence[ImageSource]
    captions: Sequence[str] = ()

    @property
    def sources(self) -> list[str]:
        """The images as data URIs."""
        return [inline_image(image) for image in self.images]

    @property
    def captioned(self) -> list[tuple[ImageSource, str]]:
        """The images with their captions, which are empty where there are none."""
        return list(zip(self.images, [*self.captions, *[""] * (len(self.images) - len(self.captions))], strict=True))


def write_sheet(path: Path, rows: Sequence[Row]) -> Path:
    """Write all rows as one PNG, each image 128 pixels wide with its caption below it; returns the path."""
    images = [[with_caption(*pair, side=_SIDE) for pair in row.captioned] for row in rows]
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
    page = render(
        "story.html",
        title=title,
        rows=rows,
        about_losses=_ABOUT_LOSSES,
        losses=chart([Line(name, values) for name, values in losses.items()]),
        facts=list(facts.items()),
        next_commands=next_commands,
    )
    write_text(path, page)
    return path
