"""Checkpoints: everything needed to resume with bit-identical results, in a folder that is either complete or absent.

    step-000500/
      weights.safetensors     trained parameters in their training precision
      optimizer.safetensors   optimizer states of every parameter, in the format of the memory plan
      average.safetensors     moving average of the weights, if enabled
      state.json              step, loss scale, versions, settings, and digests of the run's inputs

Random numbers and the order of examples are functions of the step and need no state. Files hold whole tensors, even where
training shards them across processes, so a run can resume with any number of processes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dreambooth import __version__
from dreambooth.errors import RunError
from dreambooth.files import atomic_directory, utf8_name, write_json
from dreambooth.reading import read_json
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.shards import distribute, gather_on_host, local_part
from dreambooth.runtime.tensor_files import write_tensors
from dreambooth.training.loop import TrainingState

__all__ = ["Checkpoint", "find_checkpoints", "remove_old_checkpoints", "restore_checkpoint", "save_checkpoint"]

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on the disk."""

    path: Path
    step: int
    is_scheduled: bool
    """False if it was written only because the run was stopped at this step."""
    made_of: dict[str, str]
    """The run's inputs: maps names to digests, for example those of the base model and of every photo."""
    loss_scale: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    """The run's settings as plain values; empty in checkpoints of earlier versions."""


def save_checkpoint(
    run: RunFolder,
    state: TrainingState,
    parameters: Mapping[str, nn.Parameter],
    *,
    made_of: Mapping[str, str],
    is_scheduled: bool,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write the state to a temporary folder, flush and rename it; an existing checkpoint for this step is kept.

    All processes call this together, and the main process writes. It first gathers sharded tensors in its host memory,
    because once it fails to write, the other processes cannot wait for it.
    """
    path, processes = run.checkpoint_at(state.step), state.processes
    if processes.any(path.exists()):
        return path
    parts: dict[str, Mapping[str, Tensor]] = {
        "weights": parameters,
        "optimizer": state.optimizer.state(),
        "average": state.average.state(),
    }
    whole = {name: gather_on_host(tensors, keeps=processes.is_main) for name, tensors in parts.items()}
    with processes.together():
        if processes.is_main:
            about = {"is_scheduled": is_scheduled, "made_of": dict(made_of), "settings": dict(settings)}
            _write(path, whole, state, about)
    return path


def _write(path: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: TrainingState, about: Mapping[str, Any]) -> None:
    with atomic_directory(path) as partial:
        for name, named in tensors.items():
            if named or name != "average":
                write_tensors(partial / f"{name}.safetensors", named)
        write_json(
            partial / "state.json",
            {
                "format": _FORMAT,
                "step": state.step,
                "loss_scale": state.loss_scale.state(),
                "versions": {"dreambooth": __version__, "torch": torch.__version__},
                **about,
            },
        )


def find_checkpoints(run: RunFolder) -> list[Checkpoint]:
    """The run's complete checkpoints, oldest first. Any process may call this while another one is writing."""
    folders = run.checkpoints.glob("step-*") if run.checkpoints.is_dir() else ()
    return [_describe(folder) for folder in sorted(folders) if re.fullmatch(r"step-\d{6,}", folder.name)]


def _describe(folder: Path) -> Checkpoint:
    try:
        state: dict[str, Any] = read_json(folder / "state.json")
        if state["format"] != _FORMAT:
            raise RunError(f"{folder}: checkpoint format {state['format']}, this version of dreambooth reads format {_FORMAT}")
        return Checkpoint(
            folder, state["step"], state["is_scheduled"], state["made_of"], state["loss_scale"], state.get("settings", {})
        )
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{folder}: the checkpoint's state.json cannot be read ({error})",
            hint="Delete this folder to resume from an older one, if the run has one.",
        ) from error


def restore_checkpoint(checkpoint: Checkpoint, state: TrainingState, parameters: Mapping[str, nn.Parameter]) -> None:
    """Load the checkpoint into `state` and `parameters`; every process reads the files and keeps its shards.

    Raises RunError, naming the file, if one is damaged or does not fit the model.
    """
    weights = _load(checkpoint.path / "weights.safetensors")
    if weights.keys() != parameters.keys():
        raise RunError(f"{checkpoint.path}: its weights do not match this model and the parts being trained")
    with torch.no_grad():
        for name, parameter in parameters.items():
            local_part(parameter).copy_(local_part(distribute(weights[name], parameter)))
    state.optimizer.load_state(_load(checkpoint.path / "optimizer.safetensors"), step=checkpoint.step)
    average = checkpoint.path / "average.safetensors"
    if average.exists():
        state.average.load_state(_load(average))
    state.loss_scale.load_state(checkpoint.loss_scale)
    state.step = checkpoint.step


def _load(path: Path) -> dict[str, Tensor]:
    try:
        with utf8_name(path) as name:
            return load_file(name)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path}: cannot be read ({error})",
            hint=f"Delete {path.parent} to resume from an older one, if there is one.",
        ) from error


def remove_old_checkpoints(run: RunFolder, *, keep: int | None) -> list[Path]:
    """Remove checkpoints that newer ones replace. Returns the removed folders.

    Of the scheduled checkpoints the newest `keep` remain (all if None). One that was written only because the run was
    stopped is removed as soon as a newer checkpoint exists.
    """
    checkpoints = find_checkpoints(run)
    scheduled = [checkpoint.step for checkpoint in checkpoints if checkpoint.is_scheduled]
    newest = [checkpoint.step for checkpoint in checkpoints[-1:]]
    kept = {*(scheduled if keep is None else scheduled[-keep:]), *newest}
    removed = [checkpoint.path for checkpoint in checkpoints if checkpoint.step not in kept]
    for path in removed:
        shutil.rmtree(path)
    return removed
