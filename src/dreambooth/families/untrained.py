"""Untrained models with the default initialization of their libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from dreambooth.diffusion.randomness import seeded
from dreambooth.families.components import Components
from dreambooth.families.family import Family
from dreambooth.families.quiet_import import quiet_import

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.modeling_clip import CLIPModel
    from transformers.models.vit.modeling_vit import ViTModel

__all__ = ["untrained_clip", "untrained_unet", "untrained_vae", "untrained_vit", "without_memory"]

Module = TypeVar("Module", bound=nn.Module)


def untrained_unet(family: Family, *, seed: int) -> UNet2DConditionModel:
    """A UNet of the family's widths whose weights depend only on the seed."""
    with quiet_import():
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    return _begun(lambda: UNet2DConditionModel.from_config(family.parts[family.denoiser].config), seed)


def untrained_vae(family: Family, *, seed: int) -> AutoencoderKL:
    """An autoencoder of the family's widths whose weights depend only on the seed."""
    with quiet_import():
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    return _begun(lambda: AutoencoderKL.from_config(family.parts[family.autoencoder].config), seed)


def untrained_clip(family: Family, *, vision: dict[str, Any], projection: int, seed: int) -> CLIPModel:
    """A CLIP whose text encoder is the family's, and whose image encoder is `vision` (a CLIPVisionConfig)."""
    with quiet_import():
        from transformers.models.clip.configuration_clip import CLIPConfig
        from transformers.models.clip.modeling_clip import CLIPModel

    text = {**family.parts[family.text_encoders[0]].config, "projection_dim": projection}
    seen = {**vision, "projection_dim": projection}
    return _begun(lambda: CLIPModel(CLIPConfig(text_config=text, vision_config=seen, projection_dim=projection)), seed)


def untrained_vit(config: dict[str, Any], *, seed: int) -> ViTModel:
    """A vision transformer for `config` (a ViTConfig), without the pooler, which is not used here."""
    with quiet_import():
        from transformers.models.vit.configuration_vit import ViTConfig
        from transformers.models.vit.modeling_vit import ViTModel
    return _begun(lambda: ViTModel(ViTConfig(**config), add_pooling_layer=False), seed)


def without_memory(family: Family) -> Components:
    """A whole model in float32 on torch's meta device: it computes shapes and dtypes, but has no values."""
    with torch.device("meta"):
        parts = {name: family.new_module(name).eval().requires_grad_(False) for name in family.parts}
    return Components(family, parts, family.load_tokenizer())


def _begun(make: Callable[[], Module], seed: int) -> Module:
    """The libraries draw from torch's global generator, whose state is restored afterwards."""
    with seeded(seed):
        return make()
