"""What the families of Stable Diffusion share: a UNet on the latents of a VAE, with CLIP's kind of text encoder.

Shapes: B examples, L tokens, D text width, C channels, H and W sizes in pixels or latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.schedule import NoiseSchedule, scaled_linear_schedule, with_zero_terminal_snr
from dreambooth.families import sd1_configs
from dreambooth.families.blueprints import unet_blueprint, vae_blueprint
from dreambooth.families.clip_tokenizer import load_clip_tokenizer
from dreambooth.families.family import LoraTargets, PartDescription
from dreambooth.families.loading import build_module
from dreambooth.families.lora_layers import lora_layers
from dreambooth.families.quiet_import import quiet_import
from dreambooth.families.shapes import StateDict, TextShape, UNetShape, VaeShape
from dreambooth.families.text_keys import POSITION_IDS, TEXT_LEVEL
from dreambooth.families.tokens import describe_token
from dreambooth.families.unet_blocks import inner_unet_blocks, unet_blocks
from dreambooth.families.unet_keys import UNetLayout, unet_keys
from dreambooth.families.vae_keys import VaeLayout, vae_keys
from dreambooth.families.word_tokenizer import WordTokenizer
from dreambooth.memory.settings import MemoryPreset

__all__ = ["LatentDiffusion"]

LatentDiffusionType = TypeVar("LatentDiffusionType", bound="LatentDiffusion")


@dataclass(frozen=True)
class LatentDiffusion:
    """A model of any width, whose sizes are read from its tensors. A family overrides what it does in another way."""

    unet: UNetShape
    vae: VaeShape
    text: TextShape
    resolution: int = 512
    """Width and height in pixels of its training images; a file may state another value."""
    prediction: Prediction = "epsilon"
    has_zero_terminal_snr: bool = False

    denoiser: ClassVar[str] = "unet"
    autoencoder: ClassVar[str] = "vae"
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
    takes_sizes: ClassVar[bool] = False
    begins_last: ClassVar[bool] = False
    zeroes_empty_prompt: ClassVar[bool] = False
    memory_presets: ClassVar[tuple[MemoryPreset, ...]] = ("fast", "24gb", "12gb", "8gb", "6gb")
    scaling_factor: ClassVar[float] = 0.18215

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
        """Channels of a latent, 4 for all published models."""
        return self.vae.latent_channels

    @property
    def downsampling(self) -> int:
        """Pixels per latent position along one side: 8 for a VAE of four levels."""
        return int(2 ** (len(self.vae.widths) - 1))

    @cached_property
    def parts(self) -> Mapping[str, PartDescription]:
        """UNet, VAE and text encoders."""
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
            **self._text_parts(),
        }

    def _text_parts(self) -> Mapping[str, PartDescription]:
        """The text encoders."""
        raise NotImplementedError

    @property
    def unet_config(self) -> dict[str, Any]:
        """The UNet in diffusers' description."""
        raise NotImplementedError

    @property
    def vae_config(self) -> dict[str, Any]:
        """The VAE in diffusers' description."""
        return sd1_configs.vae_config(self.vae, side=self.resolution, scaling_factor=self.scaling_factor)

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The schedule as described in a diffusers folder."""
        return sd1_configs.scheduler_config(self.prediction, has_zero_terminal_snr=self.has_zero_terminal_snr)

    @property
    def pipeline_config(self) -> dict[str, Any]:
        """The index of a diffusers folder."""
        return sd1_configs.pipeline_config(self.scheduler_config["_class_name"])

    def at_resolution(self: LatentDiffusionType, resolution: int) -> LatentDiffusionType:
        """The same family for images of another size."""
        return replace(self, resolution=resolution)

    def with_prediction(
        self: LatentDiffusionType, prediction: Prediction, *, has_zero_terminal_snr: bool
    ) -> LatentDiffusionType:
        """The same family with another prediction and end of the schedule."""
        return replace(self, prediction=prediction, has_zero_terminal_snr=has_zero_terminal_snr)

    def new_module(self, part: str) -> nn.Module:
        """A new module of this part with the library's default initialization."""
        with quiet_import():
            from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
            from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
            from transformers.models.clip.configuration_clip import CLIPTextConfig
            from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

        config, modules = dict(self.parts[part].config), (AutoencoderKL, UNet2DConditionModel)
        if part in self.text_encoders:
            (architecture,) = config["architectures"]
            encoders = {model.__name__: model for model in (CLIPTextModel, CLIPTextModelWithProjection)}
            encoder: nn.Module = encoders[architecture](CLIPTextConfig.from_dict(config))
            return encoder
        module: nn.Module = {model.__name__: model for model in modules}[config["_class_name"]].from_config(config)
        return module

    def build(
        self, parts: Mapping[str, StateDict], *, dtype: torch.dtype, dtypes: Mapping[str, torch.dtype] | None = None
    ) -> dict[str, nn.Module]:
        """The modules with copies of these tensors in `dtype`, on the CPU, in evaluation mode, without gradients.

        `dtypes` names the parts that are built in another one.
        """
        built = {}
        for name, part in self.parts.items():
            is_text = name in self.text_encoders
            level, positions = self._text_level(name) if is_text else "", torch.arange(self.text.num_positions).unsqueeze(0)
            tensors = {key: tensor for key, tensor in parts[name].items() if key not in part.unused}
            built[name] = build_module(
                lambda name=name: self.new_module(name),  # type: ignore[misc]
                {key if key in part.without_prefix else f"{level}{key}": tensor for key, tensor in tensors.items()},
                buffers={f"{level}{POSITION_IDS}": positions} if is_text else {},
                dtype=(dtypes or {}).get(name, dtype),
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
        """None: what no prediction depends on is in no module."""
        return ()

    @staticmethod
    def blocks_to_stream(denoiser: nn.Module) -> tuple[nn.Module, ...]:
        """The UNet's down blocks, middle block and up blocks."""
        return unet_blocks(denoiser)

    @staticmethod
    def inner_blocks(denoiser: nn.Module) -> tuple[nn.Module, ...]:
        """All blocks except the two levels with the largest latents, which hold most of the UNet's activations."""
        return inner_unet_blocks(denoiser, num_outer_levels=2)

    def lora_targets(self, part: str, targets: LoraTargets) -> tuple[str, ...]:
        """Canonical names of the layers (without ".weight") that receive low-rank matrices, in module order."""
        return lora_layers(self.parts[part].blueprint, targets)

    @staticmethod
    def load_tokenizer() -> Any:
        """CLIP's tokenizer, loaded from files in this package."""
        return load_clip_tokenizer()

    def tokenize(self, tokenizer: Any, captions: Sequence[str]) -> Tensor:
        """Token ids of captions, (B, 77) int64: start, words, end, padded with the end token; longer captions are truncated."""
        length = self.text.num_positions
        if isinstance(tokenizer, WordTokenizer):
            return tokenizer.rows(captions, length)
        encoded = tokenizer(list(captions), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        input_ids_BL: Tensor = encoded.input_ids
        return input_ids_BL

    @staticmethod
    def words_of(text: str) -> tuple[int, ...]:
        """Token ids of a text, without those for its start and end."""
        return describe_token(text).ids

    def empty_ids(self, count: int, device: torch.device) -> Tensor:
        """Token ids of `count` captions, uninitialized."""
        return torch.empty(count, self.text.num_positions, dtype=torch.int64, device=device)

    def empty_conditioning(self, count: int, device: torch.device) -> Conditioning:
        """The conditioning of `count` examples, uninitialized."""
        return Conditioning(torch.empty(count, self.text.num_positions, self.text.width, device=device))

    def encode_text(self, parts: Mapping[str, nn.Module], input_ids_BL: Tensor) -> Conditioning:
        """Only text states (B, L, D): the last layer after the final norm, with only the causal mask, as in its training."""
        return Conditioning(parts["text_encoder"](input_ids_BL).last_hidden_state)

    def encode_pixels(self, autoencoder: Any, pixels_BCHW: Tensor) -> LatentMoments:
        """Mean and standard deviation of the latents of pixels in [-1, 1], unscaled; log-variance clamped to [-30, 20]."""
        mean_BCHW, log_variance_BCHW = autoencoder.encode(pixels_BCHW).latent_dist.parameters.chunk(2, dim=1)
        return LatentMoments(mean_BCHW, torch.exp(0.5 * log_variance_BCHW.clamp(-30, 20)))

    def sample_latents(self, moments: LatentMoments, eps_BCHW: Tensor) -> Tensor:
        """Latents in the UNet's scale, scaling_factor (mean + deviation eps)."""
        return self.scaling_factor * moments.sample(eps_BCHW)

    def decode_latents(self, autoencoder: Any, latents_BCHW: Tensor) -> Tensor:
        """Pixels in about [-1, 1], not clamped, from scaled latents."""
        pixels_BCHW: Tensor = autoencoder.decode(latents_BCHW / self.scaling_factor).sample
        return pixels_BCHW

    def predict(self, denoiser: nn.Module, x_t_BCHW: Tensor, t_B: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's estimate of the noise or the velocity in x_t at timesteps t_B, given the text states."""
        output_BCHW: Tensor = denoiser(x_t_BCHW, t_B, encoder_hidden_states=conditioning.states_BLD, return_dict=False)[0]
        return output_BCHW
