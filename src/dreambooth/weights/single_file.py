"""Reading a model in a single file with the original's key names, in all common variants."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.diffusion.schedule import ddpm_buffers, scaled_linear_schedule
from dreambooth.errors import ModelFileError
from dreambooth.families.prediction_signs import MARKERS, PredictionSign, prediction_signs
from dreambooth.families.recognition import SUPPORTED, foreign_kind
from dreambooth.families.text_keys import (
    POSITION_IDS,
    SDXL_OPEN_CLIP_PREFIX,
    SDXL_TEXT_PREFIX,
    TEXT_PREFIX,
    UNUSED_TEXT,
    original_text,
    position_ids_note,
)
from dreambooth.families.unet_keys import AVERAGE_PREFIX, UNET_PREFIX, average_keys, unet_keys, unet_layout
from dreambooth.families.vae_keys import VAE_PREFIX, original_attention, vae_keys, vae_layout
from dreambooth.weights.assemble import FoundModel, Reading, assemble
from dreambooth.weights.average import average_doubt
from dreambooth.weights.containers import TensorFile, open_tensor_file
from dreambooth.weights.key_map import MappedPart, find_tensors
from dreambooth.weights.model_weights import ModelWeights, UNetWeights, sentence
from dreambooth.weights.original_config import config_beside
from dreambooth.weights.settings import WeightsChoice
from dreambooth.weights.spelling import plain_names, with_convolutions
from dreambooth.weights.text_encoders import TEXT_STAGES, find_text_encoders, has_later_text_encoder
from dreambooth.weights.vae_file import GIVE_VAE

__all__ = ["read_single_file"]

_TRAINING_LOSS = f"{VAE_PREFIX}loss."  # the discriminator beside which the VAE was once trained
_BOOKKEEPING = (
    *("logvar", "lvlb_weights", "scale_factor", f"{AVERAGE_PREFIX}decay", f"{AVERAGE_PREFIX}num_updates"),
    "denoiser.sigmas",  # the schedule, as the program for Stable Diffusion XL saves it
)
_POSITION_IDS = (
    *(prefix + POSITION_IDS for prefix in (TEXT_PREFIX, SDXL_TEXT_PREFIX)),
    f"{SDXL_OPEN_CLIP_PREFIX}transformer.text_model.{POSITION_IDS}",  # once written by ComfyUI
)
_DAMAGED = "The file is damaged or was written by an unknown program: download it again, or give another one."
_ROUNDING = 1e-6  # float32 holds alpha_bar to 1e-7; half precision is off by 1e-4
_OF_A_VAE = f"{SUPPORTED} Beside one of these, --vae FILE uses this VAE."
_WHOLE_FILE = "Give a checkpoint with all its parts: UNet, VAE and text encoder."
_OTHER_SCHEDULE = "the stored schedule"
_NO_SIGNAL = 1e-4  # alpha_bar at the end of a schedule of zero terminal SNR; the family's ends at 0.0047
_HALF_ROUNDING = 2**-8  # of bfloat16, relative; float16 is finer
_SCHEDULE = ddpm_buffers(scaled_linear_schedule())

Tensors = dict[str, Tensor]


def read_single_file(path: Path, how: Reading) -> ModelWeights:
    """Read a checkpoint in the original's names, pickled or safetensors.

    Raises ModelFileError when it is something else, or with all missing and wrongly shaped tensors.
    """
    opened = open_tensor_file(path)
    tensors, wrapped = plain_names(opened.tensors)
    file = replace(opened, tensors=tensors)
    kind = foreign_kind(file.tensors)
    if kind is not None:
        raise ModelFileError(f"{path}: this is {kind}", hint=_OF_A_VAE if kind == "a bare VAE" else SUPPORTED)
    rest, notes = _set_aside(file.tensors)
    averages, rest = _split(rest, AVERAGE_PREFIX)
    raw, rest = _split(rest, UNET_PREFIX)
    reshaped: list[str] = []
    if not has_later_text_encoder(rest):
        raw, averages, reshaped = with_convolutions(raw, averages)
    own_vae, rest = _split(rest, VAE_PREFIX)
    texts, rest = find_text_encoders(path, rest)
    _check_parts_are_there(path, has_vae=bool(own_vae) or how.vae is not None, has_text=bool(texts))
    unet = _choose_unet(file, raw, averages, how.weights)
    found = FoundModel(
        source=path,
        form="single file",
        formats=(file.format,),
        parts={
            "unet": unet.part,
            "vae": how.vae or find_tensors("VAE", path, own_vae, vae_keys(vae_layout(own_vae)), spelling=original_attention),
            **texts,
        },
        unet_weights=unet.weights,
        also_there=unet.also_there,
        warnings=(*unet.warnings, *(sentence(note) for note in notes if note.startswith(_OTHER_SCHEDULE))),
        neutralised=file.neutralised,
        leftover=tuple(rest),
        bookkeeping=file.bookkeeping,
        notes=(*notes, *wrapped, *reshaped, *_spelling_notes(own_vae, file.tensors)),
        metadata=file.metadata,
        signs=_signs(file),
    )
    is_partial = unet.weights == "ema" and len(unet.part.tensors) < len(raw)
    hint = "--weights raw reads the other UNet weights of this file." if is_partial else _DAMAGED
    return assemble(found, how, hint=hint).made_for(_stated_side(file.metadata))


def _check_parts_are_there(path: Path, *, has_vae: bool, has_text: bool) -> None:
    problems = []
    if not has_vae:
        problems.append(f"{path}: the file has no VAE (no tensors {VAE_PREFIX}*)")
    if not has_text:
        problems.append(f"{path}: the file has no text encoder (no tensors {TEXT_STAGES[0]}*)")
    if problems:
        raise ModelFileError(problems, hint=_WHOLE_FILE if not has_text else GIVE_VAE)


def _signs(file: TensorFile) -> tuple[PredictionSign, ...]:
    """Where the file states its prediction; a stored schedule that ends without any signal is a sign too."""
    signs = prediction_signs(names=file.tensors, metadata=file.metadata, original_config=config_beside(file.path))
    stored = file.tensors.get("alphas_cumprod")
    if stored is None or stored.numel() == 0:
        return signs
    first, last = float(stored.flatten()[0]), float(stored.flatten()[-1])
    if first < _NO_SIGNAL or last >= _NO_SIGNAL:  # zeros all over are a damaged buffer, which is recomputed
        return signs
    return (*signs, PredictionSign(f"the tensor alphas_cumprod, which ends at {last:.1g}", has_zero_terminal_snr=True))


def _stated_side(metadata: Mapping[str, str]) -> int | None:
    """The side in pixels that the file itself says it is for (ModelSpec 1.0.0), when its pictures are squares."""
    stated = re.fullmatch(r"(\d{2,4})x(\d{2,4})", metadata.get("modelspec.resolution", ""))
    return int(stated[1]) if stated is not None and stated[1] == stated[2] else None


def _split(tensors: Tensors, prefix: str) -> tuple[Tensors, Tensors]:
    inside = {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return inside, {name: tensor for name, tensor in tensors.items() if name not in inside}


@dataclass(frozen=True)
class _ChosenUNet:
    part: MappedPart
    weights: UNetWeights
    also_there: str | None = None
    warnings: tuple[str, ...] = ()


def _choose_unet(file: TensorFile, raw: Tensors, averages: Tensors, weights: WeightsChoice) -> _ChosenUNet:
    pairs = unet_keys(unet_layout(raw))
    last = find_tensors("UNet", file.path, raw, pairs)
    if not averages:
        return _ChosenUNet(last, "only")
    average = find_tensors("UNet", file.path, averages, average_keys(pairs))
    doubt = None if weights == "raw" else average_doubt(last.tensors, average.tensors, file.metadata)
    if weights == "raw" or (weights == "auto" and doubt is not None):
        also = f"their moving average ({AVERAGE_PREFIX}*); --weights ema reads it"
        used = f"{doubt}: the weights themselves are used, not the average. --weights ema reads the average."
        return _ChosenUNet(last, "raw", also, () if doubt is None else (used,))
    also = f"the last weights ({UNET_PREFIX}*); --weights raw reads them"
    used = f"{doubt}: the average may belong to another model. --weights raw reads the weights themselves."
    return _ChosenUNet(average, "ema", also, () if doubt is None else (used,))


def _set_aside(tensors: Tensors) -> tuple[Tensors, list[str]]:
    """The tensors that are weights, and notes on those that are not: schedule, position ids, training bookkeeping."""
    rest, notes = {}, []
    for name, tensor in tensors.items():
        if original_text(name) in _POSITION_IDS:
            if tensor.dtype != torch.int64:
                notes.append(position_ids_note(tensor))
        elif name in UNUSED_TEXT:
            notes.append(f"{name} is not used by Stable Diffusion 1 and was left out")
        elif name.rpartition(".")[2] in MARKERS:
            continue
        elif name not in _SCHEDULE and name not in _BOOKKEEPING and not name.startswith(_TRAINING_LOSS):
            rest[name] = tensor
    return rest, [*_schedule_notes(tensors), *notes]


def _schedule_notes(tensors: Tensors) -> list[str]:
    stored = tensors.get("alphas_cumprod")
    if stored is None:
        return []
    expected = _SCHEDULE["alphas_cumprod"]
    if stored.shape != expected.shape:
        return [f"{_OTHER_SCHEDULE} has {stored.numel()} timesteps; the family's {expected.numel()} are used instead"]
    if torch.allclose(stored.float(), expected, rtol=0, atol=_ROUNDING):
        return []
    is_rounded = torch.allclose(stored.float(), expected.to(stored.dtype).float(), rtol=0, atol=_ROUNDING)
    if is_rounded or torch.allclose(stored.float(), expected, rtol=_HALF_ROUNDING, atol=0):  # rounded, and widened again
        return ["schedule buffers were rounded to half precision and are recomputed"]
    return [f"{_OTHER_SCHEDULE} is not the family's own; it is recomputed, so pictures may differ from those of other programs"]


def _spelling_notes(vae: Iterable[str], text: Iterable[str]) -> list[str]:
    notes = []
    if any(original_text(name) != name for name in text):
        notes.append("text encoder keys lack the prefix text_model.; it was added")
    if any(original_attention(name) != name for name in vae):
        notes.append("the VAE's attention uses another program's key names; they were converted")
    return notes
