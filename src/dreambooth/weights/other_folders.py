"""Folders that people give as a model and that are something else: called what they are, or followed to the model."""

from __future__ import annotations

from pathlib import Path

from dreambooth.display import counted, quoted
from dreambooth.errors import ModelFileError
from dreambooth.families.recognition import FOLDER_STEMS, SUPPORTED
from dreambooth.weights.folder_configuration import read_json

__all__ = ["in_hub_cache", "is_training_checkpoint", "refuse_other_folder", "refuse_runs"]

_OF_TRAINING = ("optimizer.bin", "optimizer.pt", "scheduler.bin", "scheduler.pt", "random_states_*.pkl", "pytorch_model_fsdp*")
_OF_OWN_CHECKPOINT = ("state.json", "weights.safetensors")
_LORA_FILES = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin", "adapter_config.json")
_MODEL_SUFFIXES = (".safetensors", ".ckpt")
_NAMED = 5


def in_hub_cache(folder: Path) -> Path:
    """The snapshot that a folder of the hub's cache holds; any other folder itself.

    Raises ModelFileError when the folder holds several models, several snapshots of which none is the current one, or none.
    """
    if models := sorted(folder.glob("models--*/snapshots")):
        names = ", ".join(path.parent.name for path in models[:_NAMED]) + (", ..." if len(models) > _NAMED else "")
        raise ModelFileError(
            f"{folder}: the hub's cache with {counted(len(models), 'downloaded model')}: {names}",
            hint=f"Give the folder of one, for example {models[0].parent}",
        )
    repository = folder.parent if folder.name == "snapshots" else folder
    if not repository.name.startswith("models--") or not (repository / "snapshots").is_dir():
        return folder
    snapshots = sorted(path for path in (repository / "snapshots").iterdir() if path.is_dir())
    current = repository / "refs" / "main"
    if current.is_file():
        named = [path for path in snapshots if path.name == current.read_text(encoding="utf-8", errors="replace").strip()]
        snapshots = named or snapshots
    if len(snapshots) == 1:
        return snapshots[0]
    found = ", ".join(path.name for path in snapshots[:_NAMED]) or "nothing"
    raise ModelFileError(
        f"{folder}: a model in the hub's cache with {counted(len(snapshots), 'snapshot')} and no current one: {found}",
        hint=f"Give one of the folders in {repository / 'snapshots'}, or download the model again.",
    )


def refuse_other_folder(folder: Path) -> None:
    """Raise ModelFileError that says what a folder is that holds no model of a known form; return when that is not known."""
    _refuse_own_checkpoint(folder)
    refuse_runs(folder)
    _refuse_unpacked(folder)
    _refuse_lora(folder)
    _refuse_training(folder)
    _refuse_part(folder)
    files = sorted(path for path in folder.iterdir() if path.suffix in _MODEL_SUFFIXES and path.is_file())
    if files:
        names = ", ".join(path.name for path in files[:_NAMED]) + (", ..." if len(files) > _NAMED else "")
        raise ModelFileError(
            f"{folder}: not a model folder (no unet, vae and text_encoder, no run), but it contains {names}",
            hint=f"Give the file itself, for example {files[0]}",
        )


def _refuse_own_checkpoint(folder: Path) -> None:
    """Refuse a run's folder `checkpoints`, and a checkpoint in it, which holds only what training changes."""
    checkpoints = folder.parent if all((folder / name).is_file() for name in _OF_OWN_CHECKPOINT) else folder
    run = checkpoints.parent
    if checkpoints.name == "checkpoints" and (run / "config.yaml").is_file():
        raise ModelFileError(
            f"{folder}: for resuming the run {run} only, not a whole model",
            hint=f"Give the run folder {run}, or one of the model files in it. To resume the run:\n"
            f"  dreambooth train --resume {quoted(run)}",
        )


def refuse_runs(folder: Path) -> None:
    """Raise ModelFileError that names the runs in a folder; return when there are none."""
    runs = sorted(path.parent for path in folder.glob("*/config.yaml") if (path.parent / "status.json").is_file())
    if runs:
        names = ", ".join(path.name for path in runs[:_NAMED]) + (", ..." if len(runs) > _NAMED else "")
        raise ModelFileError(
            f"{folder}: a folder with {counted(len(runs), 'run')}: {names}", hint=f"Give one run folder, for example {runs[0]}"
        )


def _refuse_unpacked(folder: Path) -> None:
    inner = next((path for path in (folder, *sorted(folder.glob("*/"))) if _is_archive(path)), None)
    if inner is not None:
        where = "" if inner == folder else f" in its folder {inner.name}"
        raise ModelFileError(
            f"{folder}: an unpacked .ckpt or .pt file: data.pkl and version{where}; expected the file itself",
            hint=f"Download the file again, or pack it: cd {quoted(inner.parent)} && zip -0 -r model.ckpt {quoted(inner.name)}",
        )


def _is_archive(folder: Path) -> bool:
    return (folder / "data.pkl").is_file() and ((folder / "version").is_file() or (folder / "data").is_dir())


def _refuse_lora(folder: Path) -> None:
    if found := [name for name in _LORA_FILES if (folder / name).is_file()]:
        raise ModelFileError(
            f"{folder}: this is a LoRA: small changes to a model, not a model (it has {found[0]})",
            hint=f"{SUPPORTED} With one of these, generate --lora {quoted(folder)} applies the LoRA.",
        )


def is_training_checkpoint(folder: Path) -> bool:
    """Whether the folder holds what a training program needs to resume, and not a whole model beside it."""
    return bool(_marks(folder)) and not all((folder / part).is_dir() for part in FOLDER_STEMS)


def _marks(folder: Path) -> list[str]:
    return [path.name for pattern in _OF_TRAINING for path in sorted(folder.glob(pattern))]


def _refuse_training(folder: Path) -> None:
    marks = _marks(folder)
    if marks:
        has = [part for part in FOLDER_STEMS if (folder / part).is_dir()]
        lacks = [part for part in FOLDER_STEMS if part not in has]
        found = f"it has {' and '.join(has)}, but no {' and no '.join(lacks)}" if has else f"it has no {' and no '.join(lacks)}"
        raise ModelFileError(
            f"{folder}: a training checkpoint of diffusers, for resuming only ({', '.join(marks[:2])}): {found}",
            hint="Give the folder that the training program wrote at its end, or copy the missing folders from its base model.",
        )
    checkpoints = sorted(path for path in folder.glob("checkpoint-*") if path.is_dir())
    if checkpoints:
        names = ", ".join(path.name for path in checkpoints[:_NAMED])
        raise ModelFileError(
            f"{folder}: the output of a training program with checkpoints ({names}), but without a finished model: "
            f"no {' and no '.join(part for part in FOLDER_STEMS if not (folder / part).is_dir())}",
            hint="Let the program finish, so that it writes unet, vae and text_encoder there.",
        )


def _refuse_part(folder: Path) -> None:
    if folder.name in FOLDER_STEMS or "_class_name" in read_json(folder / "config.json"):
        kind = read_json(folder / "config.json").get("_class_name", folder.name)
        raise ModelFileError(
            f"{folder}: one part of a diffusers folder ({kind}), not a model", hint=f"Give the folder above it: {folder.parent}"
        )
