"""Whether a folder in use is still where it was: people move and rename folders of runs that train.

A program that only remembers the path would write the rest of the run into a second folder of the old name.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PlacedFolder"]


@dataclass(frozen=True)
class PlacedFolder:
    """A folder, known by itself and not by its name."""

    path: Path
    """Where it was at first."""
    _descriptor: int | None
    """An open descriptor; None on Windows, which lets no one move a folder whose files are open."""

    @classmethod
    def open(cls, path: Path) -> PlacedFolder:
        """The folder that is at `path` now. Close it afterwards."""
        return cls(path, os.open(path, os.O_RDONLY) if os.name == "posix" else None)

    def close(self) -> None:
        """Forget it."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def now(self) -> Path | None:
        """Its path now: `path` while it was not moved; None if it was removed, or the system does not tell its new path.

        Costs a few microseconds while it was not moved.
        """
        if self._descriptor is None or self._is_at(self.path):
            return self.path
        with suppress(OSError):
            found = _path_of(self._descriptor)
            return found if self._is_at(found) else None
        return None

    def _is_at(self, path: Path) -> bool:
        assert self._descriptor is not None
        try:
            return os.path.samestat(path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False


def _path_of(descriptor: int) -> Path:
    """The path of an open folder. Raises OSError where the system has no way to ask."""
    if sys.platform == "darwin":
        import fcntl

        return Path(os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))
    return Path(f"/proc/self/fd/{descriptor}").readlink()
