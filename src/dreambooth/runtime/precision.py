"""Arithmetic of training as one named policy.

Weights, gradients and optimiser states are always float32; a policy only chooses the arithmetic of the forward and backward
pass. So "unscale FP16 gradients" and a half-precision optimiser cannot be expressed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from dreambooth.errors import SettingsError

__all__ = ["PrecisionPolicy", "choose_precision"]

PrecisionName = Literal["fp32", "bf16-mixed", "fp16-mixed"]
_AUTOCAST_DTYPES = {"fp32": torch.float32, "bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}


@dataclass(frozen=True)
class PrecisionPolicy:
    """How the forward pass calculates on one kind of device."""

    name: PrecisionName
    device_type: str

    @property
    def compute_dtype(self) -> torch.dtype:
        """Type of matrix products and convolutions."""
        return _AUTOCAST_DTYPES[self.name]

    @property
    def needs_loss_scale(self) -> bool:
        """Whether small gradients would vanish without scaling the loss: float16 only."""
        return self.name == "fp16-mixed"

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Calculate as the policy says inside the block."""
        with torch.autocast(self.device_type, dtype=self.compute_dtype, enabled=self.name != "fp32"):
            yield


def choose_precision(name: PrecisionName | None, device: torch.device) -> PrecisionPolicy:
    """The named policy, or bf16-mixed on a GPU that has it and fp32 elsewhere when there is no name.

    Raises SettingsError when the device cannot calculate as named.
    """
    has_bfloat16 = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False))
    if name is None:
        return PrecisionPolicy("bf16-mixed" if device.type == "cuda" and has_bfloat16 else "fp32", device.type)
    if name == "bf16-mixed" and not has_bfloat16:
        raise SettingsError(
            f"precision is bf16-mixed, which {device.type} does not have", hint="Use --precision fp16-mixed or fp32."
        )
    return PrecisionPolicy(name, device.type)
