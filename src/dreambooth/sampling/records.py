"""What is asked of a sampler and what it gives back. Shapes: B pictures, C latent channels, h and w latent sizes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dreambooth.sampling.settings import Sampler

__all__ = ["MadePicture", "Picture", "SamplingOptions", "SamplingState"]


@dataclass(frozen=True)
class Picture:
    """One picture to make. `index` (k) and the seed make its noise, so a picture keeps its place in any batch."""

    prompt: str
    index: int
    start: int | None = None
    """The picture whose start noise it shares; its own when None."""


@dataclass(frozen=True)
class MadePicture:
    """A picture that was made: pixels in [0, 1], (3, H, W), and the latent (C, h, w) that was decoded into them.

    The latent is float32, on the CPU and scaled as the UNet sees it.
    """

    picture: Picture
    pixels_CHW: Tensor
    x_0_CHW: Tensor


@dataclass(frozen=True)
class SamplingOptions:
    """How pictures are made: everything but their prompt and index. `height` and `width` are in pixels."""

    sampler: Sampler
    steps: int
    guidance_scale: float
    height: int
    width: int
    seed: int
    eta: float = 0.0
    negative_prompt: str = ""


@dataclass(frozen=True)
class SamplingState:
    """Where a batch stands after a denoising step, both tensors (B, C, h, w) in float32.

    `x_BCHW` is in the sampler's own scale and is the final latent in the last state; `x_0_BCHW` is the picture that this
    step foresees, which `decode` turns into a preview at any time.
    """

    steps_done: int
    num_steps: int
    x_BCHW: Tensor
    x_0_BCHW: Tensor

    @property
    def is_final(self) -> bool:
        """Whether no step is left."""
        return self.steps_done == self.num_steps
