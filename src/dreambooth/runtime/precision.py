"""Arithmetic of training as one named policy.

The mixed policies and fp32 hold weights and gradients in float32 and choose the arithmetic of the forward and backward pass
alone. bf16 holds weights and gradients in bfloat16 as well, and the optimizer uses stochastic rounding, so that small updates
are not lost. So "unscale FP16 gradients" cannot be expressed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dreambooth.errors import SettingsError
from dreambooth.memory.settings import Precision

__all__ = ["PrecisionPolicy", "choose_precision", "has_bfloat16"]

_COMPUTE_DTYPES = {
    "fp32": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "fp16-mixed": torch.float16,
    "bf16": torch.bfloat16,
}


@dataclass(frozen=True)
class PrecisionPolicy:
    """How the forward pass calculates on one kind of device."""

    name: Precision
    device_type: str

    @property
    def compute_dtype(self) -> torch.dtype:
        """Type of matrix products and convolutions."""
        return _COMPUTE_DTYPES[self.name]

    @property
    def weight_dtype(self) -> torch.dtype:
        """Type of the weights and gradients of what is trained."""
        return torch.bfloat16 if self.name == "bf16" else torch.float32

    @property
    def needs_loss_scale(self) -> bool:
        """Whether small gradients would vanish without scaling the loss: float16 only."""
        return self.name == "fp16-mixed"

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Calculate as the policy says inside the block."""
        with torch.autocast(self.device_type, dtype=self.compute_dtype, enabled=self.compute_dtype != self.weight_dtype):
            yield


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device calculates in bfloat16 itself."""
    return device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False))


def choose_precision(name: Precision, device: torch.device) -> PrecisionPolicy:
    """The named policy. Raises SettingsError when the device cannot calculate as named."""
    if name in ("bf16-mixed", "bf16") and not has_bfloat16(device):
        raise SettingsError(
            f"precision is {name}, which {device.type} does not support", hint="Use --precision fp16-mixed or fp32."
        )
    return PrecisionPolicy(name, device.type)
