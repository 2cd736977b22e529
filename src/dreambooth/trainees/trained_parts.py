"""Which parts of a model learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import nn

from dreambooth.trainees.settings import TraineeSettings

__all__ = ["Model", "PartNames", "trained_parts"]


class PartNames(Protocol):
    """What a trainee must know of a family."""

    @property
    def denoiser(self) -> str:
        """Name of the part that predicts."""

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the parts that read captions."""


class Model(Protocol):
    """What a trainee must know of a built model."""

    @property
    def family(self) -> PartNames:
        """Its family."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """Its modules by name."""


def trained_parts(settings: TraineeSettings, family: PartNames) -> tuple[str, ...]:
    """Names of the parts that learn: the denoiser, and the text encoders with it when asked."""
    return (family.denoiser, *(family.text_encoders if settings.train_text_encoder else ()))
