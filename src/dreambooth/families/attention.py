"""The attention implementation of a UNet; results are equal up to rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreambooth.families.quiet_import import quiet_import

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

__all__ = ["use_plain_attention"]


def use_plain_attention(unet: UNet2DConditionModel) -> None:
    """Attention as three separate matrix operations, for training on a CPU.

    There, torch's fused attention has a slow backward pass for narrow heads: a step of the embedded model (head widths 16
    and 24, bfloat16, one thread) took 0.56 s of processor time with it and 0.34 s without.
    """
    with quiet_import():
        from diffusers.models.attention_processor import AttnProcessor
    unet.set_attn_processor(AttnProcessor())
