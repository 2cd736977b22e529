"""Updates of tensors in one step: applies the formulas of `update_rules.py` to stored moments, in batches, with rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreambooth.diffusion.rounding import round_rows_to_bfloat16, round_to_bfloat16
from dreambooth.memory.settings import StateFormat
from dreambooth.training.flat import CUT, BatchQueue, Piece, gathered, write_back
from dreambooth.training.settings import OptimizerSettings
from dreambooth.training.state_formats import format_for
from dreambooth.training.update_rules import AdamWNumbers, adafactor, adamw_

__all__ = ["AdafactorUpdate", "AdamWUpdate", "Change", "Moment", "can_read_without_waiting"]

_MOMENTS = ("exp_avg", "exp_avg_sq")
Key = tuple[int, int]


@dataclass(frozen=True)
class Moment:
    """Values shared by all tensors of one step."""

    step: int
    is_stopped: Tensor
    """Boolean scalar on the device; if true, nothing changes."""
    gradient_factor: Tensor
    """Factor applied to gradients, a scalar on the device."""


@dataclass(frozen=True)
class Change:
    """A parameter with a gradient, which the update drops, and what the update depends on."""

    name: str
    parameter: nn.Parameter
    rate: float
    key: Key
    """See `rounding_key`; determines the rounding of a bfloat16 weight."""

    @property
    def gradient(self) -> Tensor:
        """The gradient, which must exist."""
        assert self.parameter.grad is not None
        return self.parameter.grad


def can_read_without_waiting(device: torch.device) -> bool:
    """Whether reading a scalar on the device leaves nothing idle; otherwise the device must decide by itself."""
    return device.type == "cpu"


class AdamWUpdate:
    """AdamW, with both moments stored in the format of the memory plan."""

    def __init__(
        self, settings: OptimizerSettings, states: StateFormat, device: torch.device, *, on_host: bool, at_once: int
    ) -> None:
        """`at_once` is the number of weights that are updated together; it changes no result."""
        self._numbers = AdamWNumbers(settings.adam_beta1, settings.adam_beta2, settings.adam_epsilon, settings.weight_decay)
        self._states = states
        self._device = device
        self._on_host = on_host
        self._at_once = at_once
        self._queue: BatchQueue[Change] = BatchQueue(at_once)
        self._rates: dict[float, Tensor] = {}
        self._kept: dict[str, dict[str, dict[str, Tensor]]] = {}  # parameter, moment, part

    def begin(self, moment: Moment) -> None:
        """Begin a step."""
        self._moment = moment
        self._queue = BatchQueue(self._at_once)
        self._rates = {}
        self._decides_on_device = not can_read_without_waiting(self._device)

    def add(self, change: Change) -> None:
        """Update a parameter, now or as soon as others fill a batch with it; at the latest in `finish`."""
        if not self._decides_on_device and bool(self._moment.is_stopped):
            change.parameter.grad = None
            return
        kind = format_for(self._states, change.parameter.numel())
        alike = (kind, change.rate, change.parameter.dtype)
        for batch in self._queue.add(alike, change, change.parameter.numel()):
            self._move(batch)

    def finish(self) -> None:
        """Update the parameters that wait."""
        for batch in self._queue.rest():
            self._move(batch)

    def _move(self, batch: Sequence[Piece[Change]]) -> None:
        first, device = batch[0].item, self._device
        kind = format_for(self._states, first.parameter.numel())
        cuts = [kind.cut(self._kept_of(piece.item)[mean], piece.start, piece.stop) for mean in _MOMENTS for piece in batch]
        homes = {part: [cut[part] for cut in cuts] for part in cuts[0]}
        old = {part: gathered(tensors, device).view(2, -1) for part, tensors in homes.items()}
        moments_2N = kind.decode(old)
        weights = [piece.item.parameter.data.view(-1)[piece.start : piece.stop] for piece in batch]
        before_N = gathered(weights, device)
        weight_N = before_N.to(torch.float32, copy=self._decides_on_device)
        gradient_N = self._used_up(batch)
        adamw_(weight_N, gradient_N, (moments_2N[0], moments_2N[1]), self._rates_of(first), self._numbers)
        del gradient_N
        if before_N.dtype == torch.bfloat16:
            weight_N = _rounded(weight_N, batch)
        write_back(self._unless_stopped(before_N, weight_N), weights)
        del before_N, weight_N
        for part, new in kind.encode(moments_2N).items():
            write_back(self._unless_stopped(old[part], new).view(-1), homes[part])

    def _unless_stopped(self, old: Tensor, new: Tensor) -> Tensor:
        return torch.where(self._moment.is_stopped, old, new, out=old) if self._decides_on_device else new

    def _used_up(self, batch: Sequence[Piece[Change]]) -> Tensor:
        """The gradients of a batch in float32, scaled; those of parameters that end in it are dropped."""
        gradients = [piece.item.gradient.reshape(-1)[piece.start : piece.stop] for piece in batch]
        gradient_N = gathered(gradients, self._device, torch.float32).mul_(self._moment.gradient_factor)
        for piece in batch:
            if piece.is_last:
                piece.item.parameter.grad = None
        return gradient_N

    def _rates_of(self, change: Change) -> Tensor:
        if change.rate not in self._rates:
            beta1, beta2, step = self._numbers.beta1, self._numbers.beta2, self._moment.step
            rates_3 = torch.tensor((change.rate, 1 - beta1**step, math.sqrt(1 - beta2**step)), dtype=torch.float32)
            self._rates[change.rate] = rates_3.to(self._device, non_blocking=True)
        return self._rates[change.rate]

    def _kept_of(self, change: Change) -> dict[str, dict[str, Tensor]]:
        return self._kept.get(change.name) or self._begin(change.name, change.parameter)

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
        self._kept[name] = {mean: kind.zeros(count, device=device) for mean in _MOMENTS}
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

    def begin(self, moment: Moment) -> None:
        """Begin a step."""
        self._moment = moment

    def add(self, change: Change) -> None:
        """Update a parameter alone, since it has statistics of its own."""
        parameter, moment = change.parameter, self._moment
        kept = self._kept.get(change.name) or self._begin(change.name, parameter)
        before = parameter.data.float()
        gradient = change.gradient.float() * moment.gradient_factor
        weight, squares = adafactor(
            before, gradient, tuple(kept.values()), change.rate, step=moment.step, weight_decay=self._weight_decay
        )
        for tensor, new in zip(kept.values(), squares, strict=True):
            tensor.copy_(torch.where(moment.is_stopped, tensor, new))
        new = torch.where(moment.is_stopped, before, weight).reshape(-1)
        if parameter.dtype == torch.bfloat16:
            key_2 = torch.tensor(change.key, dtype=torch.int32).to(parameter.device, non_blocking=True)
            new = round_to_bfloat16(new, key_2)
        parameter.data.view(-1).copy_(new)
        parameter.grad = None

    def finish(self) -> None:
        """Does nothing: no parameter waits."""

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


def _rounded(weight_N: Tensor, batch: Sequence[Piece[Change]]) -> Tensor:
    """Rounded to bfloat16, each number as at its place in its own tensor."""
    device, counts = weight_N.device, [piece.count for piece in batch]
    # Rows of one tensor each: the whole piece, if there is only one; otherwise as long as the lengths of all allow.
    width = counts[0] if len(counts) == 1 else math.gcd(CUT, *counts)
    table, done = [], 0
    for piece, count in zip(batch, counts, strict=True):
        table.append((*piece.item.key, piece.start - done, count // width))
        done += count
    table_S4 = torch.tensor(table, dtype=torch.int32).to(device, non_blocking=True)
    table_M3 = table_S4[:, :3].repeat_interleave(table_S4[:, 3], dim=0, output_size=done // width)
    start_M = torch.arange(0, done, width, dtype=torch.int32, device=device).add_(table_M3[:, 2])
    return round_rows_to_bfloat16(weight_N.view(-1, width), start_M, table_M3[:, :2]).view(-1)
