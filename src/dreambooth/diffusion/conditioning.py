"""What a denoiser receives besides a noisy latent and its timestep.

Shapes: B examples, L tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Conditioning", "Text", "stack_texts"]


@dataclass(frozen=True)
class Conditioning:
    """Encoded captions; a single one has the same shapes without B. Fields that a family does not use are None."""

    states_BLD: Tensor
    """One state per token."""
    pooled_BD: Tensor | None = None
    """One vector for the whole caption."""
    sizes_B6: Tensor | None = None
    """Height and width of the image before cropping, top and left of the crop, height and width of the target."""

    @staticmethod
    def stack(singles: Sequence[Conditioning]) -> Conditioning:
        """A batch of single records; all must have the same fields and shapes."""
        return _combined(torch.stack, singles)

    def with_sizes(self, sizes_B6: Tensor) -> Conditioning:
        """The same captions for pictures of these sizes."""
        return replace(self, sizes_B6=sizes_B6)

    @staticmethod
    def concatenate(batches: Sequence[Conditioning]) -> Conditioning:
        """The batches joined into one."""
        return _combined(torch.cat, batches)

    def expand(self, count: int) -> Conditioning:
        """A batch of `count` equal rows, from a batch of size one; they share memory."""
        return self.map(lambda tensor: tensor.expand(count, *tensor.shape[1:]))

    def index(self, rows: int | slice) -> Conditioning:
        """A single record of a batch, or a smaller batch for a slice; they share memory."""
        return self.map(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditioning:
        """The same on another device or in another dtype; sizes keep their dtype, because half precision rounds them."""
        sizes = None if self.sizes_B6 is None else self.sizes_B6.to(device)
        pooled = None if self.pooled_BD is None else self.pooled_BD.to(device=device, dtype=dtype)
        return Conditioning(self.states_BLD.to(device=device, dtype=dtype), pooled, sizes)

    def map(self, function: Callable[[Tensor], Tensor]) -> Conditioning:
        """The record with `function` applied to every tensor."""
        return _combined(lambda tensors: function(tensors[0]), [self])


Text = Tensor | Conditioning
"""Captions in training: token ids if a text encoder is trained, otherwise their conditioning, computed in advance."""


def stack_texts(texts: Sequence[Text]) -> Text:
    """A batch of single captions, all token ids (L,) or all conditioning."""
    ids = [text for text in texts if isinstance(text, Tensor)]
    encoded = [text for text in texts if isinstance(text, Conditioning)]
    assert not (ids and encoded), "token ids and conditioning do not mix"
    return torch.stack(ids) if ids else Conditioning.stack(encoded)


def _combined(function: Callable[[list[Tensor]], Tensor], records: Sequence[Conditioning]) -> Conditioning:
    pooled = [record.pooled_BD for record in records if record.pooled_BD is not None]
    sizes = [record.sizes_B6 for record in records if record.sizes_B6 is not None]
    assert {len(pooled), len(sizes)} <= {0, len(records)}, "some records lack a field that others have"
    return Conditioning(
        function([record.states_BLD for record in records]),
        function(pooled) if pooled else None,
        function(sizes) if sizes else None,
    )
