"""Names for picture files: readable, safe on every system, never taken twice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["file_stem", "next_number", "reserved"]

_MAX_CHARACTERS = 80
_MAX_BYTES = 160  # file systems allow 255 bytes with everything around it; a letter may take four
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
_NUMBERED = re.compile(r"(\d{5,})-")


def file_stem(prompt: str) -> str:
    """A file name without suffix that still reads like `prompt`: letters and digits of any script, dashes for the rest.

    At most 80 characters and 160 bytes; "untitled" when nothing is left; never a name that Windows keeps for itself.
    """
    letters = [c if unicodedata.category(c)[0] in "LNM" or c == "_" else "-" for c in unicodedata.normalize("NFC", prompt)]
    stem = re.sub("-+", "-", "".join(letters)).strip("-")[:_MAX_CHARACTERS]
    stem = stem.encode()[:_MAX_BYTES].decode(errors="ignore").strip("-")
    if not stem:
        return "untitled"
    return f"{stem}-" if stem.lower() in _RESERVED else stem


def next_number(folder: Path) -> int:
    """One more than the highest number that begins a name in `folder`; 0 in an empty or missing folder."""
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return 1 + max((int(found.group(1)) for name in names if (found := _NUMBERED.match(name))), default=-1)


@contextmanager
def reserved(folder: Path, number: int, stem: str) -> Iterator[Path]:
    """Give the path of a new file "00012-stem.png" in `folder` to write: the first free number from `number` on.

    An empty file holds the name from the start, so two programs that write into one folder never take the same one; when
    the block fails it goes.
    """
    while True:
        path = folder / f"{number:05d}-{stem}.png"
        try:
            path.touch(exist_ok=False)
            break
        except FileExistsError:
            number += 1
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise
