"""A model as a diffusers folder: `unet`, `vae` and `text_encoder`, each with its weights.

Widths are read from the tensors; what the configuration files say otherwise is refused, and the UNet's tells the size of its
pictures. Full precision is preferred to half-precision variants, safetensors to pickles.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.families.key_pairs import same_names
from dreambooth.families.prediction_signs import prediction_signs
from dreambooth.families.recognition import FOLDER_STEMS, SUPPORTED
from dreambooth.families.sdxl_shapes import SDXL_REFINER
from dreambooth.families.text_keys import POSITION_IDS, canonical_text, position_ids_note
from dreambooth.families.vae_keys import canonical_attention, canonical_vae_keys
from dreambooth.weights.assemble import FoundModel, Reading, assemble
from dreambooth.weights.containers import open_tensor_file
from dreambooth.weights.diffusers_files import UNUSED_STEM, open_weights, stems_of, weights_file
from dreambooth.weights.folder_configuration import configuration_problems, read_json
from dreambooth.weights.key_map import MappedPart, find_tensors
from dreambooth.weights.model_weights import ModelWeights, UNetWeights
from dreambooth.weights.settings import WeightsChoice
from dreambooth.weights.spelling import plain_names
from dreambooth.weights.vae_file import GIVE_VAE

__all__ = ["is_diffusers_folder", "read_diffusers_folder"]

_DAMAGED = "The folder is damaged or was written by an unknown program: download it again, or give another one."
_OTHERWISE_MEANT = (
    "Use a model without these peculiarities. If the files are wrong about this model, correct them and try again."
)
_AVERAGE = "unet_ema"  # the folder in which training programs of diffusers keep the moving average
_SECOND_TEXT_ENCODER = "text_encoder_2"
_TEXT_TITLES = {"text_encoder": "text encoder", _SECOND_TEXT_ENCODER: "second text encoder"}
_LAST_WEIGHTS = ".non_ema"  # the variant in which folders keep the UNet before averaging


def is_diffusers_folder(folder: Path) -> bool:
    """Whether the folder looks like a diffusers model of any family."""
    return (folder / "model_index.json").is_file() or (folder / "unet").is_dir()


def read_diffusers_folder(folder: Path, how: Reading) -> ModelWeights:
    """Read a diffusers folder.

    Raises ModelFileError when it is of another family or lacks a part, with all missing and wrongly shaped tensors, or with
    all statements of its configuration files that cannot be followed.
    """
    _refuse_other_families(folder)
    wanted = [part for part in _parts_of(folder) if how.vae is None or part != "vae"]
    chosen, unet_weights, also_there = _choose_files(folder, wanted, how.weights)
    opened = {part: open_weights(path) for part, path in chosen.items()}
    files = [file for part_files in opened.values() for file in part_files]
    named = {
        part: plain_names({name: tensor for file in opened[part] for name, tensor in file.tensors.items()}) for part in opened
    }
    parts = {part: tensors for part, (tensors, _) in named.items()}
    unet, own_vae = parts["unet"], parts.get("vae", {})
    texts = {part: tensors for part, tensors in parts.items() if part in _TEXT_TITLES}
    notes = _position_ids_notes(texts)
    notes += dict.fromkeys(note for _, wrapped in named.values() for note in wrapped)
    if any(canonical_attention(name) != name for name in own_vae):
        notes.append("the VAE's attention uses old key names; they were converted")
    metadata = {key: value for file in files for key, value in file.metadata.items() if key != "format"}
    found = FoundModel(
        source=folder,
        form="diffusers folder",
        formats=tuple(sorted({file.format for file in files})),
        parts={
            "unet": find_tensors("UNet", chosen["unet"], unet, same_names(unet)),
            "vae": how.vae
            or find_tensors("VAE", chosen["vae"], own_vae, canonical_vae_keys(own_vae), spelling=canonical_attention),
            **{part: _text_encoder(part, chosen[part], tensors) for part, tensors in texts.items()},
        },
        unet_weights=unet_weights,
        also_there=also_there,
        neutralised=tuple(sorted({name for file in files for name in file.neutralised})),
        notes=tuple(notes),
        metadata=metadata,
        signs=prediction_signs(
            names=unet, metadata=metadata, scheduler=read_json(folder / "scheduler" / "scheduler_config.json")
        ),
    )
    weights_read = assemble(found, how, hint=_DAMAGED)
    if problems := configuration_problems(folder, weights_read.family, wanted):
        raise ModelFileError(problems, hint=_OTHERWISE_MEANT)
    return weights_read.made_for(_stated_side(folder, weights_read.family.downsampling))


def _stated_side(folder: Path, downsampling: int) -> int | None:
    """The side in pixels of the pictures that the folder's UNet says it is for."""
    side = read_json(folder / "unet" / "config.json").get("sample_size")
    return side * downsampling if isinstance(side, int) else None


