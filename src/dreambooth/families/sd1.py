"""Stable Diffusion 1: CLIP's text encoder, a UNet of eight heads at every level, noise as the target.

Shapes: B examples, L tokens, D text width, C channels, H and W sizes in pixels or latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.schedule import NoiseSchedule, scaled_linear_schedule
from dreambooth.families.components import Components
from dreambooth.families.loading import build_module
from dreambooth.families.shapes import StateDict, TextShape, UNetShape, VaeShape

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer
from dreambooth.families.quiet_import import quiet_import

__all__ = ["TOKENIZER_FOLDER", "StableDiffusion1"]

TOKENIZER_FOLDER = Path(__file__).parent / "tokenizer"


_FOLDER_VERSION = "0.9.0"  # of diffusers, whose form of a folder this is; it takes older UNets for ones of 512 pixels


_TEXT_LEVEL = "text_model."  # a level of CLIPTextModel's names that transformers 5 has not


@dataclass(frozen=True)
class StableDiffusion1:
    """A Stable Diffusion 1 of any width; everything that varies was read from its tensors."""

    unet: UNetShape
    vae: VaeShape
    text: TextShape
    resolution: int = 512
    """Side in pixels of the pictures it was trained on; a file may say another one."""

    usual_resolution: ClassVar[int] = 512
    name: ClassVar[str] = "sd1"
    title: ClassVar[str] = "Stable Diffusion 1"
    scaling_factor: ClassVar[float] = 0.18215
    num_heads: ClassVar[int] = 8
    text_head_width: ClassVar[int] = 64

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule, recomputed."""
        return scaled_linear_schedule()

    @property
    def latent_channels(self) -> int:
        """Channels of a latent, 4 for every Stable Diffusion 1."""
        return self.vae.latent_channels

    @property
    def downsampling(self) -> int:
        """Pixels that one latent is wide: 8 for a VAE of four levels."""
        return int(2 ** (len(self.vae.widths) - 1))

    @property
    def unet_config(self) -> dict[str, Any]:
        """The UNet as diffusers' UNet2DConditionModel describes it.

        Its `attention_head_dim` is the number of heads, a name that diffusers keeps for old files.
        """
        levels = [depth > 0 for depth in self.unet.depths]
        return {
            "_class_name": "UNet2DConditionModel",
            "_diffusers_version": _FOLDER_VERSION,
            "act_fn": "silu",
            "attention_head_dim": self.num_heads,
            "block_out_channels": list(self.unet.widths),
            "center_input_sample": False,
            "cross_attention_dim": self.unet.context_width,
            "down_block_types": ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in levels],
            "downsample_padding": 1,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "in_channels": self.unet.in_channels,
            "layers_per_block": self.unet.num_layers,
            "mid_block_scale_factor": 1,
            "norm_eps": 1e-05,
            "norm_num_groups": 32,
            "out_channels": self.unet.out_channels,
            "sample_size": self.resolution // self.downsampling,
            "up_block_types": ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(levels)],
        }

    @property
    def vae_config(self) -> dict[str, Any]:
        """The VAE as diffusers' AutoencoderKL describes it."""
        num_levels = len(self.vae.widths)
        return {
            "_class_name": "AutoencoderKL",
            "_diffusers_version": _FOLDER_VERSION,
            "act_fn": "silu",
            "block_out_channels": list(self.vae.widths),
            "down_block_types": ["DownEncoderBlock2D"] * num_levels,
            "in_channels": self.vae.pixel_channels,
            "latent_channels": self.vae.latent_channels,
            "layers_per_block": self.vae.num_layers,
            "norm_num_groups": 32,
            "out_channels": self.vae.pixel_channels,
            "sample_size": self.resolution,
            "scaling_factor": self.scaling_factor,
            "up_block_types": ["UpDecoderBlock2D"] * num_levels,
        }

    @property
    def text_config(self) -> dict[str, Any]:
        """The text encoder as transformers' CLIPTextConfig describes it."""
        return {
            "architectures": ["CLIPTextModel"],
            "attention_dropout": 0.0,
            "bos_token_id": 49406,
            "eos_token_id": 49407,
            "hidden_act": "quick_gelu",
            "hidden_size": self.text.width,
            "intermediate_size": self.text.inner_width,
            "layer_norm_eps": 1e-05,
            "model_type": "clip_text_model",
            "max_position_embeddings": self.text.num_positions,
            "num_attention_heads": self.text.width // self.text_head_width,
            "num_hidden_layers": self.text.num_layers,
            "pad_token_id": 49407,
            "projection_dim": self.text.width,
            "vocab_size": self.text.vocabulary,
        }

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The schedule as diffusers' folders of Stable Diffusion 1 describe it."""
        return {
            "_class_name": "PNDMScheduler",
            "_diffusers_version": _FOLDER_VERSION,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "clip_sample": False,
            "num_train_timesteps": self.schedule.num_timesteps,
            "prediction_type": "epsilon",
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
            "steps_offset": 1,
            "timestep_spacing": "leading",
            "trained_betas": None,
        }

    @property
    def pipeline_config(self) -> dict[str, Any]:
        """The index of a folder in the form of diffusers."""
        return {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": _FOLDER_VERSION,
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "PNDMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        }

    def at_resolution(self, resolution: int) -> StableDiffusion1:
        """The same family for pictures of another size."""
        return replace(self, resolution=resolution)

    def build(self, unet: StateDict, vae: StateDict, text_encoder: StateDict, *, dtype: torch.dtype) -> Components:
        """The modules with copies of these tensors in `dtype`, on the CPU, in evaluation mode, asking for no gradients."""
        with quiet_import():
            from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
            from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
            from transformers.models.clip.configuration_clip import CLIPTextConfig
            from transformers.models.clip.modeling_clip import CLIPTextModel

        text_config = CLIPTextConfig.from_dict(self.text_config)
        level = _text_level(CLIPTextModel, text_config)
        text_encoder = {f"{level}{name}": tensor for name, tensor in text_encoder.items()}
        positions = {f"{level}embeddings.position_ids": torch.arange(self.text.num_positions).unsqueeze(0)}
        return Components(
            family=self,
            unet=build_module(lambda: UNet2DConditionModel.from_config(self.unet_config), unet, buffers={}, dtype=dtype),
            vae=build_module(lambda: AutoencoderKL.from_config(self.vae_config), vae, buffers={}, dtype=dtype),
            text_encoder=build_module(lambda: CLIPTextModel(text_config), text_encoder, buffers=positions, dtype=dtype),
            tokenizer=self.load_tokenizer(),
        )

    @staticmethod
    def state_dicts(components: Components) -> tuple[StateDict, StateDict, StateDict]:
        """The tensors of UNet, VAE and text encoder under the canonical names that `build` takes; they share memory."""
        text_encoder = {
            name.removeprefix(_TEXT_LEVEL): tensor
            for name, tensor in components.text_encoder.state_dict().items()
            if not name.endswith("embeddings.position_ids")
        }
        return components.unet.state_dict(), components.vae.state_dict(), text_encoder

    @staticmethod
    def load_tokenizer() -> CLIPTokenizer:
        """CLIP's tokenizer from the files of this package."""
        with quiet_import():
            from transformers.models.clip.tokenization_clip import CLIPTokenizer

        # Not CLIPTokenizer(vocab_file=...): transformers 5 accepts the argument and then gives wrong ids.
        return CLIPTokenizer.from_pretrained(TOKENIZER_FOLDER, local_files_only=True)

    def tokenize(self, tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
        """Token ids of captions, (B, 77) int64: start, words, end, then more ends; longer captions are cut."""
        length = self.text.num_positions
        encoded = tokenizer(list(captions), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        input_ids_BL: Tensor = encoded.input_ids
        return input_ids_BL

    def encode_text(self, text_encoder: CLIPTextModel, input_ids_BL: Tensor) -> Tensor:
        """Text states (B, L, D): the last layer after the final norm; only the causal mask, as the model was trained."""
        states_BLD: Tensor = text_encoder(input_ids_BL).last_hidden_state
        return states_BLD

    def encode_pixels(self, vae: AutoencoderKL, pixels_BCHW: Tensor) -> LatentMoments:
        """Mean and deviation of the latents of pixels in [-1, 1], unscaled; the log-variance is kept within [-30, 20]."""
        mean_BCHW, log_variance_BCHW = vae.encode(pixels_BCHW).latent_dist.parameters.chunk(2, dim=1)
        return LatentMoments(mean_BCHW, torch.exp(0.5 * log_variance_BCHW.clamp(-30, 20)))

    def sample_latents(self, moments: LatentMoments, eps_BCHW: Tensor) -> Tensor:
        """The latents that the UNet works on, 0.18215 (mean + deviation eps)."""
        return self.scaling_factor * moments.sample(eps_BCHW)

    def decode_latents(self, vae: AutoencoderKL, latents_BCHW: Tensor) -> Tensor:
        """Pixels in about [-1, 1], not clamped, of scaled latents."""
        pixels_BCHW: Tensor = vae.decode(latents_BCHW / self.scaling_factor).sample
        return pixels_BCHW

    def predict_noise(self, unet: UNet2DConditionModel, x_t_BCHW: Tensor, t_B: Tensor, text_BLD: Tensor) -> Tensor:
        """The UNet's estimate of eps in x_t at timesteps t_B, under the text states."""
        eps_BCHW: Tensor = unet(x_t_BCHW, t_B, encoder_hidden_states=text_BLD, return_dict=False)[0]
        return eps_BCHW


def _text_level(model: Any, config: Any) -> str:
    with torch.device("meta"):
        names = model(config).state_dict()
    return _TEXT_LEVEL if any(name.startswith(_TEXT_LEVEL) for name in names) else ""
