"""The settings of each verb, put together from the rooms' own records. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from dreambooth.config import Settings
from dreambooth.data.settings import PriorSettings, SubjectSettings, ViewSettings
from dreambooth.sampling.settings import SampleSettings
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.training.settings import LoopSettings, OptimizerSettings, OutputSettings
from dreambooth.weights.settings import BaseModelSettings

__all__ = ["GenerateSettings", "PriorRecipeSettings", "TrainSettings"]


class TrainSettings(Settings):
    """Teach a base model one subject from a folder of photos."""

    base: BaseModelSettings
    """The base model."""

    subject: SubjectSettings
    """The subject to learn."""

    views: ViewSettings = ViewSettings()
    """How photos become training pictures."""

    prior: PriorSettings = PriorSettings()
    """The class images that hold the prior in place."""

    trainee: TraineeSettings = TraineeSettings()
    """Which parts are trained."""

    optimizer: OptimizerSettings = OptimizerSettings()
    """AdamW and its learning rate."""

    loop: LoopSettings = LoopSettings()
    """How long and how training runs."""

    output: OutputSettings = OutputSettings()
    """The run folder and what is written into it."""

    @model_validator(mode="after")
    def _schedule_fits_steps(self) -> TrainSettings:
        if self.optimizer.warmup_steps >= self.loop.steps and self.optimizer.warmup_steps > 0:
            raise ValueError(
                f"warmup_steps is {self.optimizer.warmup_steps} and steps is {self.loop.steps}: the warm-up must end before the run; "
                "lower warmup_steps or raise steps"
            )
        return self


class PriorRecipeSettings(Settings):
    """Make a set of class images without training."""

    base: BaseModelSettings
    """The base model that makes them."""

    class_word: Annotated[str, Field(min_length=1)]
    """What kind of thing the images show: container, dog, man."""

    prior: PriorSettings = PriorSettings(prior_folder=Path("class-images"))
    """How the images are made and where they go."""

    resolution: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    """Side of the images in pixels; the model's own size when not given."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 23
    """Number from which the images follow."""

    device: str | None = None
    """Where to work: cpu, cuda, cuda:1, mps. The first GPU, else the CPU, when not given."""


class GenerateSettings(Settings):
    """Make pictures with a base model or with what training wrote."""

    base: BaseModelSettings
    """The model."""

    sample: SampleSettings = SampleSettings()
    """The pictures to make."""
