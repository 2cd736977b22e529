"""Files of a photo folder read whole, with errors for their owner: the problem without the file's name, and the advice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth.errors import PhotoError
from dreambooth.reading import read_text

__all__ = ["bytes_of", "text_of"]


def bytes_of(path: Path) -> bytes:
    """What is in a file. Raises PhotoError when it cannot be read."""
    with _readable():
        return path.read_bytes()


def text_of(path: Path, *, most_bytes: int, not_utf8: str, too_large: str) -> str:
    """A UTF-8 text without its byte order mark. Raises PhotoError; `not_utf8` and `too_large` are the advice in those cases."""
    try:
        with _readable():
            return read_text(path, most_bytes=most_bytes, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PhotoError("is not UTF-8 text", hint=not_utf8) from error
    except ValueError as error:
        raise PhotoError(f"is {error}", hint=too_large) from error


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PhotoError(f"cannot be read: {error.strerror}", hint="Make it readable, or remove it.") from error
