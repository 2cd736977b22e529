"""Several files as one ZIP file that is written while it is sent: nothing is copied on the disk."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["zipped"]

_BLOCK = 1 << 20


class _Sink:
    """Takes what a ZIP file writes until it is sent."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def write(self, block: bytes) -> int:
        self._blocks.append(bytes(block))
        return len(block)

    def flush(self) -> None:
        """Nothing: there is no file."""

    def close(self) -> None:
        """Nothing, either."""

    def taken(self) -> bytes:
        taken, self._blocks = b"".join(self._blocks), []
        return taken


def zipped(files: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    """The bytes of a ZIP file of `files`, pairs of a name inside and a path; not compressed, because models hardly shrink.

    Raises OSError when a file cannot be read, in the middle of the bytes.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, path in files:
            member = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
            with path.open("rb") as source, archive.open(member, "w", force_zip64=True) as target:
                while block := source.read(_BLOCK):
                    target.write(block)
                    yield sink.taken()
    yield sink.taken()
