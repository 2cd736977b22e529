"""Messages about a flag of one value that several words follow, or a pattern: unquoted spaces, and the shell's `*`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args, get_origin

from dreambooth.display import quoted
from dreambooth.schema.leaves import Leaf

__all__ = ["has_pattern", "pattern_problem", "surplus_problem", "value_types"]

_SHOWN = 3  # words in a message
_PLACES = frozenset({"model", "base", "dataset", "preset", "resume"})  # text, but often a path
_FOLDERS = frozenset({"photos", "prior_images", "prior_folder", "output", "dataset", "resume"})


def has_pattern(leaf: Leaf | str, value: str) -> bool:
    """Whether the value of a path is a pattern that no shell has replaced."""
    return _is_place(leaf) and "*" in value and not Path(value).exists()


def pattern_problem(leaf: Leaf | str, flag: str, value: str) -> str:
    """The message for a pattern in quotes, after an equals sign, or without a match."""
    folder = Path(value.partition("*")[0] + "x").parent
    advice = f"write {flag} {quoted(folder)}" if _is_folder(leaf) else "give one file"
    return f"{flag} is {value!r}: expected one {'folder' if _is_folder(leaf) else 'file'}, found a pattern; {advice}"


def surplus_problem(leaf: Leaf | str, flag: str, words: Sequence[str]) -> str:
    """The message for `words` (two or more) after a flag that takes one.

    Several paths come from a shell's `*`, several words from a missing pair of quotes.
    """
    shown = ", ".join(repr(word) for word in words[:_SHOWN]) + (", ..." if len(words) > _SHOWN else "")
    message = f"{flag} takes one value, but {len(words)} were given ({shown})"
    parents = {Path(word).parent for word in words}
    is_one_folder = len(parents) == 1 and parents != {Path()}
    if _is_place(leaf) and (is_one_folder or any(Path(word).exists() for word in words[1:])):
        advice = "give one of them"
        if _is_folder(leaf) and len(parents) == 1 and not all(Path(word).is_dir() for word in words):
            advice = f"write {flag} {quoted(parents.pop())}"
        return f"{message}: the shell replaced a pattern such as * by names; {advice}"
    has_spaces = not value_types(leaf).isdisjoint({str, Path})
    return message + (f"; if they are one text, write {flag} {quoted(' '.join(words))}" if has_spaces else "")


def _name(leaf: Leaf | str) -> str:
    return leaf if isinstance(leaf, str) else leaf.name


def value_types(leaf: Leaf | str) -> frozenset[object]:
    """The types that a flag's text may be read as, such as str, Path, int or NoneType; none of them for a choice."""
    return frozenset({str} if isinstance(leaf, str) else _parts(leaf.annotation))


def _parts(annotation: object) -> set[object]:
    if get_origin(annotation) is Literal:
        return set()
    inner = [part for part in get_args(annotation) if isinstance(part, type) or get_args(part)]
    return set().union(*map(_parts, inner)) if inner else {annotation}


def _is_place(leaf: Leaf | str) -> bool:
    return Path in value_types(leaf) or _name(leaf) in _PLACES


def _is_folder(leaf: Leaf | str) -> bool:
    return _name(leaf) in _FOLDERS
