"""The files of weights in a diffusers folder: which one of several forms is read, and the pieces of an index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dreambooth.errors import ModelFileError
from dreambooth.families.recognition import FOLDER_STEMS, SUPPORTED
from dreambooth.weights.containers import TensorFile, open_tensor_file
from dreambooth.weights.folder_configuration import read_json

__all__ = ["UNUSED_STEM", "VARIANTS", "open_weights", "stems_of", "weights_file"]

VARIANTS = ("", ".fp32", ".fp16", ".bf16")
"""Suffixes of the names in the order in which they are preferred."""

UNUSED_STEM = "unused_weights"
"""Name, without suffix, of a file of ours beside a part's weights: the tensors of the original's single file that the part
lacks, so that a conversion there and back loses nothing. Other programs do not look at it."""


def stems_of(part: str) -> tuple[str, ...]:
    """The possible names, without suffix, of a part's weight file; a second text encoder has those of the first."""
    return FOLDER_STEMS[part.removesuffix("_2")]


def weights_file(folder: Path, part: str, variants: Sequence[str] = VARIANTS) -> Path | None:
    """The first file of weights of a part in `folder`: by variant, then safetensors before pickle, then whole before in
    pieces.
    """
    names = [
        name
        for variant in variants
        for ending in ("safetensors", "bin")
        for stem in stems_of(part)
        for name in (
            f"{stem}{variant}.{ending}",
            f"{stem}.{ending}.index{variant}.json",
            f"{stem}{variant}.{ending}.index.json",
        )
    ]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def open_weights(path: Path) -> list[TensorFile]:
    """The file, or all the files that an index names. Raises ModelFileError when one of them is missing."""
    if path.suffix != ".json":
        return [open_tensor_file(path)]
    shards = read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ModelFileError(f"{path}: expected a weight_map from names to files", hint=SUPPORTED)
    files = sorted({path.parent / Path(name).name for name in shards.values()})
    missing = [f"{file}: is listed in {path.name} but missing" for file in files if not file.is_file()]
    if missing:
        raise ModelFileError(missing, hint="Download the folder again.")
    return [open_tensor_file(file) for file in files]
