"""A model so small that only the way through the sampler is left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.schedule import NoiseSchedule, scaled_linear_schedule
from dreambooth.families.components import Components


@dataclass
class TinyFamily:
    """Has the methods of a family; the modules are single layers. Notes how it was called."""

    schedule: NoiseSchedule = field(default_factory=scaled_linear_schedule)
    prediction: Prediction = "epsilon"
    denoiser: str = "unet"
    autoencoder: str = "vae"
    text_encoders: tuple[str, ...] = ("text_encoder",)
    latent_channels: int = 4
    downsampling: int = 8
    resolution: int = 64
    takes_sizes: bool = False
    begins_last: bool = False
    zeroes_empty_prompt: bool = False
    encoded: list[list[int]] = field(default_factory=list)
    unet_inputs: list[Tensor] = field(default_factory=list)
    unet_dtypes: list[torch.dtype] = field(default_factory=list)
    vae_inputs: list[Tensor] = field(default_factory=list)

    def tokenize(self, tokenizer: None, captions: Sequence[str]) -> Tensor:
        return torch.tensor([[sum(map(ord, caption)) % 97, len(caption)] for caption in captions])

    def encode_text(self, parts: Mapping[str, nn.Module], input_ids_BL: Tensor) -> Conditioning:
        self.encoded.append(input_ids_BL[:, 0].tolist())
        return Conditioning(parts["text_encoder"](input_ids_BL))

    def predict(self, unet: nn.Module, x_t_BCHW: Tensor, t_B: Tensor, conditioning: Conditioning) -> Tensor:
        text_BLD = conditioning.states_BLD
        self.unet_inputs.append(x_t_BCHW)
        eps_BCHW: Tensor = unet(x_t_BCHW)
        self.unet_dtypes.append(eps_BCHW.dtype)
        return torch.tanh(eps_BCHW) * (1 + t_B.reshape(-1, 1, 1, 1) / 1000) + 0.3 * text_BLD.mean(dim=(1, 2)).reshape(
            -1, 1, 1, 1
        )

    def decode_latents(self, vae: nn.Module, latents_BCHW: Tensor) -> Tensor:
        self.vae_inputs.append(latents_BCHW)
        pixels_BCHW: Tensor = vae(latents_BCHW).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
        return pixels_BCHW


@pytest.fixture
def tiny() -> Components:
    generator = torch.Generator().manual_seed(0)
    unet, vae, text_encoder = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 1), nn.Embedding(100, 8)
    for module in (unet, vae, text_encoder):
        for parameter in module.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
            parameter.requires_grad_(False)
    return Components(
        family=cast(Any, TinyFamily()),
        parts={"unet": unet, "vae": vae, "text_encoder": text_encoder},
        tokenizer=None,
    )
