"""Folders named as kohya's trainer wants them: `10_sks vase` means 10 repeats of photos of the token `sks`, class `vase`.

Repeats are not needed here: each photo is seen equally often, and `--steps` decides how often.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["RepeatFolder", "repeat_folder", "without_parents"]

_NAME = re.compile(r"(\d{1,3})_(.*[^\W\d_].*)")
_BETWEEN_WORDS = re.compile(r"[\s_]+")


@dataclass(frozen=True)
class RepeatFolder:
    """What such a folder's name says."""

    name: str
    repeats: int
    words: tuple[str, ...]
    """The token and the class word, or the class word alone for class images."""

    @property
    def token(self) -> str:
        """The first word."""
        return self.words[0]

    @property
    def class_word(self) -> str:
        """The words after the first; empty when there are none."""
        return " ".join(self.words[1:])


def repeat_folder(name: str) -> RepeatFolder | None:
    """What the name of a folder says, or None when it is no such name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    words = tuple(word for word in _BETWEEN_WORDS.split(found[2]) if word)
    return RepeatFolder(name, int(found[1]), words)


def without_parents(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The folders from the first one with such a name on; all of them when there is none.

    Those above it (`img`, `reg`) only sort the others.
    """
    first = next((place for place, name in enumerate(folders) if repeat_folder(name) is not None), 0)
    return folders[first:]
