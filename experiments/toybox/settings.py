"""Settings for training and testing the bundled model. Does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dreambooth.config import Settings
from dreambooth.weights.settings import BaseModelSettings

__all__ = ["STAGES", "CountSettings", "PretrainSettings", "StageName", "SubjectsSettings"]

StageName = Literal["pictures", "autoencoder", "clip", "unet", "judge", "eye", "model"]
STAGES: tuple[StageName, ...] = ("pictures", "autoencoder", "clip", "unet", "judge", "eye", "model")


class PretrainSettings(Settings):
    """Train the bundled model, its judge and its eye from scratch on rendered images."""

    output: Path = Path("runs/toybox")
    """Folder for images, states for resuming, and the finished weights; run the same command again to resume."""

    stages: tuple[StageName, ...] = STAGES
    """Stages to run, always in this order; each needs the ones before it."""

    num_pictures: Annotated[int, Field(ge=100)] = 56_000
    """Number of rendered training images."""

    num_subject_pictures: Annotated[int, Field(ge=100)] = 12_000
    """Number of rendered images of subjects, additional training data of the judge."""

    num_lookalike_pictures: Annotated[int, Field(ge=32)] = 24_000
    """Number of rendered training images of the eye: groups of 16, four images each of four objects."""

    autoencoder_steps: Annotated[int, Field(ge=1)] = 4500
    """Training steps of the autoencoder, with 8 images each."""

    clip_steps: Annotated[int, Field(ge=1)] = 1300
    """Training steps of CLIP, with 192 captioned images each."""

    unet_steps: Annotated[int, Field(ge=1)] = 9000
    """Training steps of the UNet, with 32 captioned latents each."""

    judge_steps: Annotated[int, Field(ge=1)] = 4000
    """Training steps of the judge, with 96 images each."""

    eye_steps: Annotated[int, Field(ge=1)] = 2600
    """Training steps of the eye, with two images each of 96 objects."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 20221
    """Random seed."""

    processes: Annotated[int, Field(ge=1)] = 2
    """Number of rendering processes."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads for training on the CPU. Default: the number of cores."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1. Default: the first GPU, otherwise the CPU."""


class CountSettings(Settings):
    """Count with the judge how many of a model's images match their prompts."""

    base: BaseModelSettings = Field(default_factory=lambda: BaseModelSettings(model="toybox"))
    """The model that makes the images."""

    num_images: Annotated[int, Field(ge=1)] = 4
    """Images per prompt; there are 40 prompts, which name class, color and place."""

    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps per image."""

    guidance_scale: Annotated[float, Field(ge=0)] = 5.0
    """Guidance scale."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Random seed of the images."""

    judge: Path | None = None
    """Weights of the judge. Default: the bundled judge."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps. Default: the first GPU, otherwise the CPU."""

    output: Path = Path("runs/count")
    """Folder for the contact sheets and the results."""


class SubjectsSettings(Settings):
    """Train the bundled model on ten subjects with and without class images; the judge measures the results."""

    subjects: tuple[str, ...] = ()
    """Names of fixed subjects. Default: all ten."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Training steps per subject. Default: that of the preset toybox."""

    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate. Default: that of the preset toybox."""

    prior_weights: tuple[Annotated[float, Field(ge=0)], ...] = (1.0, 0.0)
    """Weights of the class images' loss that are compared."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps. Default: the first GPU, otherwise the CPU."""

    output: Path = Path("runs/subjects")
    """Folder for the runs, contact sheets and results; finished subjects in it are skipped."""
