"""The bundled encoders and distance, for images of the bundled toybox model.

They know only rendered toybox images and replace CLIP, DINO and LPIPS there; their scores are not comparable with those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dreambooth.errors import ModelFileError
from dreambooth.families.family import Family
from dreambooth.families.untrained import untrained_clip, untrained_vit
from dreambooth.measures.encoders import ClipEncoder, VitEncoder
from dreambooth.measures.perceptual import PerceptualDistance, judge_distance
from dreambooth.measures.preprocessing import Preprocessing
from dreambooth.toybox.eye import EYE
from dreambooth.toybox.files import CLIP_FILE, EMBEDDED_MODEL_FILE, EYE_FILE, JUDGE_FILE
from dreambooth.toybox.judge import SIDE, load_judge

__all__ = ["embedded_clip", "embedded_distance", "embedded_eye"]

_HALF = (0.5, 0.5, 0.5)
_PREPROCESSING = Preprocessing(SIDE, SIDE, _HALF, _HALF)
"""Pixels in [-1, 1], as in the training of the bundled models."""

_TEXT_TOWER = "cond_stage_model.transformer."
_PICTURE_TOWER = "clip."
_HEAD_WIDTH = 64
_HINT = "Reinstall the package, or create the file with: python -m experiments.toybox train"


def embedded_clip(family: Family, *, device: torch.device) -> ClipEncoder:
    """The toybox CLIP: the text tower of the bundled base model, described by `family`, and an image tower.

    Raises ModelFileError when a file is missing or holds something else.
    """
    tower = _read(CLIP_FILE, _PICTURE_TOWER)
    tensors = {**_read(EMBEDDED_MODEL_FILE, _TEXT_TOWER), **tower}
    tensors.pop("text_model.embeddings.position_ids", None)  # counted from 0, and no weight

    def make() -> Any:
        projection = len(tower["visual_projection.weight"])
        return untrained_clip(family, vision=_vision(tower), projection=projection, seed=0)

    return ClipEncoder("the toybox CLIP", _filled(make, tensors, CLIP_FILE).to(device), _PREPROCESSING)


def embedded_eye(*, device: torch.device) -> VitEncoder:
    """The toybox vision transformer, which replaces DINO.

    Raises ModelFileError when its file is missing or holds something else.
    """
    tensors = _read(EYE_FILE, "")
    return VitEncoder(
        "the toybox eye", _filled(lambda: untrained_vit(EYE, seed=0), tensors, EYE_FILE).to(device), _PREPROCESSING
    )


def embedded_distance(*, device: torch.device) -> PerceptualDistance:
    """The replacement for LPIPS. Raises ModelFileError when its file is missing or holds something else."""
    return judge_distance(load_judge(JUDGE_FILE), device=device)


def _vision(tower: Mapping[str, Tensor]) -> dict[str, Any]:
    """The values of a CLIPVisionConfig, read from the tensors of an image tower with attention heads of width 64."""
    width, _, patch, _ = tower["vision_model.embeddings.patch_embedding.weight"].shape
    num_patches = len(tower["vision_model.embeddings.position_embedding.weight"]) - 1
    return {
        "hidden_size": width,
        "intermediate_size": len(tower["vision_model.encoder.layers.0.mlp.fc1.weight"]),
        "num_hidden_layers": sum(name.endswith(".mlp.fc1.weight") for name in tower),
        "num_attention_heads": width // _HEAD_WIDTH,
        "image_size": round(num_patches**0.5) * patch,
        "patch_size": patch,
    }


def _read(path: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without the prefix; the rest of the file is not read."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file; expected the bundled weights", hint=_HINT)
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - the file cannot be iterated
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path}: cannot be read as a .safetensors file: {error}", hint=_HINT) from error


def _filled(make: Callable[[], nn.Module], tensors: Mapping[str, Tensor], path: Path) -> Any:
    """The module with these tensors in float32, in evaluation mode. Raises ModelFileError when they do not fit."""
    try:
        module = make()
        module.load_state_dict(tensors, strict=True)
    except (KeyError, RuntimeError) as error:
        raise ModelFileError(f"{path}: holds other tensors than expected ({error})", hint=_HINT) from error
    return module.eval().requires_grad_(False)
