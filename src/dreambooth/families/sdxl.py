"""Stable Diffusion XL: the text encoders of CLIP and OpenCLIP side by side, and a UNet that is told the sizes of the picture.

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
from dreambooth.diffusion.schedule import NoiseSchedule, scaled_linear_schedule, with_zero_terminal_snr
from dreambooth.families import sd1_configs, sdxl_configs
from dreambooth.families.blueprints import text_blueprint, unet_blueprint, vae_blueprint
from dreambooth.families.clip_tokenizer import load_clip_tokenizer
from dreambooth.families.family import LoraTargets, PartDescription
from dreambooth.families.loading import build_module
from dreambooth.families.lora_layers import lora_layers
from dreambooth.families.open_clip_keys import LOGIT_SCALE, TEXT_PROJECTION, open_clip_keys
from dreambooth.families.prediction_signs import prediction_markers
from dreambooth.families.quiet_import import quiet_import
from dreambooth.families.shapes import StateDict, TextShape, UNetShape, VaeShape
from dreambooth.families.text_keys import POSITION_IDS, SDXL_OPEN_CLIP_PREFIX, SDXL_TEXT_PREFIX, TEXT_LEVEL, text_keys
from dreambooth.families.tiles import tiled_if_large
from dreambooth.families.unet_blocks import inner_unet_blocks, unet_blocks
from dreambooth.families.unet_keys import UNetLayout, unet_keys
from dreambooth.families.vae_keys import VaeLayout, vae_keys
from dreambooth.families.zero_padding import zero_padded

__all__ = ["StableDiffusionXL"]

_LOGIT_SCALE = 4.6055  # the logarithm of 100, where OpenCLIP's training ended
_NUM_SIZES = 6
_SIZE_WIDTH = 256  # of the sinusoids of one number


@dataclass(frozen=True)
class StableDiffusionXL:
    """A Stable Diffusion XL base model of any width; all sizes are read from its tensors."""

    unet: UNetShape
    vae: VaeShape
    text: TextShape
    text_2: TextShape
    resolution: int = 1024
    """Width and height in pixels of its training images; a file may state another value."""
    prediction: Prediction = "epsilon"
    has_zero_terminal_snr: bool = False

    usual_resolution: ClassVar[int] = 1024
    name: ClassVar[str] = "sdxl"
    title: ClassVar[str] = "Stable Diffusion XL"
    architecture: ClassVar[str] = "stable-diffusion-xl-v1-base"
    denoiser: ClassVar[str] = "unet"
    autoencoder: ClassVar[str] = "vae"
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    usual_prediction: ClassVar[Prediction] = "epsilon"
    takes_sizes: ClassVar[bool] = True
    begins_last: ClassVar[bool] = True
    zeroes_empty_prompt: ClassVar[bool] = True
    scaling_factor: ClassVar[float] = 0.13025
    head_width: ClassVar[int] = 64

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
        """Channels of a latent, 4 for every Stable Diffusion XL."""
        return self.vae.latent_channels

    @property
    def downsampling(self) -> int:
        """Pixels per latent position along one side: 8 for a VAE of four levels."""
        return int(2 ** (len(self.vae.widths) - 1))

    @cached_property
    def parts(self) -> Mapping[str, PartDescription]:
        """UNet, VAE and both text encoders."""
        text, text_2 = text_blueprint(self.text), text_blueprint(self.text_2)
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

    def at_resolution(self, resolution: int) -> StableDiffusionXL:
        """The same family for images of another size."""
        return replace(self, resolution=resolution)

    def with_prediction(self, prediction: Prediction, *, has_zero_terminal_snr: bool) -> StableDiffusionXL:
        """The same family with another prediction and end of the schedule."""
        return replace(self, prediction=prediction, has_zero_terminal_snr=has_zero_terminal_snr)

    def new_module(self, part: str) -> nn.Module:
        """A new module of this part with the library's default initialization."""
        with quiet_import():
            from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
            from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
            from transformers.models.clip.configuration_clip import CLIPTextConfig
            from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

        makers: dict[str, Callable[[], nn.Module]] = {
            "unet": lambda: UNet2DConditionModel.from_config(self.unet_config),
            "vae": lambda: AutoencoderKL.from_config(self.vae_config),
            "text_encoder": lambda: CLIPTextModel(CLIPTextConfig.from_dict(self.text_config)),
            "text_encoder_2": lambda: CLIPTextModelWithProjection(CLIPTextConfig.from_dict(self.text_2_config)),
        }
        return makers[part]()

    def build(self, parts: Mapping[str, StateDict], *, dtype: torch.dtype) -> dict[str, nn.Module]:
        """The modules with copies of these tensors in `dtype`, on the CPU, in evaluation mode, without gradients."""
        built = {}
        for name, part in self.parts.items():
            level = self._text_level(name) if name in self.text_encoders else ""
            positions = torch.arange(self.text.num_positions).unsqueeze(0)
            tensors = {key: parts[name][key] for key in part.blueprint}
            built[name] = build_module(
                lambda name=name: self.new_module(name),  # type: ignore[misc]
                {key if key in part.without_prefix else f"{level}{key}": tensor for key, tensor in tensors.items()},
                buffers={f"{level}{POSITION_IDS}": positions} if name in self.text_encoders else {},
                dtype=dtype,
            )
        return built

    def _text_level(self, part: str) -> str:
        """A level in the names of a text encoder's module; transformers 5 keeps it only for the encoder with a projection."""
        with torch.device("meta"):
            names = self.new_module(part).state_dict()
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

    def idle_parameters(self, part: str) -> tuple[str, ...]:
        """The first text encoder's last layer and final norm, after the states that are used."""
        last = (f"encoder.layers.{self.text.num_layers - 1}.", "final_layer_norm.")
        return tuple(name for name in self.parts[part].blueprint if part == "text_encoder" and name.startswith(last))

    @staticmethod
    def blocks_to_stream(denoiser: nn.Module) -> tuple[nn.Module, ...]:
        """The UNet's down blocks, middle block and up blocks."""
        return unet_blocks(denoiser)

    @staticmethod
    def inner_blocks(denoiser: nn.Module) -> tuple[nn.Module, ...]:
        """All blocks except the two levels with the largest latents."""
        return inner_unet_blocks(denoiser, num_outer_levels=2)

    def lora_targets(self, part: str, targets: LoraTargets) -> tuple[str, ...]:
        """Canonical names of the layers (without ".weight") that receive low-rank matrices, in module order."""
        return lora_layers(self.parts[part].blueprint, targets)

    @staticmethod
    def load_tokenizer() -> Any:
        """CLIP's tokenizer, loaded from files in this package."""
        return load_clip_tokenizer()

    def tokenize(self, tokenizer: Any, captions: Sequence[str]) -> Tensor:
        """Token ids of captions, (B, 77) int64: start, words, end, padded with the end token; longer captions are truncated.

        They are the first text encoder's; `encode_text` changes the padding for the second one.
        """
        length = self.text.num_positions
        encoded = tokenizer(list(captions), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        input_ids_BL: Tensor = encoded.input_ids
        return input_ids_BL

    def empty_ids(self, count: int, device: torch.device) -> Tensor:
        """Token ids of `count` captions, uninitialized."""
        return torch.empty(count, self.text.num_positions, dtype=torch.int64, device=device)

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
            mean_BCHW, log_variance_BCHW = autoencoder.encode(pixels_BCHW).latent_dist.parameters.chunk(2, dim=1)
        return LatentMoments(mean_BCHW, torch.exp(0.5 * log_variance_BCHW.clamp(-30, 20)))

    def sample_latents(self, moments: LatentMoments, eps_BCHW: Tensor) -> Tensor:
        """Latents in the UNet's scale, 0.13025 (mean + deviation eps)."""
        return self.scaling_factor * moments.sample(eps_BCHW)

    def decode_latents(self, autoencoder: Any, latents_BCHW: Tensor) -> Tensor:
        """Pixels in about [-1, 1], not clamped, from scaled latents."""
        height, width = (side * self.downsampling for side in latents_BCHW.shape[-2:])
        with tiled_if_large(autoencoder, height=height, width=width, downsampling=self.downsampling):
            pixels_BCHW: Tensor = autoencoder.decode(latents_BCHW / self.scaling_factor).sample
        return pixels_BCHW

    def predict(self, denoiser: nn.Module, x_t_BCHW: Tensor, t_B: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's estimate of the noise or the velocity in x_t at timesteps t_B, given text, pooled vector and sizes."""
        assert conditioning.pooled_BD is not None and conditioning.sizes_B6 is not None, "text and sizes, both"
        # The sizes stay exact: their sinusoids are computed in float32 and only then rounded to the weights' dtype.
        added = {"text_embeds": conditioning.pooled_BD, "time_ids": conditioning.sizes_B6}
        output_BCHW: Tensor = denoiser(
            x_t_BCHW, t_B, encoder_hidden_states=conditioning.states_BLD, added_cond_kwargs=added, return_dict=False
        )[0]
        return output_BCHW
