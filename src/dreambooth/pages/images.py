"""Image files: PNGs with embedded settings, grids and labeled contact sheets.

Images are numpy arrays, uint8, (height, width, 3). Shapes of tensors: C channels, H height, W width.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from dreambooth.files import atomic_file

__all__ = [
    "ImageSource",
    "PilImage",
    "caption_image",
    "enlarged",
    "grid_rows",
    "inline_image",
    "save_picture",
    "to_image",
    "to_pil",
    "with_caption",
    "write_contact_sheet",
]

PilImage: TypeAlias = Image.Image

ImageSource = NDArray[np.uint8] | Path
"""An image, or its file, which is opened only when it is drawn."""

_GAP = 4
_SMALL = 256  # pixels
_QUALITY = 85
_LABEL_WIDTH = 160
_LINE_HEIGHT = 18
_MOST_LINES = 6
_FONT_SIZE = 14
_MAX_SIDE = 16384  # viewers and JPEG converters give up above (JPEG itself at 65535)
_MAX_PIXELS = 2**26  # PIL warns of a decompression bomb from 1.33 times as many on


def to_image(pixels_CHW: Tensor) -> NDArray[np.uint8]:
    """The image of pixels in [0, 1]; values are rounded to the nearest of 256 levels, not truncated."""
    levels_HWC: NDArray[np.uint8] = (pixels_CHW.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return levels_HWC


def to_pil(pixels_CHW: Tensor) -> PilImage:
    """Pixels in [0, 1] as an RGB image of PIL, rounded as in `to_image`."""
    return Image.fromarray(to_image(pixels_CHW))


def enlarged(image: ImageSource, side: int) -> NDArray[np.uint8]:
    """A square image resized to `side` pixels with bicubic interpolation."""
    with _open(image) as opened:
        return np.asarray(opened.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def caption_image(caption: str, *, side: int) -> NDArray[np.uint8]:
    """A white square of `side` pixels with a caption, wrapped into as many lines as fit."""
    image = Image.new("RGB", (side, side), "white")
    font = ImageFont.load_default(max(_FONT_SIZE, side // 20))
    line_height = max(_LINE_HEIGHT, side // 16)
    text = _wrapped(caption, font, side - 2 * _GAP, max(1, side // line_height))
    ImageDraw.Draw(image).multiline_text((_GAP, _GAP), text, fill="black", font=font, spacing=2)
    return np.asarray(image)


def inline_image(image: ImageSource, *, largest: int = 768) -> str:
    """The image as a data URI: PNG up to 256 pixels, else JPEG of at most `largest` pixels, which keeps pages small."""
    with _open(image) as opened:
        picture = opened.convert("RGB")
    kind = "png" if max(picture.size) <= _SMALL else "jpeg"
    picture.thumbnail((largest, largest), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, quality=_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def with_caption(image: ImageSource, caption: str, *, side: int) -> NDArray[np.uint8]:
    """A square image of `side` pixels with one line of text below it, which is blank without a caption."""
    below = Image.new("RGB", (side, _LINE_HEIGHT), "white")
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(below).text((0, 0), _wrapped(caption, font, side, 1), fill="black", font=font)
    return np.concatenate([enlarged(image, side), np.asarray(below)])


def save_picture(path: Path, pixels_CHW: Tensor, text: Mapping[str, str]) -> None:
    """Write pixels in [0, 1] as a PNG, atomically, with `text` as its text chunks."""
    _save(path, to_pil(pixels_CHW), text)


def grid_rows(images: Sequence[ImageSource]) -> list[Sequence[ImageSource]]:
    """The images in the rows of a nearly square grid."""
    columns = max(1, math.ceil(math.sqrt(len(images))))
    return [images[start : start + columns] for start in range(0, len(images), columns)]


def write_contact_sheet(
    path: Path,
    rows: Sequence[Sequence[ImageSource]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    max_side: int = _MAX_SIDE,
    max_pixels: int = _MAX_PIXELS,
) -> tuple[Path, ...]:
    """Write rows of images as one PNG with labels to the left and above; the files written.

    Labels above the columns are wrapped, into at most six lines. Rows may be of different lengths. A sheet that would be more
    than `max_side` wide or high, or hold more than `max_pixels`, is cut into several: `path` is the first, and "-2", "-3" ...
    are added to the names of the others.
    """
    assert any(rows), "a sheet needs an image"
    cell_width, cell_height = _cell_size(rows)
    left = _LABEL_WIDTH if row_labels else 0
    top = _LINE_HEIGHT * _num_lines(column_labels, cell_width)
    columns_fit = max(1, (max_side - left) // (cell_width + _GAP))
    num_columns = min(columns_fit, max(len(row) for row in rows))
    sheet_width = left + num_columns * (cell_width + _GAP)
    rows_fit = max(1, (min(max_side, max_pixels // sheet_width) - top) // (cell_height + _GAP))

    written: list[Path] = []
    for first_row in range(0, len(rows), rows_fit):
        block = rows[first_row : first_row + rows_fit]
        for first_column in range(0, max(len(row) for row in block), num_columns):
            cells = [row[first_column : first_column + num_columns] for row in block]
            sheet = Image.new("RGB", (sheet_width, top + len(cells) * (cell_height + _GAP)), "white")
            _draw_cells(sheet, cells, left=left, top=top, width=cell_width, height=cell_height)
            labels_left = row_labels[first_row : first_row + rows_fit]
            labels_above = column_labels[first_column : first_column + num_columns]
            _draw_labels(sheet, labels_left, labels_above, left=left, top=top, width=cell_width, height=cell_height)
            written.append(path if not written else path.with_name(f"{path.stem}-{len(written) + 1}{path.suffix}"))
            _save(written[-1], sheet, {"dreambooth": "sheet"})  # so that it is never taken for a picture
    return tuple(written)


def _save(path: Path, image: Image.Image, text: Mapping[str, str]) -> None:
    chunks = PngInfo()
    for name, value in text.items():
        chunks.add_text(name, value)  # PIL writes what is not Latin-1 as international text by itself
    with atomic_file(path) as partial:
        image.save(partial, format="PNG", pnginfo=chunks)


def _open(source: ImageSource) -> Image.Image:
    return Image.open(source) if isinstance(source, Path) else Image.fromarray(source)


def _cell_size(rows: Sequence[Sequence[ImageSource]]) -> tuple[int, int]:
    """Width and height of the largest image; of a file only the head is read."""
    width = height = 1
    for row in rows:
        for source in row:
            with _open(source) as image:
                width, height = max(width, image.width), max(height, image.height)
    return width, height


def _draw_cells(
    sheet: Image.Image, cells: Sequence[Sequence[ImageSource]], *, left: int, top: int, width: int, height: int
) -> None:
    for down, row in enumerate(cells):
        for across, source in enumerate(row):
            with _open(source) as image:
                sheet.paste(image.convert("RGB"), (left + across * (width + _GAP), top + down * (height + _GAP)))


def _draw_labels(
    sheet: Image.Image, to_left: Sequence[str], above: Sequence[str], *, left: int, top: int, width: int, height: int
) -> None:
    if not to_left and not above:
        return
    font = ImageFont.load_default(_FONT_SIZE)
    draw = ImageDraw.Draw(sheet)
    for across, label in enumerate(above):
        text = _wrapped(label, font, width, top // _LINE_HEIGHT)
        draw.multiline_text((left + across * (width + _GAP), 0), text, fill="black", font=font, spacing=2)
    for down, label in enumerate(to_left):
        text = _wrapped(label, font, left - _GAP, max(1, height // _LINE_HEIGHT))
        draw.multiline_text((0, top + down * (height + _GAP)), text, fill="black", font=font, spacing=2)


def _num_lines(labels: Sequence[str], width: int) -> int:
    font = ImageFont.load_default(_FONT_SIZE)
    return max((_wrapped(label, font, width, _MOST_LINES).count("\n") + 1 for label in labels), default=0)


def _wrapped(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, max_lines: int) -> str:
    """`label` in lines that fit `width` pixels, broken between words where possible; the end is cut with dots."""
    lines = [""]
    for word in label.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], " ".join(lines[max_lines - 1 :])]
    return "\n".join(_fitted(line, font, width) for line in lines)


def _fitted(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line}..."
