"""Checkpoints: everything needed to resume with bit-identical results, in a folder that is either complete or absent.

    step-000500/
      weights.safetensors     trained parameters in their training precision
      optimizer.safetensors   optimizer states of every parameter, in the format of the memory plan
      average.safetensors     moving average of the weights, if enabled
      state.json              step, loss scale, versions, settings, digests of the run's inputs, all files, and itself

Random numbers and the order of examples are functions of the step and need no state. Files hold whole tensors, even where
training shards them across processes, so a run can resume with any number of processes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dreambooth import __version__
from dreambooth.errors import RunError
from dreambooth.files import atomic_directory, remove_directory, utf8_name, write_json
from dreambooth.reading import read_json, reading, shown_value
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.shards import distribute, gather_on_host, local_part
from dreambooth.runtime.tensor_files import file_digest, write_tensors
from dreambooth.training.loop import TrainingState

__all__ = [
    "Checkpoint",
    "damage",
    "find_checkpoints",
    "incomplete_checkpoints",
    "remove_old_checkpoints",
    "restore_checkpoint",
    "save_checkpoint",
]

_FORMAT = 2
_WITHOUT_DIGESTS = 1  # the format of earlier versions, which is still read
_DELETE = "Delete this folder to resume from an older one, if the run has one."
_DIGEST = "digest"  # of everything else in state.json


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
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each of its other files, by name; empty in checkpoints of earlier versions."""


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
        files = {
            f"{name}.safetensors": write_tensors(partial / f"{name}.safetensors", named)
            for name, named in tensors.items()
            if named or name != "average"
        }
        values = {
            "format": _FORMAT,
            "step": state.step,
            "loss_scale": state.loss_scale.state(),
            "versions": {"dreambooth": __version__, "torch": torch.__version__},
            **about,
            "files": files,
        }
        write_json(partial / "state.json", {**values, _DIGEST: _digest_of(values)})


def find_checkpoints(run: RunFolder) -> list[Checkpoint]:
    """The run's complete checkpoints, oldest first. Any process may call this while another one is writing.

    A folder without state.json is not complete and is left out. Raises RunError for a state.json that is damaged.
    """
    return [_describe(folder) for folder in _folders(run) if (folder / "state.json").exists()]


def incomplete_checkpoints(run: RunFolder) -> list[Path]:
    """Folders of checkpoints that lack their state.json, as earlier versions left them when they were killed."""
    return [folder for folder in _folders(run) if not (folder / "state.json").exists()]


def _folders(run: RunFolder) -> list[Path]:
    folders = run.checkpoints.glob("step-*") if run.checkpoints.is_dir() else ()
    return sorted(folder for folder in folders if re.fullmatch(r"step-\d{6,15}", folder.name) and folder.is_dir())


def _describe(folder: Path) -> Checkpoint:
    with reading(folder, RunError, what="the checkpoint's state.json cannot be read", hint=_DELETE):
        state = read_json(folder / "state.json")
        found = state["format"]
        if found not in (_FORMAT, _WITHOUT_DIGESTS):
            reads = f"this version of dreambooth reads formats {_WITHOUT_DIGESTS} and {_FORMAT}"
            raise RunError(f"{folder}: checkpoint format {shown_value(found)}, {reads}")
        values = {name: value for name, value in state.items() if name != _DIGEST}
        if (found == _FORMAT or _DIGEST in state) and state.get(_DIGEST) != _digest_of(values):
            raise ValueError("its digest differs: the file is damaged")
        checkpoint = Checkpoint(
            folder,
            state["step"],
            state["is_scheduled"],
            state["made_of"],
            state["loss_scale"],
            state.get("settings", {}),
            state.get("files", {}),
        )
        _check_kinds(checkpoint)
        return checkpoint


