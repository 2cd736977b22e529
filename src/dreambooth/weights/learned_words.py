"""Words that a model reads although its vocabulary lacks them: their vectors stand beside the model (arXiv 2208.01618)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dreambooth.families.components import Components
from dreambooth.families.word_tokenizer import WordTokenizer
from dreambooth.trainees.token_vectors import add_vectors

__all__ = ["LearnedWord", "digest_of_words", "tokenizer_with", "with_words"]


@dataclass(frozen=True)
class LearnedWord:
    """A word and its vectors."""

    word: str
    vectors: Mapping[str, Tensor]
    """The vectors (N, W) for each text encoder by the name of the part; the same number for all of them."""

    @property
    def num_vectors(self) -> int:
        """How many tokens the word takes in a prompt."""
        return len(next(iter(self.vectors.values())))


def with_words(components: Components, words: Sequence[LearnedWord]) -> Components:
    """The model with a tokenizer that knows the words, and with text encoders that look up their vectors."""
    for name in components.family.text_encoders if words else ():
        add_vectors(components.parts[name], partial(torch.cat, [word.vectors[name] for word in words]))
    return replace(components, tokenizer=tokenizer_with(components.tokenizer, words))


def tokenizer_with(tokenizer: Any, words: Sequence[LearnedWord]) -> Any:
    """The tokenizer, or one that knows the words as well."""
    return WordTokenizer(tokenizer, tuple((word.word, word.num_vectors) for word in words)) if words else tokenizer


def digest_of_words(words: Sequence[LearnedWord]) -> bytes:
    """SHA-256 of the words and their vectors; without words, of nothing."""
    digest = hashlib.sha256()
    for word in words:
        for name, vectors_NW in word.vectors.items():
            digest.update(f"{word.word} {name} {tuple(vectors_NW.shape)}\n".encode())
            digest.update(vectors_NW.float().contiguous().numpy().data)
    return digest.digest()
