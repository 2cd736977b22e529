"""Disk space that a run needs, checked before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from dreambooth.errors import RunError
from dreambooth.files import free_disk_bytes
from dreambooth.memory.plan import MemoryPlan
from dreambooth.trainer.due import Intervals
from dreambooth.training.settings import StorageDtype

__all__ = ["Stored", "check_disk_space", "run_bytes"]

_FLOAT32 = 4
_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_MOMENT_BYTES = {"float32": 4.0, "8bit": 1 + 4 / 256, "4bit": 0.5 + 4 / 128}  # of one number, with its share of a scale
_MARGIN = 256 * 2**20  # previews, events, cached latents


@dataclass(frozen=True)
class Stored:
    """What a run stores on disk."""

    num_trained: int
    """Number of trained parameters; a checkpoint holds only these."""
    num_parameters: int
    """Of a written model, or of a written LoRA."""
    model_dtype: StorageDtype
    keep_checkpoints: int | None
    """None keeps all of them."""
    keeps_average: bool
    has_states: bool
    """Whether the optimizer keeps two moments for each parameter."""


def run_bytes(stored: Stored, intervals: Intervals, plan: MemoryPlan) -> int:
    """The peak disk usage of a run in bytes.

    A checkpoint holds every trained parameter, the optimizer states in the plan's precision, and the EMA weights in float32
    if they are kept. While a new checkpoint is written, the ones it replaces still exist.
    """
    steps = intervals.num_steps
    num_checkpoints = math.ceil(steps / intervals.checkpoints)
    num_kept = num_checkpoints if stored.keep_checkpoints is None else min(num_checkpoints, stored.keep_checkpoints + 1)
    moments = 2 * _MOMENT_BYTES[plan.optimizer_states] if stored.has_states else 0.0
    checkpoint = stored.num_trained * (plan.weight_bytes + moments + (_FLOAT32 if stored.keeps_average else 0))
    num_models = intervals.num_models
    models = num_models * stored.num_parameters * _DTYPE_BYTES[stored.model_dtype]
    return int(num_kept * checkpoint) + models + _MARGIN


def check_disk_space(folder: Path, needed: int) -> None:
    """Raise RunError when the disk of `folder` has less than `needed` bytes free."""
    free = free_disk_bytes(folder)
    if free < needed:
        raise RunError(
            f"{folder}: the run needs up to {needed / 1e9:.1f} GB on this disk, but only {free / 1e9:.1f} GB are free",
            hint="Use --keep-checkpoints 1, a larger --checkpoint-steps, or an --output on another disk.",
        )
