"""Captions told by the names of files and folders: `rex/dog/001@S asleep.jpg` says "rex asleep".

The first folder names the subject in the place of the token, the second its class in the place of the class word; for class
images, which have no token, the first names the class. Deeper folders begin the caption. What stands behind the first @ of a
file's name is the rest of it; without an @ that is "S C", or "C" for class images, unless a folder has said one of these words.

A folder named as kohya's trainer names them, `10_sks golden retriever`, says both words at once; those above it say nothing.

The words S and C, as they are or beside signs ("S, asleep", "S's"), stand for the token and the class. Blanks and underscores
part words; the name of a folder that stands for S or C is taken as it is. Without a class word C is left out.

The rules are those of the program that first had them. It had these faults, which are not kept: a second @ cut the caption
off, a C without a class word was a crash, and a class image in a folder of its own changed the captions of those after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from dreambooth.data.repeat_folders import repeat_folder, without_parents

__all__ = ["Words", "caption_of_class_image", "caption_of_photo", "class_of_class_image", "words_of_photo"]

_BETWEEN_WORDS = re.compile(r"[\s_]+")
_STANDS_FOR = re.compile(r"""([(\["'“‘]*)([SC])((?:['’]s)?[,.;:!?…)\]"'”’]*)""")


@dataclass(frozen=True)
class Words:
    """What a picture's subject and its class are called."""

    token: str
    class_word: str


def words_of_photo(place: PurePath, default: Words) -> Words:
    """The words for a photo at `place`, relative to the folder of the photos: those of its folders, else the default."""
    return _folders_of_photo(place, default)[0]


def _folders_of_photo(place: PurePath, default: Words) -> tuple[Words, tuple[str, ...]]:
    """The words that the folders of a photo say, and the folders that begin its caption."""
    folders = without_parents(place.parts[:-1])
    if not folders:
        return default, ()
    named = repeat_folder(folders[0])
    if named is not None and named.class_word:
        return Words(named.token, named.class_word), folders[1:]
    token = folders[0] if named is None else named.token
    return Words(token, folders[1] if len(folders) > 1 else default.class_word), folders[2:]


def class_of_class_image(place: PurePath, *, class_word: str) -> str:
    """The class of a class image at `place`, relative to the folder of the class images: its folder's, else the default."""
    folders = without_parents(place.parts[:-1])
    if not folders:
        return class_word
    named = repeat_folder(folders[0])
    return folders[0] if named is None else " ".join(named.words)


def caption_of_photo(place: PurePath, default: Words) -> str:
    """The caption of a photo at `place`, relative to the folder of the photos; empty when its name says nothing."""
    words, folders = _folders_of_photo(place, default)
    return _caption(folders, place.stem, {"S": words.token, "C": words.class_word}, default="S C")


def caption_of_class_image(place: PurePath, *, class_word: str) -> str:
    """The caption of a class image at `place`, relative to the folder of the class images; empty when nothing is said."""
    meanings = {"C": class_of_class_image(place, class_word=class_word)}
    return _caption(without_parents(place.parts[:-1])[1:], place.stem, meanings, default="C")


def _caption(folders: Sequence[str], stem: str, meanings: Mapping[str, str], *, default: str) -> str:
    _, at, behind = stem.partition("@")
    beginning = _BETWEEN_WORDS.split(" ".join(folders))
    if at:
        rest = _BETWEEN_WORDS.split(behind)
    else:
        is_named = any(_stands_for(word, meanings) is not None for word in beginning)
        rest = [] if is_named else default.split()
    filled = " ".join(_filled(word, meanings) for word in (*beginning, *rest))
    return " ".join(filled.split())


def _stands_for(word: str, meanings: Mapping[str, str]) -> re.Match[str] | None:
    """The parts of a word that stands for another: signs, the letter, signs."""
    found = _STANDS_FOR.fullmatch(word)
    return found if found is not None and found[2] in meanings else None


def _filled(word: str, meanings: Mapping[str, str]) -> str:
    """The word itself, or what it stands for; empty when that has no name."""
    found = _stands_for(word, meanings)
    if found is None:
        return word
    meaning = meanings[found[2]].strip()
    return f"{found[1]}{meaning}{found[3]}" if meaning else ""
