"""How memory is used: a plain record of choices, applied to the modules that train."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["MemoryPlan"]


_SWITCHES = (
    "enable_gradient_checkpointing",  # diffusers
    "activation_checkpointing_enable",  # transformers
    "gradient_checkpointing_enable",  # its older name, the only one in earlier releases
)


@dataclass(frozen=True)
class MemoryPlan:
    """What is traded for memory."""

    gradient_checkpointing: bool

    @classmethod
    def choose(cls, gradient_checkpointing: bool | None, device: torch.device) -> MemoryPlan:
        """Fill in what was not asked for: recompute activations on a GPU, keep them on the CPU."""
        return cls(device.type != "cpu" if gradient_checkpointing is None else gradient_checkpointing)

    def apply(self, modules: Iterable[nn.Module]) -> None:
        """Make the modules follow the plan. Numbers do not change: activations are recomputed with the same arithmetic."""
        if not self.gradient_checkpointing:
            return
        for module in modules:
            switch = next(name for name in _SWITCHES if hasattr(module, name))
            getattr(module, switch)()