def _choose_files(
    folder: Path, wanted: Collection[str], weights: WeightsChoice
) -> tuple[dict[str, Path], UNetWeights, str | None]:
    chosen = {part: weights_file(folder / part, part) for part in wanted}
    chosen["unet"], last = _unet_files(folder)
    unet_weights: UNetWeights = "only"
    also_there = None
    if last is not None and chosen["unet"] is not None:
        unet_weights = "raw" if weights == "raw" else "ema"
        other = chosen["unet"] if weights == "raw" else last
        name = other.name if other.parent.name == "unet" else f"{other.parent.name}/{other.name}"
        also_there = f"{name}; --weights {'ema' if weights == 'raw' else 'raw'} reads it"
    if last is not None and (weights == "raw" or chosen["unet"] is None):
        chosen["unet"] = last
    problems = [
        f"{folder / part}: no weights here; expected {stems_of(part)[0]}.safetensors, .bin, or a variant (.fp16, .bf16)"
        for part, path in chosen.items()
        if path is None
    ]
    if problems:
        only_vae = [part for part, path in chosen.items() if path is None] == ["vae"]
        raise ModelFileError(problems, hint=GIVE_VAE if only_vae else SUPPORTED)
    return {part: path for part, path in chosen.items() if path is not None}, unet_weights, also_there


def _unet_files(folder: Path) -> tuple[Path | None, Path | None]:
    """The moving average of the UNet, or its only weights, and the weights before averaging."""
    unet, average = weights_file(folder / "unet", "unet"), weights_file(folder / _AVERAGE, "unet")
    return (unet, weights_file(folder / "unet", "unet", (_LAST_WEIGHTS,))) if average is None else (average, unet)


def _parts_of(folder: Path) -> list[str]:
    """The parts of every known family, and the second text encoder in a folder that has one."""
    return [*FOLDER_STEMS, *([_SECOND_TEXT_ENCODER] if (folder / _SECOND_TEXT_ENCODER).is_dir() else [])]


def _text_encoder(part: str, path: Path, tensors: dict[str, Tensor]) -> MappedPart:
    """A text encoder, with the tensors of a single file that were kept beside it."""
    weights = {name: tensor for name, tensor in tensors.items() if canonical_text(name) != POSITION_IDS}
    unused = path.with_name(f"{UNUSED_STEM}.safetensors")
    if unused.is_file():
        weights = {**open_tensor_file(unused).tensors, **weights}
    return find_tensors(_TEXT_TITLES[part], path, weights, same_names(map(canonical_text, weights)), spelling=canonical_text)


def _position_ids_notes(texts: Mapping[str, dict[str, Tensor]]) -> list[str]:
    return [
        position_ids_note(tensor)
        for tensors in texts.values()
        for name, tensor in tensors.items()
        if canonical_text(name) == POSITION_IDS and tensor.dtype != torch.int64
    ]


def _refuse_other_families(folder: Path) -> None:
    kinds = {
        "text_encoder_3": "a Stable Diffusion 3 model",
        "transformer": "a diffusion transformer (SD 3, Flux or similar)",
        "prior": "a cascade of several models",
        "image_normalizer": "a Stable Diffusion 2.1 unCLIP model, which varies images",
        "depth_estimator": "a Stable Diffusion 2 depth model, whose UNet also takes a depth map",
    }
    for part, kind in kinds.items():
        if (folder / part).is_dir():
            raise ModelFileError(f"{folder}: this is {kind} (it has {part})", hint=SUPPORTED)
    if (folder / _SECOND_TEXT_ENCODER).is_dir() and not (folder / "text_encoder").is_dir():
        raise ModelFileError(f"{folder}: this is {SDXL_REFINER}", hint=SUPPORTED)
