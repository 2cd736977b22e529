"""The image files that the original's txt2img wrote: by prompt, by number, and one grid. No file is overwritten."""

from __future__ import annotations

import re
from pathlib import Path

from dreambooth.files import link_or_copy
from dreambooth.pages.images import save_picture, write_contact_sheet
from dreambooth.pictures.maker import FinishedPicture
from dreambooth.sampling.names import file_stem, next_number, reserved_by

__all__ = ["PictureFiles"]


class PictureFiles:
    """The files of one command, written as its images are made: `by_prompt` and, with `is_numbered`, `by_number`."""

    def __init__(self, folder: Path, *, is_numbered: bool) -> None:
        self.by_prompt: list[Path] = []
        self.by_number: list[Path] = []
        self._folder = folder
        self._samples = folder / "samples" if is_numbered else None
        self._next: dict[str, int] = {}

    def save(self, finished: FinishedPicture) -> None:
        """Write "the prompt_0.png" with the first free number, and link it under the next number in the folder samples."""
        stem = file_stem(finished.picture.prompt, blank=" ")
        if stem not in self._next:
            self._next[stem] = next_number(self._folder, re.compile(rf"{re.escape(stem)}_(\d+)\."))
        with reserved_by(lambda number: self._folder / f"{stem}_{number}.png", self._next[stem]) as path:
            save_picture(path, finished.pixels_CHW, finished.text)
        self._next[stem] += 1
        self.by_prompt.append(path)
        if self._samples is not None:
            self.by_number.append(_same_picture(path, self._samples))

    def write_grid(self, title: str, *, columns: int) -> tuple[Path, ...]:
        """Write all images as "the-title-0000.png" with the first free number, split into several files when too large."""
        stem = file_stem(title)
        # A split grid has parts "-0000-2.png", ...; a title followed by another number is a different title.
        number = next_number(self._folder, re.compile(rf"{re.escape(stem)}-(\d{{4,}})(?:-[1-9]\d*)?\.(?:png|jpg)$"))
        rows = [self.by_prompt[start : start + columns] for start in range(0, len(self.by_prompt), columns)]
        with reserved_by(lambda free: self._folder / f"{stem}-{free:04d}.png", number) as path:
            return write_contact_sheet(path, rows)


def _same_picture(path: Path, folder: Path) -> Path:
    """Link the image under the next number in `folder`, or copy it where the file system has no hard links."""
    folder.mkdir(exist_ok=True)
    number = next_number(folder, re.compile(r"(\d{5,})\."))
    with reserved_by(lambda free: folder / f"{free:05d}.png", number) as numbered:
        link_or_copy(path, numbered)
    return numbered
