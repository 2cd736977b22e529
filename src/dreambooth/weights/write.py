"""Writing a model: a single file with the original's key names, or a diffusers folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreambooth import __version__
from dreambooth.diffusion.prediction import Prediction
from dreambooth.errors import ModelFileError
from dreambooth.families.clip_tokenizer import TOKENIZER_FOLDER
from dreambooth.families.family import Family
from dreambooth.families.mapped_pages import MappedPages
from dreambooth.families.prediction_signs import consistent_metadata
from dreambooth.files import atomic_directory, write_json
from dreambooth.runtime.tensor_files import CONTENT_HASH, range_problem, write_tensors
from dreambooth.weights.diffusers_files import UNUSED_STEM
from dreambooth.weights.folder_configuration import read_json
from dreambooth.weights.key_map import restore_names
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.torch_archive import write_torch_archive

__all__ = [
    "SINGLE_FILE_SUFFIXES",
    "check_range",
    "model_specification",
    "write_diffusers_folder",
    "write_single_file",
]

SINGLE_FILE_SUFFIXES = (".safetensors", ".ckpt")

_PADDING = 49407  # of the tokenizer in this package

_PREDICTIONS: Mapping[Prediction, str] = {"epsilon": "epsilon", "velocity": "v"}  # in ModelSpec's words

# What the library behind the original expects beside the weights; it looks at the version before anything else.
_LIGHTNING: dict[str, Any] = {"pytorch-lightning_version": "1.5.9", "callbacks": {}, "lr_schedulers": []}


def write_single_file(path: Path, weights: ModelWeights, *, dtype: torch.dtype | None, metadata: Mapping[str, str]) -> None:
    """Write the model under exactly the original's names, atomically; the suffix decides between .safetensors and .ckpt.

    Weights are converted to `dtype`, or keep the number format they have when it is None. The twelve buffers of the schedule
    are recomputed in float32 and position ids are int64, as the original's strict loader wants them. Both are written tensor
    by tensor. A .safetensors file carries `metadata` beside what tells other programs the family. A .ckpt has the entries of
    a file that the original trained and pruned, and of the metadata only `global_step` and `epoch`. Raises ModelFileError
    when the suffix is another.
    """
    if path.suffix not in SINGLE_FILE_SUFFIXES:
        found = f"'{path.suffix}'" if path.suffix else "no suffix"
        hint = f"Name it {path.with_suffix(SINGLE_FILE_SUFFIXES[0])}."
        raise ModelFileError(f"{path}: expected the suffix {' or '.join(SINGLE_FILE_SUFFIXES)}, found {found}", hint=hint)
    _refuse_words(weights)
    tensors = _original_weights(weights)
    buffers = {name: buffer for name, buffer in weights.family.file_buffers().items() if name not in tensors}
    release = MappedPages().release
    if path.suffix == ".safetensors":
        specified = {**model_specification(weights.family, path.stem), **_consistent(weights, metadata), CONTENT_HASH: ""}
        write_tensors(
            path,
            {**buffers, **tensors},
            dtype=dtype,
            unchanged=buffers,
            metadata=specified,
            after=release,
        )
        return
    beside = {**{name: _whole_number(metadata.get(name, "")) for name in ("epoch", "global_step")}, **_LIGHTNING}
    write_torch_archive(path, {**buffers, **tensors}, beside=beside, dtype=dtype, unchanged=buffers, after=release)


def check_range(weights: ModelWeights, dtype: torch.dtype) -> None:
    """Raise ModelFileError that names every tensor with a number beyond the range of `dtype`, in which it is to be written."""
    release = MappedPages().release
    problems = []
    for part in weights.parts.values():
        for name, tensor in part.items():
            if (problem := range_problem(name, tensor, dtype)) is not None:
                problems.append(f"{weights.report.source}: {problem}")
            release(tensor)
    if problems:
        raise ModelFileError(problems, hint="Use --model-dtype bfloat16 or --model-dtype float32.")


def write_diffusers_folder(
    folder: Path, weights: ModelWeights, *, dtype: torch.dtype | None, metadata: Mapping[str, str]
) -> None:
    """Write the model as a folder that diffusers loads, with its tokenizer and without a safety checker; all or nothing.

    Weights are converted to `dtype`, or keep the number format they have when it is None; each file carries `metadata`.
    Raises ModelFileError if `folder` already exists.
    """
    if folder.exists():
        raise ModelFileError(f"{folder}: already exists", hint="Give another name, or remove it first.")
    _refuse_words(weights)
    family, metadata = weights.family, _consistent(weights, metadata)
    with atomic_directory(folder) as partial:
        for name, part in family.parts.items():
            named = {part.folder_name(key): tensor for key, tensor in weights.parts[name].items() if key in part.blueprint}
            unused = {key: tensor for key, tensor in weights.parts[name].items() if key in part.unused}
            for stem, tensors in ((part.stem, named), (UNUSED_STEM, unused)):
                if tensors:
                    file = partial / name / f"{stem}.safetensors"
                    write_tensors(
                        file, tensors, dtype=dtype, metadata={**metadata, "format": "pt"}, after=MappedPages().release
                    )
            write_json(partial / name / "config.json", part.config)
        write_json(partial / "scheduler" / "scheduler_config.json", family.scheduler_config)
        write_json(partial / "model_index.json", family.pipeline_config)
        for name in family.text_encoders:
            _write_tokenizer(partial / name.replace("text_encoder", "tokenizer"), family.parts[name].config["pad_token_id"])


def _refuse_words(weights: ModelWeights) -> None:
    if weights.words:
        raise ModelFileError(
            f"{weights.report.source}: the learned word '{weights.words[0].word}' cannot be part of a model file",
            hint="Give the file of the word to a program beside the model; here: generate --model MODEL --embedding FILE",
        )


def _write_tokenizer(folder: Path, padding: int) -> None:
    """CLIP's tokenizer, which pads with the token of this id."""
    shutil.copytree(TOKENIZER_FOLDER, folder, ignore=shutil.ignore_patterns("tokenizer.json"))
    if padding != _PADDING:
        words = {index: word for word, index in read_json(folder / "vocab.json").items()}
        config = folder / "tokenizer_config.json"
        write_json(config, {**read_json(config), "pad_token": words[padding]})


def _consistent(weights: ModelWeights, metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata of a source may state another prediction than the one that it was read with."""
    family = weights.family
    return consistent_metadata(metadata, family.prediction, has_zero_terminal_snr=family.has_zero_terminal_snr)


def _whole_number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _original_weights(weights: ModelWeights) -> dict[str, Tensor]:
    parts = weights.family.parts.items()
    return {name: tensor for key, part in parts for name, tensor in restore_names(weights.parts[key], part.keys).items()}


def model_specification(family: Family, title: str) -> dict[str, str]:
    """Metadata by which other programs recognize a model (Stability AI's ModelSpec 1.0.0)."""
    side = str(family.resolution)
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": family.architecture,
        "modelspec.implementation": "https://github.com/CompVis/stable-diffusion",
        "modelspec.title": title,
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.prediction_type": _PREDICTIONS[family.prediction],
        "modelspec.date": datetime.now(UTC).date().isoformat(),
        "dreambooth.version": __version__,
        "torch.version": str(torch.__version__),
    }
