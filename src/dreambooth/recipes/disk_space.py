"""How much room a run needs on the disk, checked before it starts."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from dreambooth.errors import RunError
from dreambooth.training.settings import LoopSettings, OutputSettings

__all__ = ["check_disk_space", "run_bytes"]

_FLOAT32 = 4
_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_MARGIN = 256 * 2**20  # previews, events, cached latents


def run_bytes(loop: LoopSettings, output: OutputSettings, *, num_trained: int, num_parameters: int) -> int:
    """Bytes that a run has on the disk at its fullest.

    A checkpoint holds every trained parameter, its two moments, and its average when one is kept, all in float32. While a
    new checkpoint is written the ones it replaces still stand.
    """
    num_checkpoints = math.ceil(loop.steps / output.checkpoint_steps)
    num_kept = num_checkpoints if output.keep_checkpoints is None else min(num_checkpoints, output.keep_checkpoints + 1)
    copies = 3 if loop.ema_decay is None else 4
    models = num_checkpoints * num_parameters * _DTYPE_BYTES[output.model_dtype]
    return num_kept * copies * num_trained * _FLOAT32 + models + _MARGIN


def check_disk_space(folder: Path, needed: int) -> None:
    """Raise RunError when the disk that holds `folder` has less than `needed` bytes free."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise RunError(
            f"{folder}: the run needs {needed / 1e9:.1f} GB on this disk at its fullest, and {free / 1e9:.1f} GB are free",
            hint="Use --keep-checkpoints 1, a larger --checkpoint-steps, or an --output on another disk.",
        )
