"""Trains a LoRA (Hu et al., arXiv 2106.09685): two small matrices beside each of some layers; the model itself stays as it is.

The matrices are no part of the model's modules. Each layer has a hook that adds their product with the layer's input to its
output, so no name changes, nothing has to be put back, and a detached model is the base model bit for bit. A hook sees what the
layer sees, whether activations are recomputed, blocks are streamed or the module is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dreambooth.diffusion.low_rank import Change, LowRank, row_norms
from dreambooth.diffusion.randomness import normal
from dreambooth.trainees.dropout import RankDropout
from dreambooth.trainees.layer_changes import LayerChange, change_shapes, new_factors, weight_shape
from dreambooth.trainees.modes import training_mode
from dreambooth.trainees.parts import Model, Tensors, learning_parts, learning_rate_of, lora_layers_of
from dreambooth.trainees.settings import LoraForm, TraineeSettings
from dreambooth.trainees.trainee import BaseModel, ParameterGroup, Product

__all__ = ["LoraTrainee", "LowRankPair", "lora_trainee"]


@dataclass(frozen=True)
class LowRankPair:
    """The matrices of one layer."""

    down: nn.Parameter
    """(R, I), or (R, I, K, K) for a convolution."""
    up: nn.Parameter
    """(O, R), or (O, R, 1, 1); zero at the start."""
    alpha: float
    norms: nn.Parameter | None = None
    """With DoRA, the norm of each output's weights, (O,)."""

    @property
    def tensors(self) -> Mapping[str, nn.Parameter]:
        """The trained tensors by name."""
        pair = {"down": self.down, "up": self.up}
        return pair if self.norms is None else {**pair, "norms": self.norms}

    @property
    def change(self) -> Change:
        """The pair as a change of the layer's weight."""
        return Change(self.low_rank, self.norms)

    @property
    def low_rank(self) -> LowRank:
        """The pair as a difference of a weight."""
        return LowRank(self.down, self.up, self.alpha)

    def changed(self, layer: nn.Module, x: Tensor, output: Tensor, kept_BR: Tensor | None = None) -> Tensor:
        """The layer's output for the input x, with the pair, whose ranks are multiplied by the factors if there are any.

        With DoRA each output is scaled by its trained norm over the norm that its weights have with the pair, which counts as a
        constant in the backward pass (section 4.3 of the paper).
        """
        added = self._added(layer, x, kept_BR).to(output.dtype)
        if self.norms is None:
            return output + added
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        with torch.no_grad():
            now_O = row_norms(layer.weight.float() + self.low_rank.of_shape(layer.weight.shape)).flatten()
        factor = _by_output(self.norms / now_O, output)
        plain = output if layer.bias is None else output - _by_output(layer.bias, output)
        return output + (factor - 1) * plain + factor * added  # at the start the factor is one, and this is the output exactly

    def _added(self, layer: nn.Module, x: Tensor, kept_BR: Tensor | None) -> Tensor:
        """What the product adds to the layer's output for the input x."""
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        if isinstance(layer, nn.Conv2d):
            inner = functional.conv2d(x, down, None, layer.stride, layer.padding, layer.dilation)
            inner = inner if kept_BR is None else inner * kept_BR[:, :, None, None]
            return functional.conv2d(inner, up) * self.low_rank.scale
        inner = functional.linear(x, down)
        inner = inner if kept_BR is None else inner * kept_BR.view(len(kept_BR), *[1] * (inner.ndim - 2), -1)
        return functional.linear(inner, up) * self.low_rank.scale


