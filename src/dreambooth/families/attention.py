"""Which arithmetic a UNet's attention uses; the numbers are the same to rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreambooth.families.quiet_import import quiet_import

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

__all__ = ["use_plain_attention"]


def use_plain_attention(unet: UNet2DConditionModel) -> None:
    """Attention as three plain products, for training on a CPU.

    torch's fused attention is slow there in the backward pass when heads are narrow: a step of the embedded model (heads of
    16 and 24, bfloat16, one thread) took 0.56 s of processor time with it and 0.34 s without.
    """
    with quiet_import():
        from diffusers.models.attention_processor import AttnProcessor
    unet.set_attn_processor(AttnProcessor())
