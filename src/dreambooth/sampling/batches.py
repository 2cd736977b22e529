"""Generates many images, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from dreambooth.families.components import Components
from dreambooth.runtime.interrupts import raise_if_interrupted
from dreambooth.sampling.records import MadePicture, Picture, SamplingOptions
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
) -> Iterator[MadePicture]:
    """Each image with its pixels and its latent, as soon as its batch is finished.

    `advance` receives numbers of per-image denoising steps: for each batch of n images, n at every step.
    """
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        raise_if_interrupted()
        for state in sample(components, batch, options, device=device, dtype=dtype):
            advance(len(batch))
            if state.is_final:
                pixels_BCHW = decode(components, state.x_BCHW)
                for picture, pixels_CHW, x_0_CHW in zip(batch, pixels_BCHW, state.x_BCHW.cpu(), strict=True):
                    yield MadePicture(picture, pixels_CHW, x_0_CHW)
