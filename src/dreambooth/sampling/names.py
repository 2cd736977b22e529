"""Names for picture files: readable, safe on every system, never taken twice; and whether their folder takes them."""

from __future__ import annotations

import re
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

__all__ = ["file_stem", "folder_problems", "next_number", "reserved", "reserved_by"]

_MAX_CHARACTERS = 80
_MAX_BYTES = 160  # file systems allow 255 bytes with everything around it; a letter may take four
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
_NUMBERED = re.compile(r"(\d{5,})-")


def file_stem(prompt: str, *, blank: str = "-") -> str:
    """A file name without suffix that still reads like `prompt`: letters and digits of any script, dashes for the rest.

    Words are parted by `blank`, a dash or a space. At most 80 characters and 160 bytes; "untitled" when nothing is left;
    never a name that Windows keeps for itself.
    """
    words = [_safe(word) for word in unicodedata.normalize("NFC", prompt).split()]
    stem = blank.join(word for word in words if word)[:_MAX_CHARACTERS]
    stem = stem.encode(sys.getfilesystemencoding(), "ignore").decode(sys.getfilesystemencoding())  # what the system can take
    stem = stem.encode()[:_MAX_BYTES].decode(errors="ignore").strip("- ")
    if not stem:
        return "untitled"
    return f"{stem}-" if stem.lower() in _RESERVED else stem


def _safe(word: str) -> str:
    letters = [c if unicodedata.category(c)[0] in "LNM" or c == "_" else "-" for c in word]
    return re.sub("-+", "-", "".join(letters)).strip("-")


def folder_problems(folder: Path, *, name: str) -> list[str]:
    """Make a folder for pictures; a sentence that calls it by `name` when it cannot be made or written into."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return [f"{name} is {folder}: pictures cannot be written there: {error.strerror}"]
    return []


def next_number(folder: Path, numbered: re.Pattern[str] = _NUMBERED) -> int:
    """One more than the highest number that a name in `folder` begins with; 0 in an empty or missing folder.

    Another pattern finds it elsewhere: `numbered` matches names from their start, and its first group is the number.
    """
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return 1 + max((int(found.group(1)) for name in names if (found := numbered.match(name))), default=-1)


def reserved(folder: Path, number: int, stem: str) -> AbstractContextManager[Path]:
    """Give the path of a new file "00012-stem.png" in `folder` to write: the first free number from `number` on."""
    return reserved_by(lambda free: folder / f"{free:05d}-{stem}.png", number)


@contextmanager
def reserved_by(path_of: Callable[[int], Path], number: int) -> Iterator[Path]:
    """Give the path of a new file to write: that of the first free number from `number` on.

    An empty file holds the name from the start, so two programs that write into one folder never take the same one; when
    the block fails it goes.
    """
    while True:
        path = path_of(number)
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
