"""One process at a time in a folder."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dreambooth.errors import RunError
from dreambooth.runs.place import PlacedFolder

__all__ = ["LOCK_NAME", "exclusive", "in_turn"]

LOCK_NAME = ".lock"

# What file systems answer that have no locks at all: network shares, buckets and drives that are mounted as folders.
_HAS_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


@contextmanager
def exclusive(folder: Path) -> Iterator[PlacedFolder]:
    """Hold `folder`, making it if needed, so that no other process can hold it; however this one ends, the hold ends too.

    Yields the folder, wherever it is moved to meanwhile.

    Raises RunError when another process holds it. Where the file system has no locks nothing is held: a marker file instead
    would outlive a process that was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_NAME, timeout=0, fallback_to_soft=False)
    try:
        _acquire(lock)
    except Timeout as error:
        raise RunError(
            f"{folder}: another process is training here",
            hint="Wait until it ends or stop it, or choose another --output.",
        ) from error
    placed = PlacedFolder.open(folder)
    try:
        yield placed
    finally:
        placed.close()
        lock.release()


@contextmanager
def in_turn(folder: Path, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the folder, which must exist, as soon as no other process holds it; `waiting` is called once if one does.

    Where the file system has no locks nothing is held, and nobody waits.
    """
    lock = FileLock(folder / LOCK_NAME, timeout=0, fallback_to_soft=False)
    try:
        _acquire(lock)
    except Timeout:
        waiting()
        _acquire(lock, timeout=-1)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, *, timeout: float = 0) -> None:
    """Hold the lock, or nothing where the file system has none. Raises Timeout while another process holds it; -1 waits."""
    try:
        lock.acquire(timeout=timeout, poll_interval=0.2)
    except OSError as error:  # Timeout is one, without a number
        if error.errno not in _HAS_NO_LOCKS:
            raise
