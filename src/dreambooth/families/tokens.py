"""Words that name a subject: how CLIP's tokenizer splits a word, and proposals of rare words.

A good word is a single token (several tokens would divide the subject among pieces that other words use) and has no meaning
yet. DreamBooth (arXiv 2208.12242, section 3.2) picks short rare tokens by their rank in its tokenizer's vocabulary, which is
ordered by frequency. CLIP's vocabulary allows the same: entry 512 + k is the k-th merged pair, and each merge took the most
frequent pair, so a later entry was rarer. This rule has limits: it reflects the text that the tokenizer was built from, not
the captions that CLIP was trained on, and rare does not mean meaningless ("trombone" is entry 44423). Without a list of all
words, names and abbreviations, anything that reads like a word is treated as one; token_meanings.txt lists abbreviations.
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
_PROPOSED = re.compile(r"(?!.*(.)\1\1)[b-df-hj-np-tv-xz]{3,4}")  # no vowel, so neither a word nor a name


@dataclass(frozen=True)
class TokenDescription:
    """The tokens of a word: its pieces in the vocabulary's spelling (`</w>` ends a word), and their ids."""

    word: str
    pieces: tuple[str, ...]
    ids: tuple[int, ...]
    warnings: tuple[str, ...]


def describe_token(word: str) -> TokenDescription:
    """Describe a word; the warnings say why it may be a bad name for a subject. A good word has none."""
    encoded = _tokenizer().encode(word, add_special_tokens=False)
    pieces, ids = tuple(encoded.tokens), tuple(encoded.ids)
    return TokenDescription(word, pieces, ids, tuple(_warnings(word, pieces, ids)))


def says(text: str, word: str, *, is_cut: bool = True) -> bool:
    """Whether the tokens of `word` occur in `text`; with `is_cut`, in the part that a text encoder reads. "" always occurs."""
    valid = (string.encode(errors="replace").decode() for string in (text, word))  # file names may contain invalid bytes
    text_ids, word_ids = (_tokenizer().encode(string, add_special_tokens=False).ids for string in valid)
    text_ids = text_ids[:_MOST_READ] if is_cut else text_ids
    starts = range(len(text_ids) - len(word_ids) + 1)
    return any(text_ids[start : start + len(word_ids)] == word_ids for start in starts) or not word_ids


def is_rare(word: str) -> bool:
    """Whether `word` may serve as a name: rare in the vocabulary, or not a single entry of it."""
    ids = _tokenizer().encode(word, add_special_tokens=False).ids
    return len(ids) > 1 or (len(ids) == 1 and ids[0] >= _RARE_FROM)


def propose_tokens(num: int) -> tuple[str, ...]:
    """At most `num` words without warnings, of three or four consonants each, rarest first."""
    rare = (entry.removesuffix(_END) for entry in reversed(_entries()[_RARE_FROM:]) if entry.endswith(_END))
    candidates = (word for word in rare if _PROPOSED.fullmatch(word))
    return tuple(word for word in candidates if not describe_token(word).warnings)[:num]


def _warnings(word: str, pieces: tuple[str, ...], ids: tuple[int, ...]) -> Iterator[str]:
    shown = word.strip().lower()
    if not ids:
        yield "the word is empty, so it cannot name the subject"
        return
    if any(piece in _CONTROL for piece in pieces):
        yield f"'{word}' contains a special token of the tokenizer, which is not a word"
        return
    if word != word.strip() or len(word.split()) > 1:
        yield f"'{word}' has spaces in or around it; expected a single word"
    if word != word.lower():
        yield f"the vocabulary is lowercase: '{word.strip()}' is read as '{shown}'"
    if (meaning := _meanings().get(shown)) is not None:
        yield f"'{shown}' already means something: {meaning}"
    if len(ids) > 1:
        spelled = " + ".join(piece.removesuffix(_END) for piece in pieces)
        yield f"'{shown}' is {len(ids)} tokens ({spelled}), which are also parts of other words"
    elif ids[0] < _RARE_FROM:
        place = f"entry {ids[0]} of {len(_entries())}, where later is rarer"
        yield f"'{shown}' is common ({place}): it already has a meaning, which would mix with the subject"
    elif meaning is None and (not _PROPOSED.fullmatch(shown) or _is_part_of_more_frequent(shown, ids[0])):
        yield f"'{shown}' is rare, but may be a word, a name or a part of one; look it up before you use it"


def _is_part_of_more_frequent(word: str, index: int) -> bool:
    first = _vocabulary_text().index(word)
    return _vocabulary_text().count("\n", 0, first) < index


@cache
def _entries() -> tuple[str, ...]:
    """The vocabulary, ordered by id."""
    vocabulary = _tokenizer().get_vocab()
    return tuple(sorted(vocabulary, key=vocabulary.__getitem__))


@cache
def _vocabulary_text() -> str:
    """All entries, one per line, for searching."""
    return "\n".join(entry.removesuffix(_END) for entry in _entries())


@cache
def _meanings() -> dict[str, str]:
    lines = (_FOLDER / "token_meanings.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if not line.startswith("#"))


@cache
def _tokenizer() -> Tokenizer:
    """CLIP's tokenizer without the transformers library, which takes seconds to import."""
    return Tokenizer.from_file(str(_FOLDER / "tokenizer" / "tokenizer.json"))