class LoraTrainee:
    """Low-rank matrices beside layers of some parts; `parameters` has a fixed order."""

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        pairs: Mapping[str, Mapping[str, LayerChange]],
        learning_rates: Mapping[str, float],
        *,
        form: LoraForm,
        ratio: float = 1.0,
        dropout: RankDropout | None = None,
    ) -> None:
        """`pairs` are those of the named layers of each part; the second ones learn `ratio` times as fast."""
        self.dropout = dropout
        self.parts = dict(parts)
        self._pairs = pairs
        self._form = form
        self._is_attached = True
        for part, module in self.parts.items():
            module.requires_grad_(False)
            for name, layer in _layers(module, pairs[part]):
                layer.register_forward_hook(self._hook(pairs[part][name], f"{part}.{name}"))
        self.groups = tuple(group for part in self.parts for group in _groups(part, pairs[part], learning_rates[part], ratio))
        self.parameters = {name: parameter for group in self.groups for name, parameter in group.parameters.items()}

    def _hook(self, pair: LayerChange, name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            if not self._is_attached:
                return output
            return pair.changed(layer, inputs[0], output, None if self.dropout is None else self.dropout.of(name, inputs[0]))

        return add

    def train_mode(self) -> AbstractContextManager[None]:
        """Inside, the parts are in training mode; afterwards each has its previous mode."""
        return training_mode(self.parts.values())

    def attach(self) -> None:
        """Use the matrices again after `detach`."""
        assert not self._is_attached, "attached already"
        self._is_attached = True

    def detach(self, base: BaseModel) -> None:
        """Compute as the base model does, whose weights never changed."""
        assert self._is_attached, "detached already"
        self._is_attached = False

    def product(self, base: BaseModel, *, gather: Callable[[Tensors], Tensors]) -> Product:
        """The matrices alone."""
        changes = {part: {layer: pair.change for layer, pair in pairs.items()} for part, pairs in self._pairs.items()}
        return base.with_changes(changes, self._form)


def lora_trainee(
    model: Model, settings: TraineeSettings, *, learning_rate: float, dtype: torch.dtype, seed: int
) -> LoraTrainee:
    """The trainee that the settings describe; text encoders use their own learning rate if one is set.

    The matrices are in `dtype`, on the device of their layers. The first ones of each pair depend on `seed` and the layer's
    name alone.
    """
    family = model.family
    parts = {name: model.parts[name] for name in learning_parts(settings, family)}
    rates = {name: learning_rate_of(name, settings, family, learning_rate) for name in parts}
    pairs = {
        part: {
            name: _new_change(layer, settings, dtype=dtype, seed=seed, name=f"{part}.{name}")
            for name, layer in _layers(module, lora_layers_of(part, settings, family))
        }
        for part, module in parts.items()
    }
    dropout = None
    if settings.lora_dropout > 0:
        names = [f"{part}.{name}" for part, found in pairs.items() for name in found]
        dropout = RankDropout(names, rank=settings.rank, probability=settings.lora_dropout, seed=seed)
    return LoraTrainee(parts, pairs, rates, form=settings.lora_form, ratio=settings.lora_plus_ratio, dropout=dropout)


def _new_change(layer: nn.Module, settings: TraineeSettings, *, dtype: torch.dtype, seed: int, name: str) -> LayerChange:
    """A change of no effect; `down` has the variance that kohya's programs and PEFT give it, 1 / (3 inputs)."""
    shapes = change_shapes(settings, weight_shape(layer))
    device = next(layer.parameters()).device

    def make(tensor: str, deviation: float) -> nn.Parameter:
        if device.type == "meta":  # a size without numbers
            return nn.Parameter(torch.empty(shapes[tensor], dtype=dtype, device=device))
        if deviation == 0:
            return nn.Parameter(torch.zeros(shapes[tensor], dtype=dtype, device=device))
        key = ("lora", name) if tensor == "down" else ("lora", name, tensor)
        return nn.Parameter(normal(shapes[tensor], seed, *key).mul_(deviation).to(device, dtype))

    if settings.lora_kind != "lora":
        return new_factors(shapes, settings, make)
    weight = next(layer.parameters()).detach()
    norms = nn.Parameter(row_norms(weight.float()).flatten()) if settings.dora else None
    down = make("down", 1 / math.sqrt(3 * math.prod(shapes["down"][1:])))
    return LowRankPair(down, make("up", 0.0), settings.effective_alpha, norms)


def _layers(module: nn.Module, names: Mapping[str, object] | tuple[str, ...]) -> Iterator[tuple[str, nn.Module]]:
    """The layers with these canonical names, which lack the level that some versions of the library have above all others."""
    found = dict(module.named_modules())
    level = next(
        (f"{prefix}." for prefix in found if prefix and "." not in prefix and f"{prefix}.{next(iter(names))}" in found), ""
    )
    return ((name, found[name] if name in found else found[f"{level}{name}"]) for name in names)


def _by_output(numbers_O: Tensor, output: Tensor) -> Tensor:
    """One number for each output, to be multiplied with outputs (..., O), or (B, O, H, W) of a convolution."""
    shape = (-1, 1, 1) if output.ndim == 4 else (-1,)
    return numbers_O.to(output.dtype).view(shape)


def _groups(part: str, changes: Mapping[str, LayerChange], learning_rate: float, ratio: float) -> list[ParameterGroup]:
    """One group, or two if the second matrices have a learning rate of their own."""
    first, second = dict[str, nn.Parameter](), dict[str, nn.Parameter]()
    for layer, change in changes.items():
        for name, tensor in change.tensors.items():
            (second if name == "up" and ratio != 1 else first)[f"{part}.{layer}.{name}"] = tensor
    groups = [ParameterGroup(part, first, learning_rate)]
    return groups if ratio == 1 else [*groups, ParameterGroup(f"{part} second", second, ratio * learning_rate)]
