"""Updates of single tensors: applies the formulas of `update_rules.py` to stored moments, in pieces and with rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreambooth.diffusion.rounding import round_to_bfloat16
from dreambooth.memory.settings import StateFormat
from dreambooth.training.settings import OptimizerSettings
from dreambooth.training.state_formats import format_for
from dreambooth.training.update_rules import AdamWNumbers, adafactor, adamw

__all__ = ["PIECE", "AdafactorUpdate", "AdamWUpdate", "Moment"]

PIECE = 2**20
"""Elements processed at a time; with 8-bit moments and their float32 copies about 77 MB."""

_MEANS = {"exp_avg": True, "exp_avg_sq": False}  # maps each moment to whether it is signed
Key = tuple[int, int]


@dataclass(frozen=True)
class Moment:
    """Values shared by all tensors of one step."""

    step: int
    is_stopped: Tensor
    """Boolean scalar on the device; if true, nothing changes."""
    gradient_factor: Tensor
    """Factor applied to gradients, a scalar on the device."""


class AdamWUpdate:
    """AdamW, with both moments stored in the format of the memory plan."""

    def __init__(self, settings: OptimizerSettings, states: StateFormat, device: torch.device, *, on_host: bool) -> None:
        self._numbers = AdamWNumbers(settings.adam_beta1, settings.adam_beta2, settings.adam_epsilon, settings.weight_decay)
        self._states = states
        self._device = device
        self._on_host = on_host
        self._kept: dict[str, dict[str, dict[str, Tensor]]] = {}  # parameter, moment, part

    def move(self, name: str, parameter: nn.Parameter, rate: float, moment: Moment, key: Key) -> None:
        """Update one parameter from its gradient, piece by piece."""
        kept = self._kept.get(name) or self._begin(name, parameter)
        kind = format_for(self._states, parameter.numel())
        assert parameter.grad is not None
        weights, gradients, device = parameter.data.view(-1), parameter.grad.reshape(-1), parameter.device
        t, numbers = moment.step, self._numbers
        corrections = (rate, 1 - numbers.beta1**t, math.sqrt(1 - numbers.beta2**t))
        rates_3 = torch.tensor(corrections, dtype=torch.float32).to(device, non_blocking=True)
        key_2 = torch.tensor(key, dtype=torch.int32).to(device, non_blocking=True)
        for start in range(0, weights.numel(), PIECE):
            stop = min(start + PIECE, weights.numel())
            old = [
                kind.decode(kept[mean], start, stop, is_signed=is_signed, device=device) for mean, is_signed in _MEANS.items()
            ]
            gradient_N = gradients[start:stop].float() * moment.gradient_factor
            before = weights[start:stop].float()
            weight_N, means = adamw(before, gradient_N, (old[0], old[1]), rates_3, numbers)
            for (mean, is_signed), new, was in zip(_MEANS.items(), means, old, strict=True):
                kept_N = torch.where(moment.is_stopped, was, new)
                kind.encode(kept[mean], start, stop, kept_N, is_signed=is_signed)
            _write(weights, start, torch.where(moment.is_stopped, before, weight_N), key_2)

    def state(self) -> dict[str, Tensor]:
        """Stored tensors as "exp_avg/NAME", or "exp_avg.codes/NAME" and "exp_avg.scale/NAME"."""
        return {
            f"{mean}{'.' if part else ''}{part}/{name}": tensor
            for name, kept in self._kept.items()
            for mean, parts in kept.items()
            for part, tensor in parts.items()
        }

    def load(self, name: str, parameter: nn.Parameter, state: Mapping[str, Tensor]) -> None:
        """Load the moments of one parameter; does nothing if `state` has none."""
        if f"exp_avg/{name}" not in state and f"exp_avg.codes/{name}" not in state:
            return
        for mean, parts in self._begin(name, parameter).items():
            for part, tensor in parts.items():
                tensor.copy_(state[f"{mean}{'.' if part else ''}{part}/{name}"].view(-1))

    def _begin(self, name: str, parameter: nn.Parameter) -> dict[str, dict[str, Tensor]]:
        kind, count = format_for(self._states, parameter.numel()), parameter.numel()
        device = torch.device("cpu") if self._on_host else self._device
        self._kept[name] = {mean: kind.zeros(count, is_signed=signed, device=device) for mean, signed in _MEANS.items()}
        if self._on_host and self._device.type == "cuda":  # pinned memory can be copied without blocking
            for parts in self._kept[name].values():
                parts.update({part: tensor.pin_memory() for part, tensor in parts.items()})
        return self._kept[name]


class AdafactorUpdate:
    """Adafactor; its moments are so small that they are always float32."""

    def __init__(self, settings: OptimizerSettings, device: torch.device) -> None:
        self._weight_decay = settings.weight_decay
        self._device = device
        self._kept: dict[str, dict[str, Tensor]] = {}

    def move(self, name: str, parameter: nn.Parameter, rate: float, moment: Moment, key: Key) -> None:
        """Update one parameter from its gradient."""
        assert parameter.grad is not None
        kept = self._kept.get(name) or self._begin(name, parameter)
        before = parameter.data.float()
        gradient = parameter.grad.float() * moment.gradient_factor
        weight, squares = adafactor(
            before, gradient, tuple(kept.values()), rate, step=moment.step, weight_decay=self._weight_decay
        )
        for tensor, new in zip(kept.values(), squares, strict=True):
            tensor.copy_(torch.where(moment.is_stopped, tensor, new))
        key_2 = torch.tensor(key, dtype=torch.int32).to(parameter.device, non_blocking=True)
        _write(parameter.data.view(-1), 0, torch.where(moment.is_stopped, before, weight).reshape(-1), key_2)

    def state(self) -> dict[str, Tensor]:
        """Stored tensors as "square/NAME", or "square.row/NAME" and "square.column/NAME"."""
        return {f"{part}/{name}": tensor for name, parts in self._kept.items() for part, tensor in parts.items()}

    def load(self, name: str, parameter: nn.Parameter, state: Mapping[str, Tensor]) -> None:
        """Load the moments of one parameter; does nothing if `state` has none."""
        parts = self._begin(name, parameter)
        if any(f"{part}/{name}" not in state for part in parts):
            del self._kept[name]
            return
        for part, tensor in parts.items():
            tensor.copy_(state[f"{part}/{name}"])

    def _begin(self, name: str, parameter: nn.Parameter) -> dict[str, Tensor]:
        rows, device = parameter.shape[0], self._device
        if parameter.ndim > 1:
            columns = parameter.numel() // rows
            self._kept[name] = {
                "square.row": torch.zeros(rows, 1, device=device),
                "square.column": torch.zeros(1, columns, device=device),
            }
        else:
            self._kept[name] = {"square": torch.zeros(rows, device=device)}
        return self._kept[name]


def _write(weights: Tensor, start: int, new_N: Tensor, key_2: Tensor) -> None:
    rounded = round_to_bfloat16(new_N, key_2, start=start) if weights.dtype == torch.bfloat16 else new_N
    weights[start : start + new_N.numel()].copy_(rounded)
