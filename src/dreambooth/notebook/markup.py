"""HTML for cells: notes, tables and images. Text keeps the notebook's colors, so it is readable on dark and light themes."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from dreambooth.pages.images import ImageSource, enlarged, png_bytes

__all__ = ["captioned", "note", "picture", "picture_rows", "small_picture", "table"]

_CELL = "style='text-align:left;vertical-align:top;padding:2px 12px 2px 0'"


def note(text: str) -> str:
    """Text in a monospaced font, with its line breaks."""
    return f"<pre style='white-space:pre-wrap;margin:4px 0'>{html.escape(text)}</pre>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text with column names."""
    head = "".join(f"<th {_CELL}>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td {_CELL}>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table style='border-collapse:collapse'><tr>{head}</tr>{body}</table>"


def picture(image: ImageSource, *, width: int | None = None) -> str:
    """An image embedded in the HTML, so the notebook server does not need access to the file."""
    data = base64.b64encode(png_bytes(image)).decode("ascii")
    size = "" if width is None else f" width='{width}'"
    return f"<img{size} style='max-width:100%' src='data:image/png;base64,{data}'>"


def small_picture(path: Path, side: int) -> str:
    """A square image from a file, scaled down first, so that many images can be sent quickly."""
    return picture(enlarged(path, side))


def captioned(content: str, caption: str, *, width: int) -> str:
    """Content with a caption below it; several are shown side by side."""
    style = f"display:inline-block;vertical-align:top;margin:0 6px 6px 0;width:{width}px;font-size:11px;overflow-wrap:anywhere"
    return f"<span style='{style}'>{content}<br>{html.escape(caption)}</span>"


def picture_rows(rows: Sequence[tuple[str, Sequence[Path]]], columns: Sequence[str] = (), *, side: int) -> str:
    """Rows of square images with a label on the left and optional column names."""
    head = "".join(f"<th style='max-width:{side}px;font-weight:normal'>{html.escape(name)}</th>" for name in ("", *columns))
    body = "".join(
        f"<tr><td style='padding-right:8px'>{html.escape(label)}</td>"
        + "".join(f"<td style='padding:2px'>{small_picture(path, side)}</td>" for path in paths)
        + "</tr>"
        for label, paths in rows
    )
    return f"<table style='border-collapse:collapse'>{f'<tr>{head}</tr>' if columns else ''}{body}</table>"
