"""The blocks of a diffusers UNet, in the order of the forward pass."""

from __future__ import annotations

from torch import nn

__all__ = ["inner_unet_blocks", "unet_blocks"]


def unet_blocks(unet: nn.Module) -> tuple[nn.Module, ...]:
    """The down blocks, the middle block and the up blocks."""
    falling, rising = unet.get_submodule("down_blocks"), unet.get_submodule("up_blocks")
    return (*falling.children(), unet.get_submodule("mid_block"), *rising.children())


def inner_unet_blocks(unet: nn.Module, *, num_outer_levels: int) -> tuple[nn.Module, ...]:
    """The same blocks without those of the `num_outer_levels` levels with the largest latents."""
    blocks = unet_blocks(unet)
    return blocks[num_outer_levels : len(blocks) - num_outer_levels]
