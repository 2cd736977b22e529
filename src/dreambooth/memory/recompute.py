"""Recomputing activations in the backward pass instead of keeping them (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from dreambooth.memory.settings import Checkpointing

__all__ = ["recompute_activations"]

_SWITCHES = (
    "enable_gradient_checkpointing",  # diffusers
    "activation_checkpointing_enable",  # transformers
    "gradient_checkpointing_enable",  # its older name, the only one in earlier releases
)
_NUM_OUTER_LEVELS = 2


def recompute_activations(modules: Iterable[nn.Module], where: Checkpointing) -> None:
    """Make the modules recompute `where` it says. Numbers do not change: the arithmetic is the same.

    "all" is every layer that the libraries can recompute. "outer" is the two levels of a UNet with the largest latents,
    where three quarters of its activations are; a module without such levels keeps its activations.
    """
    if where == "off":
        return
    for module in modules:
        switch = next(name for name in _SWITCHES if hasattr(module, name))
        if where == "all":
            getattr(module, switch)()
        elif isinstance(levels := getattr(module, "down_blocks", None), nn.ModuleList):
            getattr(module, switch)()
            _keep_inner_levels(module, levels)


def _keep_inner_levels(unet: nn.Module, levels: nn.ModuleList) -> None:
    """Each block of diffusers looks at a flag of its own."""
    rising = unet.get_submodule("up_blocks")
    assert isinstance(rising, nn.ModuleList)
    inner = [*levels[_NUM_OUTER_LEVELS:], *rising[: len(rising) - _NUM_OUTER_LEVELS], unet.get_submodule("mid_block")]
    for block in inner:
        for part in block.modules():
            if hasattr(part, "gradient_checkpointing"):
                part.gradient_checkpointing = False