def _digest_of(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _check_kinds(checkpoint: Checkpoint) -> None:
    """Raise ValueError unless the values of a state.json are of their kinds, and its step is that of its folder's name."""
    if type(checkpoint.step) is not int or checkpoint.path.name != f"step-{checkpoint.step:06d}":
        raise ValueError(f"it says step {shown_value(checkpoint.step)}")
    if type(checkpoint.is_scheduled) is not bool or not isinstance(checkpoint.settings, dict):
        raise ValueError("is_scheduled or settings is of another kind")
    for texts in (checkpoint.made_of, checkpoint.files):
        if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("made_of or files is no list of names and digests")
    numbers = checkpoint.loss_scale
    if not isinstance(numbers, dict) or not all(type(one) in (int, float) and math.isfinite(one) for one in numbers.values()):
        raise ValueError("loss_scale is no list of names and numbers")


def restore_checkpoint(checkpoint: Checkpoint, state: TrainingState, parameters: Mapping[str, nn.Parameter]) -> None:
    """Load the checkpoint into `state` and `parameters`; every process reads the files and keeps its shards.

    Raises RunError, naming the file, if one is damaged or does not fit the model; nothing is changed then.
    """
    if problem := damage(checkpoint):
        raise RunError(problem, hint=_without(checkpoint))
    weights = _load(checkpoint, "weights.safetensors")
    if weights.keys() != parameters.keys():
        raise RunError(f"{checkpoint.path}: its weights do not match this model and the parts being trained")
    _check_fit(checkpoint, "weights.safetensors", weights, parameters)
    optimizer, average = _load(checkpoint, "optimizer.safetensors"), None
    if (checkpoint.path / "average.safetensors").exists():
        average = _load(checkpoint, "average.safetensors")
        _check_fit(checkpoint, "average.safetensors", average, state.average.state(), like="the moving average")
    with torch.no_grad():
        for name, parameter in parameters.items():
            local_part(parameter).copy_(local_part(distribute(weights[name], parameter)))
    file, hint = checkpoint.path / "optimizer.safetensors", lambda: _without(checkpoint)
    with reading(file, RunError, what="does not fit this run", hint=hint):
        state.optimizer.load_state(optimizer, step=checkpoint.step)
    if average is not None:
        state.average.load_state(average)
    state.loss_scale.load_state(checkpoint.loss_scale)
    state.step = checkpoint.step


def damage(checkpoint: Checkpoint) -> str | None:
    """What is wrong with the checkpoint's files by their digests; None for a whole one. Reads all of them."""
    for name, digest in checkpoint.files.items():
        path = checkpoint.path / name
        try:
            if file_digest(path) != digest:
                return f"{path}: the file is damaged: its digest is not the one in state.json"
        except OSError as error:
            return f"{path}: cannot be read ({error.strerror})"
    return None


def _without(checkpoint: Checkpoint) -> str:
    """How to go on without a damaged checkpoint: from the newest older one that is whole."""
    for folder in sorted(checkpoint.path.parent.glob("step-*"), reverse=True):
        if folder.name < checkpoint.path.name and (folder / "state.json").exists():
            try:
                older = _describe(folder)
            except RunError:
                continue
            if damage(older) is None:
                return f"Delete {checkpoint.path} to resume from {older.path.name}, which is whole."
    return f"Delete {checkpoint.path} to start again from step 0: there is no older checkpoint that is whole."


def _check_fit(
    checkpoint: Checkpoint, file: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, like: str = "the model"
) -> None:
    """Raise RunError for the first tensor that is missing, or of another shape or type than here."""
    for name, tensor in expected.items():
        there = found.get(name)
        if there is None:
            raise RunError(f"{checkpoint.path / file}: lacks {name}", hint=_without(checkpoint))
        if there.shape != tensor.shape or there.dtype != tensor.dtype:
            kinds = [f"{tuple(one.shape)} {str(one.dtype).removeprefix('torch.')}" for one in (there, tensor)]
            raise RunError(f"{checkpoint.path / file}: {name} is {kinds[0]}; {like} has {kinds[1]}", hint=_without(checkpoint))


def _load(checkpoint: Checkpoint, file: str) -> dict[str, Tensor]:
    path = checkpoint.path / file
    with reading(path, RunError, hint=lambda: _without(checkpoint)), utf8_name(path) as name:
        return load_file(name)


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
        remove_directory(path)
    return removed
