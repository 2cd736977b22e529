"""Settings of class images that are generated without training. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dreambooth.config import Settings
from dreambooth.data.settings import PriorSettings, Word
from dreambooth.weights.settings import TrainedFromSettings

__all__ = ["PriorRecipeSettings"]


class PriorRecipeSettings(Settings):
    """Generate a set of class images without training."""

    base: TrainedFromSettings
    """Base model to generate them with."""

    class_word: Annotated[Word, Field(min_length=1)]
    """What kind of thing the images show: dog, man, container."""

    prior: PriorSettings = Field(default_factory=lambda: PriorSettings(prior_folder=Path("class-images")))
    """How to generate the images and where to write them."""

    resolution: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    """Width and height of the images in pixels; default: the model's native size."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 23
    """Random seed."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps; default: the first GPU, or the CPU if there is none."""
