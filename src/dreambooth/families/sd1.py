"""Stable Diffusion 1: CLIP's text encoder, a UNet with eight heads at every level, trained to predict the noise or velocity.

Shapes: B examples, L tokens, D text width, C channels, H and W sizes in pixels or latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.schedule import ddpm_buffers, scaled_linear_schedule
from dreambooth.families import sd1_configs
from dreambooth.families.blueprints import text_blueprint
from dreambooth.families.family import PartDescription
from dreambooth.families.latent_diffusion import LatentDiffusion
from dreambooth.families.prediction_signs import prediction_markers
from dreambooth.families.text_keys import POSITION_IDS, TEXT_LEVEL, TEXT_PREFIX, text_keys

__all__ = ["StableDiffusion1"]


@dataclass(frozen=True)
class StableDiffusion1(LatentDiffusion):
    """A Stable Diffusion 1 of any width; all sizes are read from its tensors."""

    usual_resolution: ClassVar[int] = 512
    name: ClassVar[str] = "sd1"
    title: ClassVar[str] = "Stable Diffusion 1"
    architecture: ClassVar[str] = "stable-diffusion-v1"
    usual_prediction: ClassVar[Prediction] = "epsilon"
    num_heads: ClassVar[int] = 8
    text_head_width: ClassVar[int] = 64

    def _text_parts(self) -> Mapping[str, PartDescription]:
        text = text_blueprint(self.text)
        return {
            "text_encoder": PartDescription(
                title="text encoder",
                widths=(self.text.width,),
                blueprint=text,
                keys=text_keys(text),
                config=self.text_config,
                stem="model",
                prefix=TEXT_LEVEL,
            ),
        }

    @property
    def unet_config(self) -> dict[str, Any]:
        """The UNet in diffusers' description."""
        side = self.resolution // self.downsampling
        return sd1_configs.unet_config(self.unet, num_heads=self.num_heads, latent_side=side)

    @property
    def text_config(self) -> dict[str, Any]:
        """The text encoder in transformers' description."""
        return sd1_configs.text_config(self.text, head_width=self.text_head_width)

    @property
    def original_config(self) -> dict[str, Any]:
        """Dotted keys and values of the original program's YAML for this model; it may omit them but not contradict them."""
        return sd1_configs.original_config(
            self.unet, self.vae, self.prediction, num_heads=self.num_heads, scaling_factor=self.scaling_factor
        )

    def file_buffers(self) -> dict[str, Tensor]:
        """The schedule's twelve buffers in float32 and position ids in int64, as the original's strict loader expects.

        The buffers are those of the usual schedule, which programs rescale themselves where a marker says so: without signal,
        some of their values would be infinite.
        """
        position_ids = torch.arange(self.text.num_positions).unsqueeze(0)
        markers = prediction_markers(self.prediction, has_zero_terminal_snr=self.has_zero_terminal_snr)
        return {**ddpm_buffers(scaled_linear_schedule()), TEXT_PREFIX + POSITION_IDS: position_ids, **markers}
