"""Reading what anyone may have written: bounded texts, bounded JSON, and every failure of a reader as an error of ours.

A file that was damaged, cut off or made to harm can make a library raise almost any exception, and text from it may hold
anything: escape sequences that control a terminal, whole numbers of a thousand digits, lists nested a thousand deep.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dreambooth.errors import DreamboothError

__all__ = [
    "SeveralProblemsError",
    "WrongFileError",
    "check_one_line",
    "check_template",
    "parse_json",
    "printable",
    "read_json",
    "read_text",
    "reading",
    "reason_of",
    "shown_value",
    "without_controls",
]

_LONGEST_SHOWN = 200  # characters of a text from a file that are shown
_LARGEST = 2**64  # whole numbers beyond it fit into no tensor and no library
_DEEPEST = 100
_MOST_BYTES = 64 << 20
_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class SeveralProblemsError(ValueError):
    """Everything that one rule finds wrong with a value."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class WrongFileError(SeveralProblemsError):
    """What is wrong in a file that a value names. Each problem says where it is, so messages add no other place to it."""


def without_controls(text: str) -> str:
    r"""The text as a terminal may show it: control characters, which could move the cursor or hide text, as \x1b and so on.

    Line breaks and tabs stay. Marks that turn the direction of writing are escaped too, for they show words in another order.
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_harmless(letter) else letter.encode("unicode_escape").decode() for letter in text)


def _is_harmless(letter: str) -> bool:
    code = ord(letter)
    return letter in "\n\t" or not (code < 0x20 or 0x7F <= code < 0xA0 or letter in _BIDI)


def printable(text: str) -> str:
    """A text from a file in one line of a message: without control characters, and not endless."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:_LONGEST_SHOWN])
    return shown + "..." if len(text) > _LONGEST_SHOWN else shown


def shown_value(value: object) -> str:
    """The `repr` of a plain value in one line of a message, not endless."""
    try:
        return printable(repr(value))
    except ValueError:  # a whole number of thousands of digits
        return "a whole number of thousands of digits"
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


@contextmanager
def reading(
    place: object, error: type[DreamboothError], *, hint: str | Callable[[], str] | None = None, what: str = "cannot be read"
) -> Iterator[None]:
    """Inside, any exception of a reader becomes `error`, "PLACE: WHAT (reason)"; our own errors pass unchanged.

    A hint that takes work to find is a function, called only for an error.
    """
    try:
        yield
    except DreamboothError:
        raise
    except Exception as failure:
        found = hint() if callable(hint) else hint
        raise error(f"{place}: {what} ({reason_of(failure)})", hint=found) from failure


def reason_of(failure: Exception) -> str:
    """Why a reader failed, in one line."""
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    if isinstance(failure, RecursionError):
        return "nested too deeply"
    return printable(" ".join(str(failure).split())) or type(failure).__name__


def read_text(path: Path, *, most_bytes: int = _MOST_BYTES, encoding: str = "utf-8") -> str:
    """The text of a file, whose lines end with a line feed whatever they end with there.

    Raises OSError, UnicodeDecodeError, and ValueError for more than `most_bytes` bytes. No more than that is ever read, so that
    a device without an end is refused like a large file.
    """
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"larger than {most_bytes:,} bytes")
    return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, *, most_bytes: int = _MOST_BYTES) -> Any:
    """The value in a JSON file. Raises OSError, and ValueError for everything that is wrong with the content."""
    return parse_json(read_text(path, most_bytes=most_bytes))


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, also for nesting beyond 100 levels and whole numbers beyond 64 bits."""
    try:
        value = json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_depth(value)
    return value


def _whole(digits: str) -> int:
    if len(digits) > 21 or abs(number := int(digits)) >= _LARGEST:
        raise ValueError(f"a whole number of {len(digits.lstrip('-'))} digits")
    return number


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inside(outer)]
        if not level:
            return
    raise ValueError("nested too deeply")


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


def check_template(template: str, allowed: frozenset[str]) -> str:
    """Return `template` if every {placeholder} in it is allowed. Raises ValueError naming the first that is not.

    Literal braces are doubled, as in every Python format string.
    """
    try:
        fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"{shown_value(template)} is not a valid template: {error}; double a literal brace") from error
    for _, name, format_spec, conversion in fields:
        if name not in allowed:
            known = " and ".join(f"{{{word}}}" for word in sorted(allowed))
            raise ValueError(f"{shown_value(template)} has the unknown placeholder {{{name}}}; expected {known}")
        if format_spec or conversion:
            raise ValueError(f"{shown_value(template)} has more than a name in {{{name}}}; write {{{name}}} alone")
    return template


def check_one_line(word: str) -> str:
    """Return `word` if it can stand in a prompt: in one line, without control characters. Raises ValueError if it cannot."""
    if (odd := next((letter for letter in word if not letter.isprintable()), None)) is not None:
        raise ValueError(
            f"{shown_value(word)} holds {odd!a}, which no prompt holds; give letters that can be seen, in one line"
        )
    return word
