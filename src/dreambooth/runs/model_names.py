"""What the models of a run are called: in this program's own manner, or where guides to the original programs look.

The originals count epochs beside steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from dreambooth.training.settings import FileLayout

__all__ = [
    "FINAL_MODELS",
    "MODELS_BY_STEP",
    "JoePennaNames",
    "ModelNames",
    "OwnNames",
    "XavierXiaoNames",
    "epoch_of",
    "model_names",
]

FINAL_MODELS = ("model.safetensors", "checkpoints/last.ckpt", "ckpts/last.ckpt")
"""Where a run of each layout has its final model; `weights.read` looks in these places."""

MODELS_BY_STEP = ("models/*.safetensors", "checkpoints/*.ckpt", "ckpts/trainstep_ckpts/*.ckpt")
"""Where a run of each layout has the models of single steps; the second one's has the final model there as well."""


class ModelNames(Protocol):
    """Paths of models within a run's folder."""

    @property
    def steps_per_epoch(self) -> int:
        """Length of an epoch."""

    @property
    def final(self) -> str:
        """That of the last step."""

    @property
    def final_is_newest(self) -> bool:
        """Whether `final` leads to the newest model while a run goes on, too."""

    def at(self, step: int) -> str:
        """That of an earlier step, at which models are written."""


def epoch_of(step: int, steps_per_epoch: int) -> tuple[int, int]:
    """The epoch that a step belongs to and its place there, both counted from 0."""
    return divmod(step - 1, steps_per_epoch)


@dataclass(frozen=True)
class OwnNames:
    """model.safetensors, and models/step-000500.safetensors before it."""

    steps_per_epoch: int = 1
    final = FINAL_MODELS[0]
    final_is_newest = False

    def at(self, step: int) -> str:
        """By the step alone."""
        return f"models/step-{step:06d}.safetensors"


@dataclass(frozen=True)
class XavierXiaoNames:
    """checkpoints/last.ckpt, and checkpoints/epoch=000004.ckpt before it.

    Where several models fall into one epoch, all but the first end in -v1, -v2 and so on, as the library behind the
    original (PyTorch Lightning) called a file whose name was taken.
    """

    steps_per_epoch: int
    model_steps: int
    final = FINAL_MODELS[1]
    final_is_newest = True

    def at(self, step: int) -> str:
        """By the epoch, and by how many earlier models fall into it."""
        epoch, before = epoch_of(step, self.steps_per_epoch)
        version = before // self.model_steps
        return f"checkpoints/epoch={epoch:06d}{f'-v{version}' if version else ''}.ckpt"


@dataclass(frozen=True)
class JoePennaNames:
    """ckpts/last.ckpt, and ckpts/trainstep_ckpts/epoch=0-step=250.ckpt before it."""

    steps_per_epoch: int
    final = FINAL_MODELS[2]
    final_is_newest = True

    def at(self, step: int) -> str:
        """By epoch and step."""
        return f"ckpts/trainstep_ckpts/epoch={epoch_of(step, self.steps_per_epoch)[0]}-step={step}.ckpt"


def model_names(layout: FileLayout, *, num_entries: int, examples_per_step: int, model_steps: int) -> ModelNames:
    """The names of a layout, for epochs of `num_entries` photos, each with a class image.

    A step sees `examples_per_step` of them, and every `model_steps` steps a model is written.
    """
    steps_per_epoch = math.ceil(num_entries / examples_per_step)
    if layout == "xavierxiao":
        return XavierXiaoNames(steps_per_epoch, model_steps)
    return JoePennaNames(steps_per_epoch) if layout == "joepenna" else OwnNames(steps_per_epoch)
