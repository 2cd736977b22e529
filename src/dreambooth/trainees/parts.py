"""Which parts of a model are trained, and what a trainee must know about their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from dreambooth.trainees.settings import TextEncoders, TraineeSettings

__all__ = ["Model", "ModelFamily", "PartNames", "Tensors", "trained_parts", "trainee_problems"]

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

    def idle_parameters(self, part: str) -> tuple[str, ...]:
        """Canonical names of the parameters of a part that no prediction depends on."""

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


_CHOSEN: Mapping[TextEncoders, slice] = {"all": slice(None), "first": slice(1), "second": slice(1, 2)}


def trained_parts(settings: TraineeSettings, family: PartNames) -> tuple[str, ...]:
    """Names of the trained parts: the denoiser, and the text encoders that are enabled."""
    return (family.denoiser, *(family.text_encoders[_CHOSEN[settings.text_encoders]] if settings.train_text_encoder else ()))


def trainee_problems(settings: TraineeSettings, family: PartNames) -> list[str]:
    """A sentence for each setting that has no effect because the model has a single text encoder."""
    changed = settings.is_changed("text_encoders", "text_encoder_2_learning_rate")
    if not changed or len(family.text_encoders) > 1:
        return []
    return [f"{', '.join(changed)}: no effect, because the model has a single text encoder; remove"]
