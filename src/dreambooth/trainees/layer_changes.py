"""What is trained beside one layer: two matrices (LoRA), or the factors of an elementwise (LoHa) or Kronecker product (LoKr).

LoHa (Hyeon-Woo et al., arXiv 2108.06098) and LoKr (Yeh et al., arXiv 2309.14859) are named, laid out and started as LyCORIS
does, whose files other programs read. Both begin without any effect. Shapes: O outputs, I inputs, R the rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from dreambooth.diffusion.low_rank import Change, Hadamard, Kronecker
from dreambooth.trainees.settings import LoraKind, TraineeSettings

__all__ = ["FactoredWeight", "LayerChange", "Shapes", "change_shapes", "new_factors", "weight_shape"]

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each trained tensor of a layer."""

_FIRST_SPREAD, _SECOND_SPREAD = 0.1, 1.0  # standard deviations of LoHa's left and right matrices in LyCORIS


class LayerChange(Protocol):
    """What is trained beside a layer."""

    @property
    def tensors(self) -> Mapping[str, nn.Parameter]:
        """The trained tensors by name, in a fixed order."""

    @property
    def change(self) -> Change:
        """The change of the layer's weight."""

    def changed(self, layer: nn.Module, x: Tensor, output: Tensor, kept_BR: Tensor | None = None) -> Tensor:
        """The layer's output for the input x, with the change; `kept_BR` are factors of its ranks for each example."""


@dataclass(frozen=True)
class FactoredWeight:
    """Factors of a difference, which is built in every pass and applied as the layer applies its weight."""

    tensors: Mapping[str, nn.Parameter]
    kind: LoraKind
    alpha: float

    @property
    def change(self) -> Change:
        """The factors as a change of the layer's weight."""
        return Change(self._difference)

    @property
    def _difference(self) -> Hadamard | Kronecker:
        found = self.tensors
        if self.kind == "loha":
            return Hadamard((found["w1_a"], found["w1_b"]), (found["w2_a"], found["w2_b"]), self.alpha)
        second = found["w2"] if "w2" in found else (found["w2_a"], found["w2_b"])
        return Kronecker(found["w1"], second, self.alpha)

    def changed(self, layer: nn.Module, x: Tensor, output: Tensor, kept_BR: Tensor | None = None) -> Tensor:
        """The layer's output for the input x, with the difference's."""
        assert kept_BR is None, "one difference serves all examples"
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        difference = self._difference.of_shape(torch.Size(weight_shape(layer))).to(x.dtype)
        if isinstance(layer, nn.Conv2d):
            added = functional.conv2d(x, difference, None, layer.stride, layer.padding, layer.dilation)
        else:
            added = functional.linear(x, difference)
        return output + added.to(output.dtype)


def weight_shape(layer: nn.Module) -> tuple[int, ...]:
    """The shape of a layer's weight, wherever the weight itself is."""
    if isinstance(layer, nn.Conv2d):
        return (layer.out_channels, layer.in_channels, *layer.kernel_size)
    assert isinstance(layer, nn.Linear), f"a {type(layer).__name__} has no change"
    return (layer.out_features, layer.in_features)


def change_shapes(settings: TraineeSettings, weight: tuple[int, ...]) -> Shapes:
    """The shapes of everything that is trained beside a layer with a weight of this shape."""
    rank, num_outputs, num_inputs = settings.rank, weight[0], math.prod(weight[1:])
    match settings.lora_kind:
        case "loha":
            left, right = (num_outputs, rank), (rank, num_inputs)
            return {"w1_a": left, "w1_b": right, "w2_a": left, "w2_b": right}
        case "lokr":
            rows, columns = _two_factors(num_outputs), _two_factors(weight[1])
            second = (rows[1], columns[1], *weight[2:])
            if rank >= min(second[0], math.prod(second[1:])):  # its factors would be larger than itself
                return {"w1": (rows[0], columns[0]), "w2": second}
            factors = {"w2_a": (second[0], rank), "w2_b": (rank, math.prod(second[1:]))}
            return {"w1": (rows[0], columns[0]), **factors}
        case "lora":
            is_convolution = len(weight) > 2
            shapes: dict[str, tuple[int, ...]] = {
                "down": (rank, *weight[1:]),
                "up": (num_outputs, rank, 1, 1) if is_convolution else (num_outputs, rank),
            }
            return {**shapes, "norms": (num_outputs,)} if settings.dora else shapes


def new_factors(shapes: Shapes, settings: TraineeSettings, make: Callable[[str, float], nn.Parameter]) -> FactoredWeight:
    """Factors without any effect at the start; `make` gives a tensor of `shapes` with this standard deviation."""
    if settings.lora_kind == "loha":
        spreads = {"w1_a": _FIRST_SPREAD, "w1_b": _SECOND_SPREAD, "w2_a": 0.0, "w2_b": _SECOND_SPREAD}
    else:
        last = "w2" if "w2" in shapes else "w2_b"
        spreads = {name: 0.0 if name == last else 1 / math.sqrt(3 * shape[1]) for name, shape in shapes.items()}
    tensors = {name: make(name, spreads[name]) for name in shapes}
    return FactoredWeight(tensors, settings.lora_kind, settings.effective_alpha)


def _two_factors(size: int) -> tuple[int, int]:
    """The two factors of a number that are closest to each other, the smaller one first."""
    smaller = next(factor for factor in range(math.isqrt(size), 0, -1) if size % factor == 0)
    return smaller, size // smaller
