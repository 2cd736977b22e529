"""Recomputing activations in the backward pass instead of keeping them (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import nn

from dreambooth.memory.settings import Checkpointing

__all__ = ["recompute_activations"]

_SWITCHES = (
    "enable_gradient_checkpointing",  # diffusers
    "activation_checkpointing_enable",  # transformers
    "gradient_checkpointing_enable",  # its older name, the only one in earlier releases
)


def recompute_activations(
    modules: Iterable[nn.Module], where: Checkpointing, *, inner_blocks: Collection[nn.Module] = ()
) -> None:
    """Make the modules recompute activations at the level `where`. Results do not change: the arithmetic is the same.

    "all" recomputes every layer that the libraries support. "outer" excludes the `inner_blocks`, and modules that contain
    none of them.
    """
    if where == "off":
        return
    for module in modules:
        switch = next(name for name in _SWITCHES if hasattr(module, name))
        inner = [block for block in module.modules() if block in inner_blocks]
        if where == "all":
            getattr(module, switch)()
        elif inner:
            getattr(module, switch)()
            _keep(inner)


def _keep(blocks: Iterable[nn.Module]) -> None:
    """Disable recomputation in these blocks: each block of diffusers reads its own flag."""
    for block in blocks:
        for part in block.modules():
            if hasattr(part, "gradient_checkpointing"):
                part.gradient_checkpointing = False  # type: ignore[assignment]
