"""How the embedded base model is trained. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dreambooth.config import Settings

__all__ = ["STAGES", "PretrainSettings", "StageName"]

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
