"""The request of an evaluation: a model, and values that override those recorded in its run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dreambooth.measures.settings import EvaluationSettings

__all__ = ["EvaluationRequest"]


@dataclass(frozen=True)
class EvaluationRequest:
    """Each value that is None is taken from the run that made the model."""

    model: str
    """A run folder, a model file, a diffusers folder or a hub id."""
    photos: Path | None = None
    class_word: str | None = None
    token: str | None = None
    base: str | None = None
    """The model to compare with."""
    loras: tuple[str, ...] = ()
    """LoRA files that are applied to the model, which without a run is then also the model to compare with."""
    output: Path | None = None
    """Folder of scores, report and images."""
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    """Evaluated images and encoders."""
