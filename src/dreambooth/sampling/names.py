"""Names for image files: readable, valid on every system and unique; also checks that their folder is writable."""

from __future__ import annotations

import re
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from dreambooth.files import STALE_SECONDS, partial_of

__all__ = ["file_stem", "folder_problems", "next_number", "reserved", "reserved_by"]

_MAX_CHARACTERS = 80
_MAX_BYTES = 160  # file systems allow 255 bytes for the whole name; one letter may take four
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
_NUMBERED = re.compile(r"(\d{5,})-")


def file_stem(prompt: str, *, blank: str = "-") -> str:
    """A file name without suffix that resembles `prompt`: letters and digits of any script; everything else becomes dashes.

    Words are separated by `blank`, a dash or a space. At most 80 characters and 160 bytes; "untitled" if nothing is left;
    never a name that Windows reserves.
    """
    words = [_safe(word) for word in unicodedata.normalize("NFC", prompt).split()]
    stem = blank.join(word for word in words if word)[:_MAX_CHARACTERS]
    stem = stem.encode(sys.getfilesystemencoding(), "ignore").decode(sys.getfilesystemencoding())  # drops unencodable
    stem = stem.encode()[:_MAX_BYTES].decode(errors="ignore").strip("- ")
    if not stem:
        return "untitled"
    return f"{stem}-" if stem.lower() in _RESERVED else stem


def _safe(word: str) -> str:
    letters = [c if unicodedata.category(c)[0] in "LNM" or c == "_" else "-" for c in word]
    return re.sub("-+", "-", "".join(letters)).strip("-")


def folder_problems(folder: Path, *, name: str) -> list[str]:
    """Create a folder for images; returns a message that calls it by `name` if it cannot be created or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return [f"{name} is {folder}: images cannot be written there: {error.strerror}"]
    return []


def next_number(folder: Path, numbered: re.Pattern[str] = _NUMBERED) -> int:
    """One more than the highest number at the start of a name in `folder`; 0 for an empty or missing folder.

    For other naming schemes, pass `numbered`: it matches names from their start, and its first group is the number.
    """
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return 1 + max((int(found.group(1)) for name in names if (found := numbered.match(name))), default=-1)


def reserved(folder: Path, number: int, stem: str) -> AbstractContextManager[Path]:
    """Yield the path of a new file "00012-stem.png" in `folder` to write: the first free number from `number` on."""
    return reserved_by(lambda free: folder / f"{free:05d}-{stem}.png", number)


@contextmanager
def reserved_by(path_of: Callable[[int], Path], number: int) -> Iterator[Path]:
    """Yield the path of a new file to write: the one for the first free number from `number` on.

    An empty hidden file reserves the name from the start, so two programs that write into one folder never take the same name.
    It is removed at the end; what a killed program left of it reserves nothing after an hour.
    """
    while True:
        path = path_of(number)
        claim = partial_of(path, "claim")
        try:
            if claim.exists() and time.time() - claim.stat().st_mtime > STALE_SECONDS:
                claim.unlink(missing_ok=True)
            claim.touch(exist_ok=False)
        except FileExistsError:
            number += 1
            continue
        if not path.exists():
            break
        claim.unlink(missing_ok=True)
        number += 1
    try:
        yield path
    finally:
        claim.unlink(missing_ok=True)
