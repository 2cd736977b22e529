"""Stable Diffusion 2: OpenCLIP's text encoder, a UNet with heads of 64 channels, trained to predict the noise or the velocity.

Shapes: B examples, L tokens, D text width, C channels, H and W sizes in pixels or latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.schedule import ddpm_buffers, scaled_linear_schedule
from dreambooth.families import sd2_configs
from dreambooth.families.blueprints import text_blueprint
from dreambooth.families.family import PartDescription
from dreambooth.families.latent_diffusion import LatentDiffusion
from dreambooth.families.open_clip_keys import LOGIT_SCALE, SD2_TEXT_PREFIX, TEXT_PROJECTION, unused_blueprint, with_unused
from dreambooth.families.prediction_signs import prediction_markers
from dreambooth.families.text_keys import TEXT_LEVEL
from dreambooth.families.zero_padding import zero_padded

__all__ = ["StableDiffusion2"]


@dataclass(frozen=True)
class StableDiffusion2(LatentDiffusion):
    """A Stable Diffusion 2 of any width; all sizes are read from its tensors.

    The last layer of its text encoder here is the penultimate one of OpenCLIP, whose states it was trained with.
    """

    name: ClassVar[str] = "sd2"
    title: ClassVar[str] = "Stable Diffusion 2"
    usual_prediction: ClassVar[Prediction | None] = None
    head_width: ClassVar[int] = 64

    @property
    def usual_resolution(self) -> int:
        """Default resolution for models of the family whose files do not state one: the velocity was trained at 768 pixels."""
        return 512 if self.prediction == "epsilon" else 768

    @property
    def architecture(self) -> str:
        """Its name in the ModelSpec metadata of a file."""
        return "stable-diffusion-v2-512" if self.prediction == "epsilon" else "stable-diffusion-v2-768-v"

    def _text_parts(self) -> Mapping[str, PartDescription]:
        text = text_blueprint(self.text)
        return {
            "text_encoder": PartDescription(
                title="text encoder",
                widths=(self.text.width,),
                blueprint=text,
                keys=with_unused(self._file_names, SD2_TEXT_PREFIX, num_used=self.text.num_layers),
                config=self.text_config,
                stem="model",
                prefix=TEXT_LEVEL,
                unused=unused_blueprint(self.text),
            ),
        }

    @property
    def _file_names(self) -> tuple[str, ...]:
        """The names of the whole text encoder as it is in a single file, with one layer more than are used."""
        whole = text_blueprint(replace(self.text, num_layers=self.text.num_layers + 1))
        return (*whole, TEXT_PROJECTION, LOGIT_SCALE)

    @property
    def unet_config(self) -> dict[str, Any]:
        """The UNet in diffusers' description."""
        side = self.resolution // self.downsampling
        return sd2_configs.unet_config(self.unet, self.prediction, head_width=self.head_width, latent_side=side)

    @property
    def text_config(self) -> dict[str, Any]:
        """The text encoder in transformers' description."""
        return sd2_configs.text_config(self.text, head_width=self.head_width)

    @property
    def original_config(self) -> dict[str, Any]:
        """Dotted keys and values of the original program's YAML for this model; it may omit them but not contradict them."""
        return sd2_configs.original_config(
            self.unet, self.vae, self.prediction, head_width=self.head_width, scaling_factor=self.scaling_factor
        )

    def file_buffers(self) -> dict[str, Tensor]:
        """The schedule's twelve buffers in float32, as the original's loader expects, and markers of the velocity.

        The buffers are those of the usual schedule, which programs rescale themselves where a marker says so: without signal,
        some of their values would be infinite.
        """
        markers = prediction_markers(self.prediction, has_zero_terminal_snr=self.has_zero_terminal_snr)
        return {**ddpm_buffers(scaled_linear_schedule()), **markers}

    def with_prediction(self, prediction: Prediction, *, has_zero_terminal_snr: bool) -> StableDiffusion2:
        """The same family with another prediction and end of the schedule."""
        family = replace(self, prediction=prediction, has_zero_terminal_snr=has_zero_terminal_snr)
        return family.at_resolution(family.usual_resolution) if self.resolution == self.usual_resolution else family

    def tokenize(self, tokenizer: Any, captions: Sequence[str]) -> Tensor:
        """Token ids of captions, (B, 77) int64: start, words, end, padded with 0; longer captions are truncated."""
        return zero_padded(super().tokenize(tokenizer, captions))
