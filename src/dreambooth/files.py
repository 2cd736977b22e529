"""Writing files so that nothing is ever half there.

Every file of the project is written beside its place, flushed to the disk and renamed; a reader sees the old file or the
new one, never a part. A folder is published the same way.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic_directory", "atomic_file", "is_no_room", "link_or_copy", "remove_leftovers", "write_json", "write_text"]

_MARK = ".partial-"
_NO_ROOM = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}  # Windows lacks one


def is_no_room(error: OSError) -> bool:
    """Whether it says that a file does not fit: a full disk, a quota that is used up, a file larger than may be."""
    return error.errno in _NO_ROOM


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error say that `path` did not fit: one while writing names no file, and one before that the temporary name.

    torch.save raises an error of its own after that of the file, and speaks of positions.
    """
    try:
        yield
    except OSError as error:
        if is_no_room(error):
            error.filename = str(path)
        raise
    except RuntimeError as error:
        cause = error.__context__
        if isinstance(cause, OSError) and is_no_room(cause):
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}{_MARK}{uuid.uuid4().hex[:12]}")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network and Windows file systems refuse to flush a folder; the rename is still atomic
        pass
    finally:
        os.close(descriptor)


def _flush_directory(path: Path) -> None:
    if os.name == "posix":
        _flush(path)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; on leaving without an error it becomes `path`.

    On an error, what was written is removed and an older file at `path` is untouched. The suffix of the temporary name is
    not that of `path`: pass an explicit format to writers that guess from the name.
    """
    partial = _beside(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            _flush(partial)
            partial.replace(path)
            _flush_directory(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path` to fill; on leaving without an error it becomes `path`.

    Raises FileExistsError when `path` already stands: a published folder is never changed.
    """
    if path.exists():
        raise FileExistsError(path)
    partial = _beside(path)
    with _named(path):
        partial.mkdir(parents=True)
        try:
            yield partial
            for entry in sorted(partial.rglob("*")):
                if entry.is_file():
                    _flush(entry)
            _flush_directory(partial)
            partial.rename(path)
            _flush_directory(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def link_or_copy(source: Path, destination: Path) -> None:
    """Let `destination` lead to the contents of the file `source`, atomically: as a second name, or as a copy where a file
    system has no second names. Neither may be written to in place from then on.
    """
    with atomic_file(destination) as partial:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)


def remove_leftovers(directory: Path, *, is_deep: bool = False) -> list[str]:
    """Remove what an interrupted `atomic_file` or `atomic_directory` left in `directory`; the removed names.

    With `is_deep` the folders in it are looked through as well; nobody else may be writing there then.
    """
    removed = []
    find = directory.rglob if is_deep else directory.glob
    for entry in sorted(find(f".*{_MARK}*")) if directory.is_dir() else []:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
        removed.append(entry.name)
    return removed


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
