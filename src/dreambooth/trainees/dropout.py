"""Dropout of ranks: in each step an example does without some ranks of every layer's LoRA (`rank_dropout` in kohya's programs).

What it does without depends on the seed, the step and the example alone, so neither a resume nor another cut of the batch
changes it, and a pass that is computed again sees the same. Shapes: B examples, N layers, R the rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from dreambooth.diffusion.randomness import generator

__all__ = ["RankDropout"]


class _Examples(Protocol):
    """A batch that knows which examples it holds."""

    @property
    def keys(self) -> Sequence[tuple[str | int, ...]]:
        """What the randomness of each example depends on besides the seed."""


AnyBatch = TypeVar("AnyBatch", bound=_Examples)


class RankDropout:
    """The factors of the ranks of every layer, while a batch is in training; outside of it there are none."""

    def __init__(self, layers: Sequence[str], *, rank: int, probability: float, seed: int) -> None:
        self._places = {layer: place for place, layer in enumerate(layers)}
        self._rank, self._probability, self._seed = rank, probability, seed
        self._factors_NBR: Tensor | None = None

    def during(self, batches: Iterable[AnyBatch]) -> Iterator[AnyBatch]:
        """The same batches; from one to the next the factors are those of its examples."""
        try:
            for batch in batches:
                self._factors_NBR = torch.stack([self._drawn(key) for key in batch.keys], dim=1)
                yield batch
                self._factors_NBR = None
        finally:
            self._factors_NBR = None

    def of(self, layer: str, x: Tensor) -> Tensor | None:
        """The factors (B, R) for the input x of a layer: 0, or 1 / (1 - probability) so that the mean stays; None outside."""
        if self._factors_NBR is None:
            return None
        if self._factors_NBR.device != x.device:
            self._factors_NBR = self._factors_NBR.to(x.device)
        factors_BR = self._factors_NBR[self._places[layer]]
        assert len(factors_BR) == len(x), f"{len(x)} inputs of {len(factors_BR)} examples"
        return factors_BR.to(x.dtype)

    def _drawn(self, key: Sequence[str | int]) -> Tensor:
        chosen = generator(self._seed, "lora dropout", *key)
        kept_NR = torch.rand(len(self._places), self._rank, generator=chosen) >= self._probability
        return kept_NR.float() / (1 - self._probability)
