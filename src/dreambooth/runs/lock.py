"""One process at a time in a run folder."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth.errors import RunError

__all__ = ["LOCK_NAME", "exclusive"]

LOCK_NAME = ".lock"

# What file systems answer that have no locks at all: network shares, buckets and drives that are mounted as folders.
_HAS_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder`, making it if needed, so that no other process can hold it; however this one ends, the hold ends too.

    Raises RunError when another process holds it. Where the system (Windows) or the file system has no such locks nothing is
    held.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("w", encoding="utf-8") as file:
        try:
            fcntl = importlib.import_module("fcntl")
        except ImportError:
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise RunError(
                    f"{folder}: another process is training here",
                    hint="Wait until it ends or stop it, or choose another --output.",
                ) from error
            if error.errno not in _HAS_NO_LOCKS:
                raise
        yield
