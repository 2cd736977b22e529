"""How much room a run needs on the disk, checked before it starts."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from dreambooth.errors import RunError
from dreambooth.memory.plan import MemoryPlan
from dreambooth.schema.verbs import TrainSettings

__all__ = ["check_disk_space", "run_bytes"]

_FLOAT32 = 4
_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_MEAN_BYTES = {"float32": 4.0, "8bit": 1 + 4 / 256, "4bit": 0.5 + 4 / 128}  # of one number, with its share of a scale
_MARGIN = 256 * 2**20  # previews, events, cached latents


def run_bytes(settings: TrainSettings, plan: MemoryPlan, *, num_trained: int, num_parameters: int) -> int:
    """Bytes that a run has on the disk at its fullest.

    A checkpoint holds every trained parameter and the optimiser's means as the plan keeps them, and the average in float32
    when one is kept. While a new checkpoint is written the ones it replaces still stand.
    """
    loop, output = settings.loop, settings.output
    num_checkpoints = math.ceil(loop.steps / output.checkpoint_steps)
    num_kept = num_checkpoints if output.keep_checkpoints is None else min(num_checkpoints, output.keep_checkpoints + 1)
    means = 0.0 if settings.optimizer.optimizer == "adafactor" else 2 * _MEAN_BYTES[plan.optimizer_states]
    checkpoint = num_trained * (plan.weight_bytes + means + (0 if loop.ema_decay is None else _FLOAT32))
    intervals = (output.steps_between_models or loop.steps, settings.selection.evaluate_every or loop.steps)
    models_at = {loop.steps}.union(*(range(interval, loop.steps, interval) for interval in intervals))
    models = len(models_at) * num_parameters * _DTYPE_BYTES[output.model_dtype]
    return int(num_kept * checkpoint) + models + _MARGIN


def check_disk_space(folder: Path, needed: int) -> None:
    """Raise RunError when the disk that holds `folder` has less than `needed` bytes free."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise RunError(
            f"{folder}: the run needs {needed / 1e9:.1f} GB on this disk at its fullest, and {free / 1e9:.1f} GB are free",
            hint="Use --keep-checkpoints 1, a larger --checkpoint-steps, or an --output on another disk.",
        )
