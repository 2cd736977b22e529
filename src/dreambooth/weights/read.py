"""Reading a base model, in whatever form it is passed around."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from dreambooth.errors import ModelFileError
from dreambooth.weights.diffusers_folder import is_diffusers_folder, read_diffusers_folder
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.original_config import check_original_config
from dreambooth.weights.settings import WeightsChoice
from dreambooth.weights.single_file import read_single_file

__all__ = ["read_model"]

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILE_SUFFIXES = (".ckpt", ".safetensors", ".bin", ".pt")
_RUN_FILES = ("config.yaml", "model.safetensors")


def read_model(model: str, *, config: Path | None = None, weights: WeightsChoice = "ema") -> ModelWeights:
    """Read a model: a .ckpt or .safetensors file, a diffusers folder, a run folder, or a hub id when there is no such path.

    `config` is the model's YAML in the original configuration language, which must agree with the tensors. `weights`
    chooses between the running average and the last weights of the UNet where both are there. The tensors stay in the
    mapped file until they are used.

    Raises ModelFileError that says what was found instead, or lists every missing or wrongly shaped tensor.
    """
    path = Path(model).expanduser()
    if not path.exists():
        if not _HUB_ID.fullmatch(model) or path.suffix in _FILE_SUFFIXES or path.parent.exists():
            hint = "Give a .ckpt or .safetensors file, a diffusers folder, a run folder, or a hub id such as owner/name."
            raise ModelFileError(f"{model}: no such file or folder", hint=hint)
        from dreambooth.weights.hub import fetch  # loads huggingface_hub, which nothing else here needs

        path = fetch(model)
    read = _read_folder(path, weights) if path.is_dir() else read_single_file(path, weights=weights)
    if config is not None:
        check_original_config(config, read.family)
    return read


def _read_folder(folder: Path, weights: WeightsChoice) -> ModelWeights:
    if all((folder / name).is_file() for name in _RUN_FILES):
        read = read_single_file(folder / "model.safetensors", weights=weights)
        return replace(read, report=replace(read.report, source=folder, form="run folder"))
    if is_diffusers_folder(folder):
        return read_diffusers_folder(folder, weights=weights)
    if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
        raise ModelFileError(
            f"{folder}: this run has not written its model.safetensors yet",
            hint=f"Finish it (dreambooth train --resume {folder}) or give one of the files in {folder / 'models'}.",
        )
    inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    raise ModelFileError(
        f"{folder}: a diffusers folder has unet, vae and text_encoder in it, a run folder config.yaml and model.safetensors; "
        f"found {inside}",
        hint="Give the model file itself, or the folder that holds these.",
    )
