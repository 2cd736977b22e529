"""What kind of model a model is, and its built parts.

Shapes: B examples, L tokens, D text width, C channels, H and W sizes in pixels or latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.schedule import NoiseSchedule
from dreambooth.families.shapes import StateDict, TextShape, UNetShape, VaeShape

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

__all__ = ["Components", "Family"]


class Family(Protocol):
    """A kind of model. Everything else is written against this protocol, so that one family is known from another only here."""

    def __hash__(self) -> int:
        """Families are keys of caches."""

    @property
    def name(self) -> str:
        """Its short name, as file metadata have it."""

    @property
    def title(self) -> str:
        """What it is called on the screen."""

    @property
    def unet(self) -> UNetShape:
        """What varies in its UNet."""

    @property
    def vae(self) -> VaeShape:
        """What varies in its VAE."""

    @property
    def text(self) -> TextShape:
        """What varies in its text encoder."""

    @property
    def resolution(self) -> int:
        """Side in pixels of the pictures that it was trained on."""

    @property
    def usual_resolution(self) -> int:
        """The side for models of the family that say none."""

    @property
    def scaling_factor(self) -> float:
        """Factor between the VAE's latents and those that the UNet works on."""

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule, recomputed."""

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""

    @property
    def downsampling(self) -> int:
        """Pixels that one latent is wide."""

    @property
    def num_heads(self) -> int:
        """Attention heads of the UNet at every level."""

    @property
    def text_head_width(self) -> int:
        """Width of one attention head of the text encoder."""

    @property
    def unet_config(self) -> dict[str, Any]:
        """The UNet as diffusers' UNet2DConditionModel describes it."""

    @property
    def vae_config(self) -> dict[str, Any]:
        """The VAE as diffusers' AutoencoderKL describes it."""

    @property
    def text_config(self) -> dict[str, Any]:
        """The text encoder as transformers' CLIPTextConfig describes it."""

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The schedule as diffusers' folders describe it."""

    @property
    def pipeline_config(self) -> dict[str, Any]:
        """The index of a folder in the form of diffusers."""

    def at_resolution(self, resolution: int) -> Family:
        """The same family for pictures of another size."""

    def build(self, unet: StateDict, vae: StateDict, text_encoder: StateDict, *, dtype: torch.dtype) -> Components:
        """The modules with copies of these tensors in `dtype`, on the CPU, in evaluation mode, asking for no gradients."""

    def state_dicts(self, components: Components) -> tuple[StateDict, StateDict, StateDict]:
        """The tensors of UNet, VAE and text encoder under the canonical names that `build` takes; they share memory."""

    def load_tokenizer(self) -> CLIPTokenizer:
        """The tokenizer, from the files of this package."""

    def tokenize(self, tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
        """Token ids of captions, (B, L) int64; longer captions are cut."""

    def encode_text(self, text_encoder: CLIPTextModel, input_ids_BL: Tensor) -> Tensor:
        """Text states (B, L, D)."""

    def encode_pixels(self, vae: AutoencoderKL, pixels_BCHW: Tensor) -> LatentMoments:
        """Mean and deviation of the latents of pixels in [-1, 1], unscaled."""

    def sample_latents(self, moments: LatentMoments, eps_BCHW: Tensor) -> Tensor:
        """The latents that the UNet works on, scaled."""

    def decode_latents(self, vae: AutoencoderKL, latents_BCHW: Tensor) -> Tensor:
        """Pixels in about [-1, 1], not clamped, of scaled latents."""

    def predict_noise(self, unet: UNet2DConditionModel, x_t_BCHW: Tensor, t_B: Tensor, text_BLD: Tensor) -> Tensor:
        """The UNet's estimate of eps in x_t at timesteps t_B, under the text states."""


@dataclass(frozen=True)
class Components:
    """A model ready to use: its family, three modules in evaluation mode without gradients, and the tokenizer."""

    family: Family
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
