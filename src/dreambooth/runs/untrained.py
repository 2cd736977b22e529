"""Runs that were stopped before their first step, whose folders can be used again."""

from __future__ import annotations

import shutil
from pathlib import Path

from dreambooth.files import is_leftover
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.lock import LOCK_NAME

__all__ = ["clear_untrained", "is_untrained"]


def is_untrained(run: RunFolder) -> bool:
    """Whether the folder holds a run of which nothing was trained, and no file that the run did not write.

    Class images and latents are stored outside the folder, so nothing is lost when it is cleared.
    """
    if not (run.config.is_file() and run.status.is_file()):  # a config.yaml alone may be a person's own
        return False
    own = {LOCK_NAME, *(path.name for path in _written_before_the_first_step(run))}
    if any(entry.name not in own and not is_leftover(entry) for entry in run.path.iterdir()):
        return False
    if run.checkpoints.is_dir() and any(not is_leftover(entry) for entry in run.checkpoints.iterdir()):
        return False
    return not any(event.get("event") == "step" for event in read_events(run.events))


def clear_untrained(run: RunFolder) -> None:
    """Remove what such a run wrote, except its lock."""
    for path in _written_before_the_first_step(run):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _written_before_the_first_step(run: RunFolder) -> tuple[Path, ...]:
    return (run.config, run.events, run.status, run.previews, run.scores, run.tensorboard, run.wandb, run.checkpoints)
