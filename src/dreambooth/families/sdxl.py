"""Stable Diffusion XL: the text encoders of CLIP and OpenCLIP side by side, and a UNet that is told the sizes of the picture.

Shapes: B examples, L tokens, D text width, C channels, H and W sizes in pixels or latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.prediction import Prediction
from dreambooth.families import sd1_configs, sdxl_configs
from dreambooth.families.blueprints import text_blueprint
from dreambooth.families.family import PartDescription
from dreambooth.families.latent_diffusion import LatentDiffusion
from dreambooth.families.open_clip_keys import LOGIT_SCALE, TEXT_PROJECTION, open_clip_keys
from dreambooth.families.prediction_signs import prediction_markers
from dreambooth.families.shapes import TextShape
from dreambooth.families.text_keys import POSITION_IDS, SDXL_OPEN_CLIP_PREFIX, SDXL_TEXT_PREFIX, TEXT_LEVEL, text_keys
from dreambooth.families.tiles import tiled_if_large
from dreambooth.families.zero_padding import zero_padded
from dreambooth.memory.settings import MemoryPreset

__all__ = ["StableDiffusionXL"]

_LOGIT_SCALE = 4.6055  # the logarithm of 100, where OpenCLIP's training ended
_NUM_SIZES = 6
_SIZE_WIDTH = 256  # of the sinusoids of one number


@dataclass(frozen=True)
class StableDiffusionXL(LatentDiffusion):
    """A Stable Diffusion XL base model of any width; all sizes are read from its tensors."""

    text_2: TextShape = field(kw_only=True)
    resolution: int = 1024

    usual_resolution: ClassVar[int] = 1024
    name: ClassVar[str] = "sdxl"
    title: ClassVar[str] = "Stable Diffusion XL"
    architecture: ClassVar[str] = "stable-diffusion-xl-v1-base"
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    usual_prediction: ClassVar[Prediction] = "epsilon"
    takes_sizes: ClassVar[bool] = True
    begins_last: ClassVar[bool] = True
    zeroes_empty_prompt: ClassVar[bool] = True
    memory_presets: ClassVar[tuple[MemoryPreset, ...]] = (
        *("fast", "sdxl-48gb", "sdxl-40gb", "sdxl-24gb", "sdxl-16gb", "sdxl-10gb", "sdxl-6gb"),
    )
    scaling_factor: ClassVar[float] = 0.13025
    head_width: ClassVar[int] = 64

    def _text_parts(self) -> Mapping[str, PartDescription]:
        text, text_2 = text_blueprint(self.text), text_blueprint(self.text_2)
        return {
            "text_encoder": PartDescription(
                title="first text encoder",
                widths=(self.text.width,),
                blueprint=text,
                keys=text_keys(text, SDXL_TEXT_PREFIX),
                config=self.text_config,
                stem="model",
                prefix=TEXT_LEVEL,
            ),
            "text_encoder_2": PartDescription(
                title="second text encoder",
                widths=(self.text_2.width,),
                blueprint=text_2,
                keys=open_clip_keys((*text_2, LOGIT_SCALE), SDXL_OPEN_CLIP_PREFIX),
                config=self.text_2_config,
                stem="model",
                prefix=TEXT_LEVEL,
                without_prefix=(TEXT_PROJECTION,),
                unused={LOGIT_SCALE: ()},
            ),
        }

    @property
    def unet_config(self) -> dict[str, Any]:
        """The UNet in diffusers' description."""
        side = self.resolution // self.downsampling
        return sdxl_configs.unet_config(self.unet, head_width=self.head_width, size_width=_SIZE_WIDTH, latent_side=side)

    @property
    def vae_config(self) -> dict[str, Any]:
        """The VAE in diffusers' description."""
        return sdxl_configs.vae_config(self.vae, side=self.resolution, scaling_factor=self.scaling_factor)

    @property
    def text_config(self) -> dict[str, Any]:
        """The first text encoder in transformers' description."""
        return sd1_configs.text_config(self.text, head_width=self.head_width)

    @property
    def text_2_config(self) -> dict[str, Any]:
        """The second text encoder in transformers' description."""
        return sdxl_configs.text_2_config(self.text_2, head_width=self.head_width)

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The schedule as described in a diffusers folder."""
        return sdxl_configs.scheduler_config(self.prediction, has_zero_terminal_snr=self.has_zero_terminal_snr)

    @property
    def pipeline_config(self) -> dict[str, Any]:
        """The index of a diffusers folder."""
        return sdxl_configs.pipeline_config()

    @property
    def original_config(self) -> dict[str, Any]:
        """Dotted keys and values of the original program's YAML for this model; it may omit them but not contradict them."""
        return sdxl_configs.original_config(self.unet, self.vae, head_width=self.head_width, scaling_factor=self.scaling_factor)

    def file_buffers(self) -> dict[str, Tensor]:
        """Position ids in int64 as in the published file, the second text encoder's scale for a model that lacks it, and the
        empty tensors that mark another prediction.
        """
        return {
            **prediction_markers(self.prediction, has_zero_terminal_snr=self.has_zero_terminal_snr),
            SDXL_TEXT_PREFIX + POSITION_IDS: torch.arange(self.text.num_positions).unsqueeze(0),
            f"{SDXL_OPEN_CLIP_PREFIX}{LOGIT_SCALE}": torch.tensor(_LOGIT_SCALE),
        }

    def idle_parameters(self, part: str) -> tuple[str, ...]:
        """The first text encoder's last layer and final norm, after the states that are used."""
        last = (f"encoder.layers.{self.text.num_layers - 1}.", "final_layer_norm.")
        return tuple(name for name in self.parts[part].blueprint if part == "text_encoder" and name.startswith(last))

    def empty_conditioning(self, count: int, device: torch.device) -> Conditioning:
        """The conditioning of `count` examples, uninitialized."""
        return Conditioning(
            torch.empty(count, self.text.num_positions, self.unet.context_width, device=device),
            torch.empty(count, self.text_2.projection_width, device=device),
            torch.empty(count, _NUM_SIZES, device=device),
        )

    def encode_text(self, parts: Mapping[str, nn.Module], input_ids_BL: Tensor) -> Conditioning:
        """Text states (B, L, D), without sizes, and the pooled vector of the second text encoder.

        The states of both encoders side by side are the inputs of their last layers, without the final norm; there is only the
        causal mask, as in their training. The pooled vector is the projected state of the first end token after the last layer.
        """
        first = parts["text_encoder"](input_ids_BL, output_hidden_states=True)
        second = parts["text_encoder_2"](zero_padded(input_ids_BL), output_hidden_states=True)
        states_BLD = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return Conditioning(states_BLD, second.text_embeds)

    def encode_pixels(self, autoencoder: Any, pixels_BCHW: Tensor) -> LatentMoments:
        """Mean and standard deviation of the latents of pixels in [-1, 1], unscaled; log-variance clamped to [-30, 20]."""
        height, width = pixels_BCHW.shape[-2:]
        with tiled_if_large(autoencoder, height=height, width=width, downsampling=self.downsampling):
            return super().encode_pixels(autoencoder, pixels_BCHW)

    def decode_latents(self, autoencoder: Any, latents_BCHW: Tensor) -> Tensor:
        """Pixels in about [-1, 1], not clamped, from scaled latents."""
        height, width = (side * self.downsampling for side in latents_BCHW.shape[-2:])
        with tiled_if_large(autoencoder, height=height, width=width, downsampling=self.downsampling):
            return super().decode_latents(autoencoder, latents_BCHW)

    def predict(self, denoiser: nn.Module, x_t_BCHW: Tensor, t_B: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's estimate of the noise or the velocity in x_t at timesteps t_B, given text, pooled vector and sizes."""
        assert conditioning.pooled_BD is not None and conditioning.sizes_B6 is not None, "text and sizes, both"
        # The sizes stay exact: their sinusoids are computed in float32 and only then rounded to the weights' dtype.
        added = {"text_embeds": conditioning.pooled_BD, "time_ids": conditioning.sizes_B6}
        output_BCHW: Tensor = denoiser(
            x_t_BCHW, t_B, encoder_hidden_states=conditioning.states_BLD, added_cond_kwargs=added, return_dict=False
        )[0]
        return output_BCHW
