"""One process at a time in a run folder."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth.errors import RunError

__all__ = ["LOCK_NAME", "exclusive"]

LOCK_NAME = ".lock"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder`, making it if needed, so that no other process can hold it; however this one ends, the hold ends too.

    Raises RunError when another process holds it. Where the system has no such locks (Windows) nothing is held.
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
            raise RunError(
                f"{folder}: another process is training here", hint="Wait until it ends or stop it, or choose another --output."
            ) from error
        yield
