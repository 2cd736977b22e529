"""How the embedded base model is trained. Loads no torch."""

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
    """Train the embedded base model, its judge and its eye from nothing, on rendered pictures."""

    output: Path = Path("runs/toybox")
    """Folder for pictures, states to go on from, and the finished weights; the same command goes on after a stop."""

    stages: tuple[StageName, ...] = STAGES
    """Which parts of the work to do, always in this order; each needs the ones before it."""

    num_pictures: Annotated[int, Field(ge=100)] = 56_000
    """Rendered pictures to learn from."""

    num_subject_pictures: Annotated[int, Field(ge=100)] = 12_000
    """Rendered pictures of subjects that the judge learns from as well."""

    num_lookalike_pictures: Annotated[int, Field(ge=32)] = 24_000
    """Rendered pictures that the eye learns from: groups of 16, four objects seen four times each."""

    autoencoder_steps: Annotated[int, Field(ge=1)] = 4500
    """Updates of the autoencoder, 8 pictures each."""

    clip_steps: Annotated[int, Field(ge=1)] = 1300
    """Updates of CLIP, 192 pictures with captions each."""

    unet_steps: Annotated[int, Field(ge=1)] = 9000
    """Updates of the UNet, 32 latents with captions each."""

    judge_steps: Annotated[int, Field(ge=1)] = 4000
    """Updates of the judge, 96 pictures each."""

    eye_steps: Annotated[int, Field(ge=1)] = 2600
    """Updates of the eye, two pictures of 96 objects each."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 20221
    """Number from which all randomness follows."""

    processes: Annotated[int, Field(ge=1)] = 2
    """Processes that render."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of training on the CPU; as many as there are cores when not given."""

    device: str | None = None
    """Where to train: cpu, cuda, cuda:1. The first GPU, else the CPU, when not given."""


class CountSettings(Settings):
    """Let the judge count in how many pictures a model shows what its prompts ask for."""

    base: BaseModelSettings = Field(default_factory=lambda: BaseModelSettings(model="toybox"))
    """The model that makes the pictures."""

    num_images: Annotated[int, Field(ge=1)] = 4
    """Pictures for each of the 40 prompts of class, colour and place."""

    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps for a picture."""

    guidance_scale: Annotated[float, Field(ge=0)] = 5.0
    """How strongly the prompt pulls."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Number from which the pictures follow."""

    judge: Path | None = None
    """Weights of the judge; those that ship when not given."""

    device: str | None = None
    """Where to work: cpu, cuda, cuda:1, mps. The first GPU, else the CPU, when not given."""

    output: Path = Path("runs/count")
    """Folder for the sheet of pictures and the numbers."""


class SubjectsSettings(Settings):
    """Teach the model ten subjects, with class images and without, and let the judge count the outcome."""

    subjects: tuple[str, ...] = ()
    """Which of the fixed subjects; all ten when none is named."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Optimiser updates for each; as many as the preset toybox says when not given."""

    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate; that of the preset toybox when not given."""

    prior_weights: tuple[Annotated[float, Field(ge=0)], ...] = (1.0, 0.0)
    """Weights of the class images' loss to compare."""

    device: str | None = None
    """Where to work: cpu, cuda, cuda:1, mps. The first GPU, else the CPU, when not given."""

    output: Path = Path("runs/subjects")
    """Folder for the runs, the sheets and the numbers; a subject that is done there is not done again."""
