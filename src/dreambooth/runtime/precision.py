"""The arithmetic of training, as one named policy.

The mixed policies and fp32 keep weights and gradients in float32 and affect only the arithmetic of the forward and backward
pass. bf16 also keeps weights and gradients in bfloat16, and the optimizer uses stochastic rounding, so that small updates are
not lost. Invalid combinations, such as unscaling float16 gradients, cannot be expressed.
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
    """The arithmetic of the forward pass on one kind of device."""

    name: Precision
    device_type: str

    @property
    def compute_dtype(self) -> torch.dtype:
        """Dtype of matrix products and convolutions."""
        return _COMPUTE_DTYPES[self.name]

    @property
    def weight_dtype(self) -> torch.dtype:
        """Dtype of trained weights and their gradients."""
        return torch.bfloat16 if self.name == "bf16" else torch.float32

    def dtype_of_parts(self, *, keeps_base: bool) -> torch.dtype:
        """Dtype of the weights through which gradients flow: that of the arithmetic, if they are not trained themselves."""
        return self.compute_dtype if keeps_base else self.weight_dtype

    @property
    def needs_loss_scale(self) -> bool:
        """Whether small gradients would vanish without loss scaling: float16 only."""
        return self.name == "fp16-mixed"

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Use the policy's arithmetic inside the block."""
        with torch.autocast(self.device_type, dtype=self.compute_dtype, enabled=self.compute_dtype != self.weight_dtype):
            yield


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device supports bfloat16 natively."""
    return device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False))


def choose_precision(name: Precision, device: torch.device) -> PrecisionPolicy:
    """The named policy. Raises SettingsError if the device does not support it."""
    if name in ("bf16-mixed", "bf16") and not has_bfloat16(device):
        raise SettingsError(
            f"precision is {name}, which {device.type} does not support", hint="Use --precision fp16-mixed or fp32."
        )
    return PrecisionPolicy(name, device.type)
