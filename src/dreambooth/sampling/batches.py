"""Many pictures, one batch after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from dreambooth.families.components import Components
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import decode, sample

__all__ = ["make_pictures"]


def make_pictures(
    components: Components,
    pictures: Sequence[Picture],
    options: SamplingOptions,
    *,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    advance: Callable[[int], None],
) -> Iterator[tuple[Picture, Tensor]]:
    """Each picture with its pixels in [0, 1], (3, H, W), as soon as its batch is done.

    `advance` is told how many steps of single pictures were made: batch after batch of n pictures, n at each step.
    """
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        for state in sample(components, batch, options, device=device, dtype=dtype):
            advance(len(batch))
            if state.is_final:
                yield from zip(batch, decode(components, state.x_BCHW), strict=True)
