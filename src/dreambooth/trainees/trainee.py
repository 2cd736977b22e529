"""The trainee protocol: which parameters are trained, at which learning rates, and what is written at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from dreambooth.diffusion.low_rank import Change
from dreambooth.trainees.dropout import RankDropout
from dreambooth.trainees.parts import Tensors
from dreambooth.trainees.settings import LoraForm

__all__ = ["BaseModel", "ParameterGroup", "Product", "Trainee"]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate, under unique names such as "unet.conv_in.weight"."""

    name: str
    parameters: dict[str, nn.Parameter]
    learning_rate: float


class Product(Protocol):
    """The result of training, in a form that can be written."""

    def write(self, path: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
        """Write it to one file, atomically, in `dtype`."""


class BaseModel(Protocol):
    """The model that training started from, as read."""

    @property
    def parts(self) -> Mapping[str, Tensors]:
        """The tensors of each part."""

    def with_parts(self, parts: Mapping[str, Tensors]) -> Product:
        """The same model with other tensors for some parts."""

    def with_changes(self, changes: Mapping[str, Mapping[str, Change]], form: LoraForm) -> Product:
        """Changes of its layers, by part and canonical name, without the model; to be written with the names of `form`."""

    def with_vectors(self, vectors: Tensors) -> Product:
        """The vectors (N, W) of a new word for each text encoder, without the model."""


class Trainee(Protocol):
    """The trained parameters. An optimizer updates `parameters` and needs nothing else of a model."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The parts of the model through which gradients flow, by name."""

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        """All trained parameters, each in exactly one group."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The parameters of all groups, in a fixed order."""

    @property
    def dropout(self) -> RankDropout | None:
        """Dropout of the ranks of a LoRA, which needs the examples of each batch; None without."""

    def train_mode(self) -> AbstractContextManager[None]:
        """Inside, the parts are in training mode; afterwards each has its previous mode."""

    def attach(self) -> None:
        """Apply the learned values again after `detach`. A new trainee is attached."""

    def detach(self, base: BaseModel) -> None:
        """Restore the parts to their values before training, bit for bit; `attach` restores the learned values.

        All weights must be readable (see `StreamedBlocks.host_values`) and whole.
        """

    def product(self, base: BaseModel, *, gather: Callable[[Tensors], Tensors]) -> Product:
        """The result to write. `gather` assembles sharded tensors; all processes call this."""
