"""Stable Diffusion 2 as other programs describe it, where it differs from Stable Diffusion 1."""

from __future__ import annotations

from typing import Any

from dreambooth.diffusion.prediction import Prediction
from dreambooth.families import sd1_configs
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape

__all__ = ["original_config", "text_config", "unet_config"]

_TEXT_STAGE = "model.params.cond_stage_config."
_UNET = "model.params.unet_config.params."


def unet_config(shape: UNetShape, prediction: Prediction, *, head_width: int, latent_side: int) -> dict[str, Any]:
    """The UNet in the form of diffusers' UNet2DConditionModel.

    Its `attention_head_dim` is the number of heads of each level; diffusers keeps this name for old files. The published models
    of the velocity overflow in float16 where attention is not computed in float32.
    """
    return {
        **sd1_configs.unet_config(shape, num_heads=0, latent_side=latent_side),
        "attention_head_dim": [width // head_width for width in shape.widths],
        "upcast_attention": prediction == "velocity",
        "use_linear_projection": True,
    }


def text_config(shape: TextShape, *, head_width: int) -> dict[str, Any]:
    """The text encoder in the form of transformers' CLIPTextConfig."""
    return {**sd1_configs.text_config(shape, head_width=head_width), "hidden_act": "gelu", "pad_token_id": 0}


def original_config(
    unet: UNetShape, vae: VaeShape, prediction: Prediction, *, head_width: int, scaling_factor: float
) -> dict[str, Any]:
    """The entries of the original program's YAML that follow from the tensors, as dotted keys and values."""
    common = sd1_configs.original_config(unet, vae, prediction, num_heads=0, scaling_factor=scaling_factor)
    del common[f"{_UNET}num_heads"]
    return {
        **common,
        f"{_UNET}num_head_channels": head_width,
        f"{_TEXT_STAGE}target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
        f"{_TEXT_STAGE}params.layer": "penultimate",
    }
