"""Words that name a subject: what CLIP's tokenizer makes of one, and rare ones to choose from.

A good word is a single token (several would share the subject among pieces that other words use) and means nothing yet.
DreamBooth (arXiv 2208.12242, section 3.2) picks short rare tokens by their place in its tokenizer's vocabulary, ordered by
frequency. CLIP's vocabulary allows the same: entry 512 + k is the k-th pair that was merged, and the most frequent pair was
always merged next, so a later entry was rarer. The limits of that rule: it speaks of the text the tokenizer was made from,
not of the captions CLIP learned; and rare is not meaningless ("trombone" is entry 44423). Without a list of all words, names
and abbreviations, what reads like a word is taken for one, and known abbreviations are listed in token_meanings.txt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

__all__ = ["TokenDescription", "describe_token", "is_rare", "propose_tokens", "says"]

_FOLDER = Path(__file__).parent
_END = "</w>"
_CONTROL = ("<|startoftext|>", "<|endoftext|>")
_MOST_READ = 75  # a text encoder reads 77 tokens, two of which mark the start and the end
_RARE_FROM = 40_000  # the last fifth of the entries; backpack is 14894, otter 22456, corgi 31320, teapot 40749
_PROPOSED = re.compile(r"(?!.*(.)\1\1)[b-df-hj-np-tv-xz]{3,4}")  # without a vowel it is no word and no name


@dataclass(frozen=True)
class TokenDescription:
    """What the tokenizer makes of a word: its pieces in the vocabulary's spelling (`</w>` ends a word), and their ids."""

    word: str
    pieces: tuple[str, ...]
    ids: tuple[int, ...]
    warnings: tuple[str, ...]


def describe_token(word: str) -> TokenDescription:
    """Look a word up; the warnings say why it may be a bad name for a subject. There are none for a good one."""
    encoded = _tokenizer().encode(word, add_special_tokens=False)
    pieces, ids = tuple(encoded.tokens), tuple(encoded.ids)
    return TokenDescription(word, pieces, ids, tuple(_warnings(word, pieces, ids)))


def says(text: str, word: str, *, is_cut: bool = True) -> bool:
    """Whether `word` is in `text` as tokens of its own; `is_cut`: in the part that a text encoder reads. No word is always."""
    valid = (either.encode(errors="replace").decode() for either in (text, word))  # names of files may have odd bytes
    heard, named = (_tokenizer().encode(either, add_special_tokens=False).ids for either in valid)
    heard = heard[:_MOST_READ] if is_cut else heard
    return any(heard[start : start + len(named)] == named for start in range(len(heard) - len(named) + 1)) or not named


def is_rare(word: str) -> bool:
    """Whether `word` may be meant as a name: rare in the vocabulary, or no single entry of it."""
    ids = _tokenizer().encode(word, add_special_tokens=False).ids
    return len(ids) > 1 or (len(ids) == 1 and ids[0] >= _RARE_FROM)


def propose_tokens(num: int) -> tuple[str, ...]:
    """At most `num` words without a warning, of three or four consonants each, the rarest first."""
    rare = (entry.removesuffix(_END) for entry in reversed(_entries()[_RARE_FROM:]) if entry.endswith(_END))
    candidates = (word for word in rare if _PROPOSED.fullmatch(word))
    return tuple(word for word in candidates if not describe_token(word).warnings)[:num]


def _warnings(word: str, pieces: tuple[str, ...], ids: tuple[int, ...]) -> Iterator[str]:
    shown = word.strip().lower()
    if not ids:
        yield "the word is empty: nothing would name the subject"
        return
    if any(piece in _CONTROL for piece in pieces):
        yield f"'{word}' holds a mark of the tokenizer itself, which is no word"
        return
    if word != word.strip() or len(word.split()) > 1:
        yield f"'{word}' has spaces in or around it: a single word is needed"
    if word != word.lower():
        yield f"the vocabulary is lower-case: '{word.strip()}' is read as '{shown}'"
    if (meaning := _meanings().get(shown)) is not None:
        yield f"'{shown}' already stands for something: {meaning}"
    if len(ids) > 1:
        spelled = " + ".join(piece.removesuffix(_END) for piece in pieces)
        yield f"'{shown}' is {len(ids)} tokens ({spelled}), which other words use too"
    elif ids[0] < _RARE_FROM:
        place = f"entry {ids[0]} of {len(_entries())}, where later is rarer"
        yield f"'{shown}' is common ({place}): it means something already, and the subject would mix with that"
    elif meaning is None and (not _PROPOSED.fullmatch(shown) or _is_part_of_more_frequent(shown, ids[0])):
        yield f"'{shown}' is rare, but may be a word, a name or a part of one; look it up before you use it"


def _is_part_of_more_frequent(word: str, index: int) -> bool:
    first = _vocabulary_text().index(word)
    return _vocabulary_text().count("\n", 0, first) < index


@cache
def _entries() -> tuple[str, ...]:
    """The vocabulary in the order of its ids."""
    vocabulary = _tokenizer().get_vocab()
    return tuple(sorted(vocabulary, key=vocabulary.__getitem__))


@cache
def _vocabulary_text() -> str:
    """All entries, one a line, to be searched at once."""
    return "\n".join(entry.removesuffix(_END) for entry in _entries())


@cache
def _meanings() -> dict[str, str]:
    lines = (_FOLDER / "token_meanings.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if not line.startswith("#"))


@cache
def _tokenizer() -> Tokenizer:
    """CLIP's tokenizer without the library transformers, whose import takes seconds."""
    return Tokenizer.from_file(str(_FOLDER / "tokenizer" / "tokenizer.json"))
