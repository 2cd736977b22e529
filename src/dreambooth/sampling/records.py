"""Inputs and outputs of a sampler. Shapes: B images, C latent channels, h and w latent sizes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dreambooth.sampling.settings import Sampler

__all__ = ["MadePicture", "Picture", "SamplingOptions", "SamplingState"]


@dataclass(frozen=True)
class Picture:
    """One image to make. `index` (k) and the seed determine its noise, so its position in a batch does not matter."""

    prompt: str
    index: int
    start: int | None = None
    """Index of the image whose start noise it shares; None: its own."""


@dataclass(frozen=True)
class MadePicture:
    """A finished image: pixels in [0, 1], (3, H, W), and the latent (C, h, w) from which they were decoded.

    The latent is float32, on the CPU and in the UNet's scale.
    """

    picture: Picture
    pixels_CHW: Tensor
    x_0_CHW: Tensor


@dataclass(frozen=True)
class SamplingOptions:
    """How images are made, apart from their prompt and index. `height` and `width` are in pixels."""

    sampler: Sampler
    steps: int
    guidance_scale: float
    height: int
    width: int
    seed: int
    eta: float = 0.0
    negative_prompt: str = ""
    encode_empty_prompt: bool = False
    """Whether an empty negative prompt is a text like any other, where the original program takes zeros."""


@dataclass(frozen=True)
class SamplingState:
    """State of a batch after a denoising step, both tensors (B, C, h, w) in float32.

    `x_BCHW` is in the sampler's own scale; in the last state it is the final latent. `x_0_BCHW` is the image that this step
    predicts, which `decode` can turn into a preview at any time.
    """

    steps_done: int
    num_steps: int
    x_BCHW: Tensor
    x_0_BCHW: Tensor

    @property
    def is_final(self) -> bool:
        """Whether no step is left."""
        return self.steps_done == self.num_steps
