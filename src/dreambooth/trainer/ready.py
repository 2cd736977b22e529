"""A run whose every input was checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dreambooth.data.records import CaptionedPhoto
from dreambooth.data.size import Size
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.memory.plan import MemoryPlan
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.precision import PrecisionPolicy
from dreambooth.runtime.processes import Processes
from dreambooth.schema.verbs import TrainSettings
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["Ready"]


@dataclass(frozen=True)
class Ready:
    """A run whose every input was looked at and found good."""

    settings: TrainSettings
    """With the choices filled in that depend on the machine and the model."""
    run: RunFolder
    device: torch.device
    processes: Processes
    plan: MemoryPlan
    predicted: str | None
    """What the run is predicted to need of what is free; None where it was not estimated."""
    policy: PrecisionPolicy
    base: ModelWeights
    photos: tuple[CaptionedPhoto, ...]
    given_priors: tuple[CaptionedPhoto, ...]
    """Class images of the folders that the person named; those that the base model makes come on top."""
    size: Size
    """That of the training pictures."""
    encoders: Encoders | None = None
    """What scores the model while it trains; only in the main process, and when that is asked for."""
