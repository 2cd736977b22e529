"""HTML for cells: notes, tables and images, from the template cell.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dreambooth.pages.images import ImageSource, enlarged, inline_image
from dreambooth.pages.templates import Markup, render_part

__all__ = ["captioned", "note", "picture", "picture_rows", "progress_bar", "table"]


def note(text: str) -> Markup:
    """Text in a monospaced font, with its line breaks."""
    return render_part("cell.html", "note", text)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table of text with column names."""
    return render_part("cell.html", "table", columns, rows)


def picture(image: ImageSource, *, width: int | None = None) -> Markup:
    """An image embedded in the HTML, so the notebook server does not need access to the file."""
    return render_part("cell.html", "picture", inline_image(image), width)


def captioned(content: Markup, caption: str, *, width: int) -> Markup:
    """Content with a caption below it; several are shown side by side."""
    return render_part("cell.html", "captioned", content, caption, width)


def picture_rows(rows: Sequence[tuple[str, Sequence[Path]]], columns: Sequence[str] = (), *, side: int) -> Markup:
    """Rows of square images with a label on the left and optional column names, scaled down so that many can be sent."""
    small = [(label, [inline_image(enlarged(path, side)) for path in paths]) for label, paths in rows]
    return render_part("cell.html", "picture_rows", small, columns, side)


def progress_bar(step: int, steps: int, text: str) -> Markup:
    """A bar that is filled up to `step` of `steps`, and a text beside it."""
    return render_part("cell.html", "bar", step, steps, text)
