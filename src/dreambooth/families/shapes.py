"""The widths and counts that distinguish models of a family, all of them readable from the tensors.

Names of tensors are canonical: those of diffusers' UNet2DConditionModel and AutoencoderKL and of transformers'
CLIPTextModel, the last without a leading `text_model.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Shape", "StateDict", "TextShape", "UNetShape", "VaeShape", "shapes_of"]

Shape = tuple[int, ...]
StateDict = Mapping[str, Tensor]


def shapes_of(tensors: StateDict) -> dict[str, Shape]:
    """The shape of each named tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@dataclass(frozen=True)
class UNetShape:
    """A denoising UNet; levels are ordered from the largest resolution to the smallest."""

    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    """Channels of each level."""
    num_layers: int
    """Residual blocks per level in the down path; the up path has one more."""
    depths: tuple[int, ...]
    """Transformer blocks after each residual block of a level; 0 if the level has no attention."""
    middle_depth: int
    """Transformer blocks in the middle block."""
    context_width: int
    """Width of the text states in cross-attention."""
    has_linear_projections: bool
    """Whether the projections around attention are linear layers (later families) or 1x1 convolutions."""
    vector_width: int = 0
    """Width of the vector of text and sizes that is added to the time embedding; 0 if there is none."""


@dataclass(frozen=True)
class VaeShape:
    """A convolutional autoencoder with one attention in the middle of each half."""

    pixel_channels: int
    latent_channels: int
    widths: tuple[int, ...]
    """Channels of each level, from the largest resolution to the smallest."""
    num_layers: int
    """Residual blocks per level of the encoder; the decoder has one more."""


@dataclass(frozen=True)
class TextShape:
    """A CLIP text transformer."""

    vocabulary: int
    num_positions: int
    width: int
    inner_width: int
    """Width between the two linear layers after each attention."""
    num_layers: int
    projection_width: int = 0
    """Width of the pooled vector, the projected state of the end token; 0 if the encoder has no projection."""
