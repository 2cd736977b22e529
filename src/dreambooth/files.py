"""Atomic writing of files and folders.

Every file is written to a temporary name in the same folder, flushed to disk and renamed; a reader sees the old file or the
new one, never a part. Folders are published the same way.

Names of files need not be UTF-8 on Linux: Python keeps the odd bytes of such a name as lone surrogates. JSON escapes them, and
other text files get the bytes themselves.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

__all__ = [
    "STALE_SECONDS",
    "atomic_directory",
    "atomic_file",
    "expanded",
    "free_disk_bytes",
    "is_leftover",
    "is_no_room",
    "link_or_copy",
    "partial_of",
    "remove_directory",
    "remove_leftovers",
    "remove_partials_of",
    "remove_stale",
    "utf8_name",
    "without_paths",
    "write_json",
    "write_text",
]

STALE_SECONDS = 3600
"""How old an unfinished file in a shared folder must be to be taken for what a killed program left."""

_MARK = ".partial-"
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_ROOM = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}  # Windows lacks one


def is_no_room(error: OSError) -> bool:
    """Whether the error means that a file does not fit: full disk, exhausted quota, file too large."""
    return error.errno in _NO_ROOM


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Make disk-full errors name `path`: errors while writing name no file, earlier ones name the temporary file.

    torch.save raises its own RuntimeError after the file's OSError.
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


def partial_of(path: Path, mark: str) -> Path:
    """The hidden name beside `path` of something unfinished; see `is_leftover`."""
    return path.with_name(f".{path.name}{_MARK}{mark}")


def _beside(path: Path) -> Path:
    return partial_of(path, uuid.uuid4().hex[:12])


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network and Windows file systems cannot flush a folder; the rename is still atomic
        pass
    finally:
        os.close(descriptor)


def _flush_directory(path: Path) -> None:
    if os.name == "posix":
        _flush(path)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is renamed to `path`.

    On an error, the temporary file is removed and an existing `path` is untouched. The temporary name has another suffix than
    `path`: pass an explicit format to writers that guess it from the name.
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
            # There even after a rename if both are hard links to one file. On a disk that is read-only by now it stays, and
            # an error of the work itself says more.
            with suppress(OSError):
                partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder to fill; on success it is renamed to `path`.

    Raises FileExistsError if `path` exists: a published folder is never changed.
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
    """Make `destination` a hard link to the file `source`, or a copy where the file system has no hard links; atomic.

    Neither may be modified in place afterwards.
    """
    with atomic_file(destination) as partial:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)


def remove_directory(path: Path) -> None:
    """Remove a published folder: it is renamed to a hidden name first, so that it is whole or absent at every moment.

    What an interrupted call leaves is a leftover as any other.
    """
    hidden = _beside(path)
    path.rename(hidden)
    _flush_directory(path.parent)
    shutil.rmtree(hidden, ignore_errors=True)


def is_leftover(entry: Path) -> bool:
    """Whether it is what an interrupted call of `atomic_file` or `atomic_directory` left."""
    return entry.name.startswith(".") and _MARK in entry.name


def remove_leftovers(directory: Path, *, is_deep: bool = False, older_than: float = 0) -> list[str]:
    """Remove what interrupted calls of `atomic_file` or `atomic_directory` left in `directory`. Returns the removed names.

    `is_deep` includes subfolders; no other process may be writing there, unless only what was not changed for `older_than`
    seconds is removed.
    """
    removed = []
    find = directory.rglob if is_deep else directory.glob
    for entry in sorted(find(f".*{_MARK}*")) if directory.is_dir() else []:
        if older_than and not _is_older(entry, older_than):
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
        removed.append(entry.name)
    return removed


def remove_stale(directory: Path) -> None:
    """Remove what programs that were killed more than an hour ago left in a folder that several may share."""
    with suppress(OSError):  # a read-only folder is no reason to stop
        remove_leftovers(directory, older_than=STALE_SECONDS)


def _is_older(entry: Path, seconds: float) -> bool:
    try:
        return time.time() - entry.stat().st_mtime > seconds
    except FileNotFoundError:  # finished meanwhile
        return False


def remove_partials_of(path: Path) -> None:
    """Remove what interrupted calls left of this one file or folder; nothing else may be writing it."""
    for entry in path.parent.iterdir() if path.parent.is_dir() else ():
        if entry.name.startswith(f".{path.name}{_MARK}"):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def free_disk_bytes(path: Path) -> int:
    """Bytes that are free on the disk where `path` is, or will be."""
    existing = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free


def without_paths(value: Any) -> Any:
    """A tree of plain values whose paths are cut to the last name: also texts that are absolute paths of any system, or
    relative ones of something that exists here, which a hub id of the same form is not.

    What is published says nothing about the folders of the machine that made it.
    """
    if isinstance(value, Mapping):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(inner) for inner in value]
    if isinstance(value, PurePath):
        return value.name
    if isinstance(value, str):
        for path in (PurePosixPath(value), PureWindowsPath(value)):
            if path.is_absolute() or (value.startswith("~") and len(path.parts) > 1):
                return path.name
        return Path(value).name if _is_relative_path(value) else value
    return value


def _is_relative_path(text: str) -> bool:
    try:
        return ("/" in text or os.sep in text) and Path(text).exists()
    except (OSError, ValueError):  # a text too long for a name, or with a null character
        return False


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, atomically. Bytes of a name that is not UTF-8 are written as they are."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON in UTF-8 with a final newline, atomically; `json.loads` returns an equal value.

    Bytes of a name that is not UTF-8 are escaped, so that every program can read the file.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    write_text(path, _SURROGATE.sub(lambda odd: f"\\u{ord(odd[0]):04x}", text) + "\n")


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """Yield a name of an existing file for libraries that take only UTF-8: its own, or that of an open file descriptor."""
    name = str(path)
    if _SURROGATE.search(name) is None:
        yield name
        return
    with path.open("rb") as file:
        yield f"/dev/fd/{file.fileno()}"


def expanded(path: Path) -> Path:
    """The path with ~ replaced by the home folder; unchanged when there is no such user or home, so that it is not found."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path
