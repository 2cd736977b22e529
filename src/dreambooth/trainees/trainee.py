"""What learns: some parameters of a model or beside it, at their learning rates, and what is kept of them at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from dreambooth.trainees.parts import Tensors

__all__ = ["BaseModel", "ParameterGroup", "Product", "Trainee"]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate, under unique names such as "unet.conv_in.weight"."""

    name: str
    parameters: dict[str, nn.Parameter]
    learning_rate: float


class Product(Protocol):
    """What training leaves, in a form of its own."""

    def write(self, path: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
        """Write it to one file, atomically, in `dtype`."""


class BaseModel(Protocol):
    """The model that training started from, as it was read."""

    @property
    def parts(self) -> Mapping[str, Tensors]:
        """The tensors of each part."""

    def with_parts(self, parts: Mapping[str, Tensors]) -> Product:
        """The same model with other tensors for some parts."""


class Trainee(Protocol):
    """What learns. An optimizer moves `parameters` and asks nothing else of a model."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The parts of the model through which gradients flow, by name."""

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        """Every parameter that moves, in one group each."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The parameters of all groups, in a fixed order."""

    def train_mode(self) -> AbstractContextManager[None]:
        """Inside, the parts are in training mode; afterwards each is as it was found."""

    def attach(self) -> None:
        """Let what was learned take effect again after `detach`. A new trainee is attached."""

    def detach(self, base: BaseModel) -> None:
        """Put the parts back to what they were before training, bit for bit; what was learned is kept for `attach`.

        All weights must be readable, see `StreamedBlocks.host_values`, and whole.
        """

    def product(self, base: BaseModel, *, gather: Callable[[Tensors], Tensors]) -> Product:
        """What is to be written. `gather` brings tensors that are spread over processes together; all processes call this."""
