"""Photos and captions from a browser into a project's folder: counted while they are read, kept only when they are whole.

Nothing that is here is ever overwritten, and no name leads out of the folder.
"""

from __future__ import annotations

import hashlib
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from starlette.datastructures import UploadFile

from dreambooth.data.decoding import decode
from dreambooth.data.listing import CAPTION_SUFFIXES
from dreambooth.errors import PhotoError
from dreambooth.files import atomic_file, free_disk_bytes, is_no_room

__all__ = ["LEAST_FREE_BYTES", "MOST_PHOTOS", "MOST_PHOTO_BYTES", "Received", "receive", "safe_name"]

MOST_PHOTO_BYTES = 50 << 20
MOST_PHOTOS = 200
_MOST_CAPTION_BYTES = 1 << 16
_MOST_UNPACKED_BYTES = 2 << 30
LEAST_FREE_BYTES = 500 << 20
_LONGEST_STEM = 80
_NO_ROOM = "there is no room left on the disk"


@dataclass
class Received:
    """What became of an upload."""

    kept: list[str] = field(default_factory=list)
    """Names of the files that were written."""
    refused: list[str] = field(default_factory=list)
    """What is wrong with each of the others."""


def receive(files: Sequence[UploadFile], folder: Path) -> Received:
    """Write the photos and captions of an upload into `folder`; ZIP files are taken apart."""
    received, budget = Received(), _MOST_UNPACKED_BYTES
    for file in files:
        name = file.filename or ""
        if not name:  # a form without a chosen file
            continue
        if Path(name).suffix.lower() == ".zip":
            budget -= _unpack(name, file.file, folder, received, most=budget)
        else:
            _keep(name, _read(file.file, MOST_PHOTO_BYTES), folder, received)
    return received


def safe_name(name: str) -> str:
    """A file name without folders, blanks and control characters that is not hidden; letters of all scripts stay."""
    last = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    stem, dot, suffix = last.rpartition(".")
    if not dot:
        stem, suffix = last, ""
    safe = re.sub(r"[^\w.-]+", "-", stem).strip(".-_")[:_LONGEST_STEM] or "photo"
    ending = re.sub(r"\W", "", suffix).lower()[:8]
    return f"{safe}.{ending}" if ending else safe


def _read(file: BinaryIO, most: int) -> bytes | None:
    """The whole content; None for more than `most` bytes, of which no more are read."""
    content = file.read(most + 1)
    return None if len(content) > most else content


def _keep(name: str, content: bytes | None, folder: Path, received: Received) -> None:
    problem = _problem(name, content, folder)
    if problem or content is None:
        received.refused.append(f"{Path(name).name[:80]}: {problem}")
        return
    path = folder / safe_name(name)
    digest, number = hashlib.sha256(content).digest(), 1
    while path.exists():
        if hashlib.sha256(path.read_bytes()).digest() == digest:
            received.kept.append(path.name)  # the same photo once more
            return
        number += 1
        path = folder / f"{Path(safe_name(name)).stem}-{number}{Path(safe_name(name)).suffix}"
    try:
        with atomic_file(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        problem = _NO_ROOM if is_no_room(error) else f"cannot be written ({error.strerror or error})"
        received.refused.append(f"{Path(name).name[:80]}: {problem}")
        return
    received.kept.append(path.name)


def _problem(name: str, content: bytes | None, folder: Path) -> str:
    """Why a file is not taken; empty when it is."""
    is_caption = Path(name).suffix.lower() in CAPTION_SUFFIXES
    if content is None or (is_caption and len(content) > _MOST_CAPTION_BYTES):
        return "is larger than a photo or a caption may be" if is_caption else f"is larger than {MOST_PHOTO_BYTES >> 20} MB"
    if free_disk_bytes(folder) < LEAST_FREE_BYTES + len(content):
        return _NO_ROOM
    if is_caption:
        return "" if _is_utf8(content) else "is not UTF-8 text. Save the caption as UTF-8."
    if folder.is_dir() and sum(1 for _ in folder.iterdir()) >= 2 * MOST_PHOTOS:
        return f"there are already {MOST_PHOTOS} photos with captions"
    try:
        decode(content)
    except PhotoError as error:
        return f"{error.problems[0]}. {error.hint or ''}".strip()
    return ""


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return True


def _unpack(name: str, file: BinaryIO, folder: Path, received: Received, *, most: int) -> int:
    """Take a ZIP file apart, member by member; returns how many bytes came out."""
    taken = 0
    try:
        with zipfile.ZipFile(file) as archive:
            for member in _members(archive):
                with archive.open(member) as opened:
                    content = opened.read(min(MOST_PHOTO_BYTES, most - taken) + 1)
                taken += len(content)
                if taken > most:
                    received.refused.append(f"{Path(name).name[:80]}: unpacks to more than {_MOST_UNPACKED_BYTES >> 30} GB")
                    break
                _keep(member.filename, content if len(content) <= MOST_PHOTO_BYTES else None, folder, received)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        received.refused.append(f"{Path(name).name[:80]}: is not a ZIP file that can be read ({error})")
    return taken


def _members(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The files of an archive that may be photos or captions: no folders, no links, nothing hidden, at most as many as fit."""
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir()
        and not stat.S_ISLNK(member.external_attr >> 16)
        and not Path(member.filename).name.startswith(".")
        and "__MACOSX" not in member.filename
    ]
    yield from members[: 2 * MOST_PHOTOS]
