"""Stable Diffusion 2: OpenCLIP's text encoder, a UNet with heads of 64 channels, trained to predict the noise or the velocity.

Shapes: B examples, L tokens, D text width, C channels, H and W sizes in pixels or latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.schedule import NoiseSchedule, ddpm_buffers, scaled_linear_schedule, with_zero_terminal_snr
from dreambooth.families import sd1_configs, sd2_configs
from dreambooth.families.blueprints import text_blueprint, unet_blueprint, vae_blueprint
from dreambooth.families.clip_tokenizer import load_clip_tokenizer
from dreambooth.families.family import LoraTargets, PartDescription
from dreambooth.families.loading import build_module
from dreambooth.families.lora_layers import lora_layers
from dreambooth.families.open_clip_keys import LOGIT_SCALE, SD2_TEXT_PREFIX, TEXT_PROJECTION, unused_blueprint, with_unused
from dreambooth.families.prediction_signs import prediction_markers
from dreambooth.families.quiet_import import quiet_import
from dreambooth.families.shapes import StateDict, TextShape, UNetShape, VaeShape
from dreambooth.families.text_keys import POSITION_IDS, TEXT_LEVEL
from dreambooth.families.unet_blocks import inner_unet_blocks, unet_blocks
from dreambooth.families.unet_keys import UNetLayout, unet_keys
from dreambooth.families.vae_keys import VaeLayout, vae_keys
from dreambooth.families.zero_padding import zero_padded

__all__ = ["StableDiffusion2"]


@dataclass(frozen=True)
class StableDiffusion2:
    """A Stable Diffusion 2 of any width; all sizes are read from its tensors."""

    unet: UNetShape
    vae: VaeShape
    text: TextShape
    resolution: int = 512
    """Width and height in pixels of its training images; a file may state another value."""
    prediction: Prediction = "epsilon"
    has_zero_terminal_snr: bool = False

    name: ClassVar[str] = "sd2"
    title: ClassVar[str] = "Stable Diffusion 2"
    denoiser: ClassVar[str] = "unet"
    autoencoder: ClassVar[str] = "vae"
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
    usual_prediction: ClassVar[Prediction | None] = None
    takes_sizes: ClassVar[bool] = False
    begins_last: ClassVar[bool] = False
    zeroes_empty_prompt: ClassVar[bool] = False
    scaling_factor: ClassVar[float] = 0.18215
    head_width: ClassVar[int] = 64

    @property
    def usual_resolution(self) -> int:
        """Default resolution for models of the family whose files do not state one: the velocity was trained at 768 pixels."""
        return 512 if self.prediction == "epsilon" else 768

    @property
    def architecture(self) -> str:
        """Its name in the ModelSpec metadata of a file."""
        return "stable-diffusion-v2-512" if self.prediction == "epsilon" else "stable-diffusion-v2-768-v"

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule, recomputed."""
        usual = scaled_linear_schedule()
        return with_zero_terminal_snr(usual) if self.has_zero_terminal_snr else usual

    @property
    def pixel_channels(self) -> int:
        """Channels of an image."""
        return self.vae.pixel_channels

    @property
    def latent_channels(self) -> int:
        """Channels of a latent, 4 for every Stable Diffusion 2."""
        return self.vae.latent_channels

    @property
    def downsampling(self) -> int:
        """Pixels per latent position along one side: 8 for a VAE of four levels."""
        return int(2 ** (len(self.vae.widths) - 1))

    @cached_property
    def parts(self) -> Mapping[str, PartDescription]:
        """UNet, VAE and text encoder."""
        text = text_blueprint(self.text)
        return {
            "unet": PartDescription(
                title="UNet",
                widths=self.unet.widths,
                blueprint=unet_blueprint(self.unet),
                keys=unet_keys(UNetLayout.of(self.unet)),
                config=self.unet_config,
                stem="diffusion_pytorch_model",
            ),
            "vae": PartDescription(
                title="VAE",
                widths=self.vae.widths,
                blueprint=vae_blueprint(self.vae),
                keys=vae_keys(VaeLayout.of(self.vae)),
                config=self.vae_config,
                stem="diffusion_pytorch_model",
            ),
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
    def vae_config(self) -> dict[str, Any]:
        """The VAE in diffusers' description."""
        return sd1_configs.vae_config(self.vae, side=self.resolution, scaling_factor=self.scaling_factor)

    @property
    def text_config(self) -> dict[str, Any]:
        """The text encoder in transformers' description."""
        return sd2_configs.text_config(self.text, head_width=self.head_width)

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The schedule as described in a diffusers folder."""
        return sd1_configs.scheduler_config(self.prediction, has_zero_terminal_snr=self.has_zero_terminal_snr)

    @property
    def pipeline_config(self) -> dict[str, Any]:
        """The index of a diffusers folder."""
        return sd1_configs.pipeline_config(self.scheduler_config["_class_name"])

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

    def at_resolution(self, resolution: int) -> StableDiffusion2:
        """The same family for images of another size."""
        return replace(self, resolution=resolution)

    def with_prediction(self, prediction: Prediction, *, has_zero_terminal_snr: bool) -> StableDiffusion2:
        """The same family with another prediction and end of the schedule."""
        family = replace(self, prediction=prediction, has_zero_terminal_snr=has_zero_terminal_snr)
        return family.at_resolution(family.usual_resolution) if self.resolution == self.usual_resolution else family

    def new_module(self, part: str) -> nn.Module:
        """A new module of this part with the library's default initialization."""
        with quiet_import():
            from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
            from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
            from transformers.models.clip.configuration_clip import CLIPTextConfig
            from transformers.models.clip.modeling_clip import CLIPTextModel

        makers: dict[str, Callable[[], nn.Module]] = {
            "unet": lambda: UNet2DConditionModel.from_config(self.unet_config),
            "vae": lambda: AutoencoderKL.from_config(self.vae_config),
            "text_encoder": lambda: CLIPTextModel(CLIPTextConfig.from_dict(self.text_config)),
        }
        return makers[part]()

    def build(self, parts: Mapping[str, StateDict], *, dtype: torch.dtype) -> dict[str, nn.Module]:
        """The modules with copies of these tensors in `dtype`, on the CPU, in evaluation mode, without gradients."""
        level = self._text_level()
        positions = torch.arange(self.text.num_positions).unsqueeze(0)
        built = {}
        for name, part in self.parts.items():
            prefix = level if name == "text_encoder" else ""
            built[name] = build_module(
                lambda name=name: self.new_module(name),  # type: ignore[misc]
                {f"{prefix}{key}": parts[name][key] for key in part.blueprint},
                buffers={f"{level}{POSITION_IDS}": positions} if name == "text_encoder" else {},
                dtype=dtype,
            )
        return built

    def _text_level(self) -> str:
        """A level in CLIPTextModel's names that transformers 5 does not have."""
        with torch.device("meta"):
            names = self.new_module("text_encoder").state_dict()
        return TEXT_LEVEL if any(name.startswith(TEXT_LEVEL) for name in names) else ""

    @staticmethod
    def state_dicts(parts: Mapping[str, nn.Module]) -> dict[str, StateDict]:
        """The modules' tensors under the canonical names that `build` takes; they share memory."""
        return {
            part: {
                name.removeprefix(TEXT_LEVEL): tensor
                for name, tensor in module.state_dict().items()
                if not name.endswith(POSITION_IDS)
            }
            for part, module in parts.items()
        }

    @staticmethod
    def idle_parameters(part: str) -> tuple[str, ...]:
        """None: what no prediction depends on is in no module."""
        return ()

    @staticmethod
    def blocks_to_stream(denoiser: nn.Module) -> tuple[nn.Module, ...]:
        """The UNet's down blocks, middle block and up blocks."""
        return unet_blocks(denoiser)

    @staticmethod
    def inner_blocks(denoiser: nn.Module) -> tuple[nn.Module, ...]:
        """All blocks except the two levels with the largest latents, which hold three quarters of the UNet's activations."""
        return inner_unet_blocks(denoiser, num_outer_levels=2)

    def lora_targets(self, part: str, targets: LoraTargets) -> tuple[str, ...]:
        """Canonical names of the layers (without ".weight") that receive low-rank matrices, in module order."""
        return lora_layers(self.parts[part].blueprint, targets)

    @staticmethod
    def load_tokenizer() -> Any:
        """CLIP's tokenizer, loaded from files in this package."""
        return load_clip_tokenizer()

    def tokenize(self, tokenizer: Any, captions: Sequence[str]) -> Tensor:
        """Token ids of captions, (B, 77) int64: start, words, end, padded with 0; longer captions are truncated."""
        length = self.text.num_positions
        encoded = tokenizer(list(captions), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return zero_padded(encoded.input_ids)

    def empty_ids(self, count: int, device: torch.device) -> Tensor:
        """Token ids of `count` captions, uninitialized."""
        return torch.empty(count, self.text.num_positions, dtype=torch.int64, device=device)

    def empty_conditioning(self, count: int, device: torch.device) -> Conditioning:
        """The conditioning of `count` examples, uninitialized."""
        return Conditioning(torch.empty(count, self.text.num_positions, self.text.width, device=device))

    def encode_text(self, parts: Mapping[str, nn.Module], input_ids_BL: Tensor) -> Conditioning:
        """Only text states (B, L, D): the penultimate layer of OpenCLIP, which is the last one here, after the final norm.

        There is only the causal mask, as in its training.
        """
        return Conditioning(parts["text_encoder"](input_ids_BL).last_hidden_state)

    def encode_pixels(self, autoencoder: Any, pixels_BCHW: Tensor) -> LatentMoments:
        """Mean and standard deviation of the latents of pixels in [-1, 1], unscaled; log-variance clamped to [-30, 20]."""
        mean_BCHW, log_variance_BCHW = autoencoder.encode(pixels_BCHW).latent_dist.parameters.chunk(2, dim=1)
        return LatentMoments(mean_BCHW, torch.exp(0.5 * log_variance_BCHW.clamp(-30, 20)))

    def sample_latents(self, moments: LatentMoments, eps_BCHW: Tensor) -> Tensor:
        """Latents in the UNet's scale, 0.18215 (mean + deviation eps)."""
        return self.scaling_factor * moments.sample(eps_BCHW)

    def decode_latents(self, autoencoder: Any, latents_BCHW: Tensor) -> Tensor:
        """Pixels in about [-1, 1], not clamped, from scaled latents."""
        pixels_BCHW: Tensor = autoencoder.decode(latents_BCHW / self.scaling_factor).sample
        return pixels_BCHW

    def predict(self, denoiser: nn.Module, x_t_BCHW: Tensor, t_B: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's estimate of the noise or the velocity in x_t at timesteps t_B, given the text states."""
        output_BCHW: Tensor = denoiser(x_t_BCHW, t_B, encoder_hidden_states=conditioning.states_BLD, return_dict=False)[0]
        return output_BCHW
