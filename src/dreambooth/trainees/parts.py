"""Which parts of a model are trained, and what a trainee must know about their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from dreambooth.trainees.settings import TraineeSettings

__all__ = ["Model", "ModelFamily", "PartNames", "Tensors", "trained_parts"]

Tensors = Mapping[str, Tensor]
"""Tensors of one part by canonical name."""


class PartNames(Protocol):
    """The names that a family gives its parts."""

    @property
    def denoiser(self) -> str:
        """Name of the part that predicts."""

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the parts that read captions."""


class ModelFamily(PartNames, Protocol):
    """What a trainee must know about a family."""

    def state_dicts(self, parts: Mapping[str, nn.Module]) -> Mapping[str, Tensors]:
        """The tensors of modules under their canonical names; they share memory."""


class Model(Protocol):
    """What a trainee must know about a built model."""

    @property
    def family(self) -> ModelFamily:
        """The model's family."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The model's modules by name."""


def trained_parts(settings: TraineeSettings, family: PartNames) -> tuple[str, ...]:
    """Names of the trained parts: the denoiser, and the text encoders if enabled."""
    return (family.denoiser, *(family.text_encoders if settings.train_text_encoder else ()))
