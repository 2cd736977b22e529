"""The built parts of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    from dreambooth.families.sd1 import StableDiffusion1

__all__ = ["Components"]


@dataclass(frozen=True)
class Components:
    """A model ready to use: its family, three modules in evaluation mode without gradients, and the tokenizer."""

    family: StableDiffusion1
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
