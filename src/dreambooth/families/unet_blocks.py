"""The blocks of a UNet of diffusers, in the order of the forward pass."""

from __future__ import annotations

from torch import nn

__all__ = ["inner_unet_blocks", "unet_blocks"]


def unet_blocks(unet: nn.Module) -> tuple[nn.Module, ...]:
    """Its down blocks, its middle and its up blocks."""
    falling, rising = unet.get_submodule("down_blocks"), unet.get_submodule("up_blocks")
    return (*falling.children(), unet.get_submodule("mid_block"), *rising.children())


def inner_unet_blocks(unet: nn.Module, *, num_outer_levels: int) -> tuple[nn.Module, ...]:
    """The same without the blocks of the `num_outer_levels` levels with the largest latents."""
    blocks = unet_blocks(unet)
    return blocks[num_outer_levels : len(blocks) - num_outer_levels]
