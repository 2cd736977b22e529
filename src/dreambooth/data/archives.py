"""Photos in an archive: unpacked into a folder of its own, without anything in it reaching outside.

Only plain files are unpacked, by names that stay below the folder, up to limits on files and bytes. What an archive says about
sizes is not believed; the bytes are counted.
"""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from dreambooth.errors import PhotoError
from dreambooth.files import atomic_directory
from dreambooth.reading import printable

__all__ = ["ARCHIVE_SUFFIXES", "MOST_BYTES", "MOST_FILES", "is_archive", "unpack"]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")

MOST_FILES = 20_000
"""Files in an archive, at most."""

MOST_BYTES = 16 << 30
"""Bytes of an archive's files, unpacked, at most."""

_CHUNK = 1 << 20
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError, zlib.error)
_SIGNS = 12  # of the digest in the folder's name


def is_archive(path: Path) -> bool:
    """Whether a path is a file that is named like an archive."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES) and path.is_file()


def unpack(archive: Path, into: Path) -> Path:
    """Unpack an archive into a folder below `into`, named by its content, unless that exists; the folder.

    Raises PhotoError when the archive cannot be read, is encrypted, is too large, or holds links, devices or names that lead
    out of the folder.
    """
    try:
        with archive.open("rb") as file:
            digest = _digest(file)
        folder = into / f"{_stem(archive)}-{digest[:_SIGNS]}"
        if not folder.is_dir():
            with atomic_directory(folder) as unfinished:
                _unpack(archive, unfinished)
    except PhotoError as error:
        raise PhotoError(f"{archive}: {error.problems[0]}", hint=error.hint) from error
    except (*_DAMAGE, lzma.LZMAError) as error:
        is_no_archive = isinstance(error, tarfile.ReadError | zipfile.BadZipFile)
        reason = "it is damaged, or a part of it is missing" if is_no_archive else str(error) or type(error).__name__
        raise PhotoError(
            f"{archive}: cannot be unpacked ({printable(reason)})", hint="Copy it again, or unpack it and give the folder."
        ) from error
    finally:
        with suppress(OSError):  # empty after an error
            into.rmdir()
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    left = MOST_BYTES
    with closing(_files(archive)) as files:
        for number, (name, opened) in enumerate(files):
            if number >= MOST_FILES:
                hint = "Unpack the photos that you want, and give the folder."
                raise PhotoError(f"holds more than {MOST_FILES} files", hint=hint)
            path = folder / _safe(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with opened() as file, path.open("xb") as written:
                    left -= _copy(file, written, left)
            except FileExistsError as error:
                raise PhotoError(f"holds {printable(name)} twice", hint="Unpack it, and give the folder.") from error


def _files(archive: Path) -> Generator[tuple[str, Callable[[], IO[bytes]]], None, None]:
    """Name and opener of every plain file; folders are left out. Raises PhotoError for everything else."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                if entry.flag_bits & 1:
                    raise PhotoError("is encrypted", hint="Unpack it, and give the folder.")
                if (entry.external_attr >> 16) & 0o170000 not in (0, 0o100000, 0o040000):
                    raise _not_plain(entry.filename)
                if not entry.is_dir():
                    yield entry.filename, partial(opened.open, entry)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile():
                yield member.name, partial(_content, tar, member)
            elif not member.isdir():
                raise _not_plain(member.name)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None, "a plain file"
    return file


def _not_plain(name: str) -> PhotoError:
    return PhotoError(f"holds {printable(name)}, a link or a device", hint="Unpack it, and give the folder of the photos.")


def _safe(name: str) -> PurePosixPath:
    """The name as a path below a folder. Raises PhotoError when it leads out of it."""
    parts = [part for part in unicodedata.normalize("NFC", name).replace("\\", "/").split("/") if part not in ("", ".")]
    is_rooted = name.startswith(("/", "\\")) or (parts and parts[0].endswith(":")) or name[1:2] == ":"
    if is_rooted or ".." in parts or not parts or "\0" in name:
        raise PhotoError(f"holds {printable(name)}, which leads out of it", hint="Do not use it: it may be made to harm.")
    return PurePosixPath(*parts)


def _copy(file: IO[bytes], written: IO[bytes], most: int) -> int:
    """Copy a file; the number of its bytes. Raises PhotoError beyond `most` bytes."""
    num = 0
    while chunk := file.read(_CHUNK):
        num += len(chunk)
        if num > most:
            raise PhotoError(
                f"holds more than {MOST_BYTES >> 30} GiB of files", hint="Unpack the photos that you want, and give the folder."
            )
        written.write(chunk)
    return num


def _stem(archive: Path) -> str:
    name = archive.name
    suffix = max((one for one in ARCHIVE_SUFFIXES if name.lower().endswith(one)), key=len)
    return name[: -len(suffix)] or "photos"


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
