"""Checkpoints: everything needed to go on bit for bit, in a folder that is complete or not there.

    step-000500/
      weights.safetensors     trained parameters in the number format in which they are trained
      optimizer.safetensors   the optimiser's means of every parameter, as the memory plan keeps them
      average.safetensors     the running average of the weights, when one is kept
      state.json              step, loss scale, versions, and what the run was made of

Randomness and the order of examples are functions of the step and need no state.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dreambooth import __version__
from dreambooth.errors import RunError
from dreambooth.files import atomic_directory, write_json
from dreambooth.runtime.tensor_files import write_tensors
from dreambooth.training.loop import TrainingState
from dreambooth.training.run_folder import RunFolder

__all__ = ["Checkpoint", "find_checkpoints", "remove_old_checkpoints", "restore_checkpoint", "save_checkpoint"]

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on the disk."""

    path: Path
    step: int
    is_scheduled: bool
    """False for one that was only written because the run was stopped there."""
    made_of: dict[str, str]
    """What the run was made of: name to digest, for example the base model's and every photo's."""
    loss_scale: dict[str, float]


def save_checkpoint(
    run: RunFolder,
    state: TrainingState,
    parameters: Mapping[str, nn.Parameter],
    *,
    made_of: Mapping[str, str],
    is_scheduled: bool,
) -> Path:
    """Write the state beside its place, flush it, rename it; a checkpoint that already stands for this step is kept."""
    path = run.checkpoint_at(state.step)
    if path.exists():
        return path
    average = state.average.state()
    with atomic_directory(path) as partial:
        write_tensors(partial / "weights.safetensors", dict(parameters))
        write_tensors(partial / "optimizer.safetensors", state.optimizer.state())
        if average:
            write_tensors(partial / "average.safetensors", average)
        write_json(
            partial / "state.json",
            {
                "format": _FORMAT,
                "step": state.step,
                "is_scheduled": is_scheduled,
                "loss_scale": state.loss_scale.state(),
                "versions": {"dreambooth": __version__, "torch": torch.__version__},
                "made_of": dict(made_of),
            },
        )
    return path


def find_checkpoints(run: RunFolder) -> list[Checkpoint]:
    """The run's complete checkpoints, oldest first. Any process may look, while another one is writing."""
    folders = run.checkpoints.glob("step-*") if run.checkpoints.is_dir() else ()
    return [_describe(folder) for folder in sorted(folders) if re.fullmatch(r"step-\d{6,}", folder.name)]


def _describe(folder: Path) -> Checkpoint:
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state["format"] != _FORMAT:
            raise RunError(f"{folder}: checkpoint format {state['format']}, this version of dreambooth reads format {_FORMAT}")
        return Checkpoint(folder, state["step"], state["is_scheduled"], state["made_of"], state["loss_scale"])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{folder}: the checkpoint's state.json cannot be read ({error})",
            hint="Delete this folder to resume from an older one, if the run has one.",
        ) from error


def restore_checkpoint(checkpoint: Checkpoint, state: TrainingState, parameters: Mapping[str, nn.Parameter]) -> None:
    """Put the checkpoint's numbers into `state` and `parameters`.

    Raises RunError naming the file when one is damaged or does not fit the model.
    """
    weights = _load(checkpoint.path / "weights.safetensors")
    if weights.keys() != parameters.keys():
        raise RunError(f"{checkpoint.path}: its weights are not those of this model and trainee")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    state.optimizer.load_state(_load(checkpoint.path / "optimizer.safetensors"), step=checkpoint.step)
    average = checkpoint.path / "average.safetensors"
    if average.exists():
        state.average.load_state(_load(average))
    state.loss_scale.load_state(checkpoint.loss_scale)
    state.step = checkpoint.step


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path}: cannot be read ({error})",
            hint=f"Delete {path.parent} to resume from an older one, if there is one.",
        ) from error


def remove_old_checkpoints(run: RunFolder, *, keep: int | None) -> list[Path]:
    """Remove checkpoints that newer ones made superfluous; the removed folders.

    Of the scheduled ones the newest `keep` stay (all when None). One that only marks where a run was stopped goes as soon
    as a newer checkpoint stands.
    """
    found = find_checkpoints(run)
    scheduled = [checkpoint.step for checkpoint in found if checkpoint.is_scheduled]
    newest = [checkpoint.step for checkpoint in found[-1:]]
    kept = {*(scheduled if keep is None else scheduled[-keep:]), *newest}
    removed = [checkpoint.path for checkpoint in found if checkpoint.step not in kept]
    for path in removed:
        shutil.rmtree(path)
    return removed
