"""Trains whole parts: the denoiser, and optionally the text encoders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from dreambooth.trainees.modes import training_mode
from dreambooth.trainees.parts import Model, ModelFamily, Tensors, learning_parts, learning_rate_of
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainees.trainee import BaseModel, ParameterGroup, Product

__all__ = ["FullTrainee", "full_trainee"]

_TOKEN_TABLE = "token_embedding.weight"


class FullTrainee:
    """Parts whose parameters are all trained, except the `frozen` ones; `parameters` has a fixed order without duplicates."""

    dropout = None

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        learning_rates: Mapping[str, float],
        *,
        family: ModelFamily,
        frozen: Collection[nn.Parameter] = (),
    ) -> None:
        self.parts = dict(parts)
        self._family = family
        self._learned: dict[str, dict[str, Tensor]] | None = None
        for module in self.parts.values():
            module.requires_grad_(True)
        for parameter in frozen:
            parameter.requires_grad_(False)
        self.groups = tuple(
            ParameterGroup(name, _learning(name, module), learning_rates[name]) for name, module in self.parts.items()
        )
        self.parameters = {name: parameter for group in self.groups for name, parameter in group.parameters.items()}

    def train_mode(self) -> AbstractContextManager[None]:
        """Inside, the parts are in training mode; afterwards each has its previous mode."""
        return training_mode(self.parts.values())

    def attach(self) -> None:
        """Restore the learned weights that `detach` set aside."""
        assert self._learned is not None, "attached already"
        self._put(self._learned)
        self._learned = None

    def detach(self, base: BaseModel) -> None:
        """Set the learned weights aside, in a second copy of all of them, and load the base model's instead."""
        assert self._learned is None, "detached already"
        states = self._family.state_dicts(self.parts)
        self._learned = {
            part: {name: tensor.detach().clone() for name, tensor in tensors.items()} for part, tensors in states.items()
        }
        self._put(base.parts)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensors]) -> None:
        for part, tensors in self._family.state_dicts(self.parts).items():
            for name, tensor in tensors.items():
                tensor.copy_(values[part][name])

    def product(self, base: BaseModel, *, gather: Callable[[Tensors], Tensors]) -> Product:
        """The base model with the trained parts."""
        states = self._family.state_dicts(self.parts)
        return base.with_parts({name: gather(tensors) for name, tensors in states.items()})


def _learning(name: str, module: nn.Module) -> dict[str, nn.Parameter]:
    return {f"{name}.{key}": parameter for key, parameter in module.named_parameters() if parameter.requires_grad}


def full_trainee(model: Model, settings: TraineeSettings, *, learning_rate: float) -> FullTrainee:
    """The trainee that the settings describe; text encoders use their own learning rate if one is set."""
    denoiser = model.family.denoiser
    parts = {name: model.parts[name] for name in learning_parts(settings, model.family)}
    rates = {name: learning_rate_of(name, settings, model.family, learning_rate) for name in parts}
    frozen: list[nn.Parameter] = []
    for part, module in parts.items():
        ends = (
            *model.family.idle_parameters(part),
            *(() if part == denoiser or settings.train_token_table else (_TOKEN_TABLE,)),
        )
        frozen += [parameter for name, parameter in module.named_parameters() if name.endswith(ends)]
    return FullTrainee(parts, rates, family=model.family, frozen=frozen)
