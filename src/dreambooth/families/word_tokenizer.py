"""CLIP's tokenizer with learned words, whose vectors are in no table of a text encoder.

Wherever the tokens of a word's spelling stand in a text, the ids of its vectors take their place, as in
stable-diffusion-webui; so a word may be spelled in any way. These ids are negative: -1 is the first vector of all words, -2 the
second. No entry of a vocabulary is negative, and the largest id of a text remains its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

__all__ = ["Piece", "WordTokenizer", "pieces"]


@dataclass(frozen=True)
class Piece:
    """A token of a text, and the letters that it stands for."""

    id: int
    start: int
    end: int


@dataclass(frozen=True)
class WordTokenizer:
    """CLIP's tokenizer, and more words with the number of vectors that each has."""

    plain: Any
    words: tuple[tuple[str, int], ...]

    @property
    def model_max_length(self) -> int:
        """Number of tokens that a text encoder reads."""
        return int(self.plain.model_max_length)

    @cached_property
    def _spellings(self) -> list[tuple[list[int], range]]:
        """The tokens of each word and the ids of its vectors; of words that begin alike, the longer one first."""
        found, first = list[tuple[list[int], range]](), -1
        for word, num_vectors in self.words:
            found.append(([piece.id for piece in pieces(self.plain, word)], range(first, first - num_vectors, -1)))
            first -= num_vectors
        return sorted(found, key=lambda one: -len(one[0]))

    def pieces(self, text: str) -> list[Piece]:
        """The tokens of a text, without those for its start and end; each vector of a word stands for the whole word."""
        plain, found, position = pieces(self.plain, text), list[Piece](), 0
        ids = [piece.id for piece in plain]
        while position < len(ids):
            for spelling, vectors in self._spellings:
                if ids[position : position + len(spelling)] == spelling:
                    start, end = plain[position].start, plain[position + len(spelling) - 1].end
                    found += [Piece(vector, start, end) for vector in vectors]
                    position += len(spelling)
                    break
            else:
                found.append(plain[position])
                position += 1
        return found

    def rows(self, captions: Sequence[str], length: int) -> Tensor:
        """Token ids of captions, (B, length) int64: start, words, end, padded with the end; longer captions are truncated."""
        start, end = self.plain.bos_token_id, self.plain.eos_token_id
        words = [[piece.id for piece in self.pieces(caption)][: length - 2] for caption in captions]
        return torch.tensor([[start, *ids, *[end] * (length - 1 - len(ids))] for ids in words], dtype=torch.int64)


def pieces(tokenizer: Any, text: str) -> list[Piece]:
    """The tokens of a text, without those for its start and end, by CLIP's tokenizer or one with learned words."""
    if isinstance(tokenizer, WordTokenizer):
        return tokenizer.pieces(text)
    encoded = tokenizer(text, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False)
    return [Piece(one, *place) for one, place in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)]
