"""Chooses the encoders of an evaluation: the requested ones, or the defaults for the model's images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.measures.embedded import embedded_clip, embedded_distance, embedded_eye
from dreambooth.measures.encoders import CLIP_B32, DINO, load_clip, load_vit
from dreambooth.measures.features import FeatureCache
from dreambooth.measures.perceptual import PerceptualDistance, lpips_alexnet
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.toybox.files import EMBEDDED_MODEL
from dreambooth.toybox.judge import SIDE
from dreambooth.weights.containers import open_tensor_file
from dreambooth.weights.hub import fetch_encoder
from dreambooth.weights.read import is_embedded, read_model
from dreambooth.weights.transformers_folder import transformers_folder

__all__ = ["choose_encoders"]

_ALEXNET, _LPIPS = "alexnet-owt-7be5be79.pth", "alex.pth"


def choose_encoders(asked: EvaluationSettings, *, side: int, is_toybox: bool, device: torch.device, cache: Path) -> Encoders:
    """The encoders for images of `side` pixels, which keep features in the folder `cache`.

    The bundled encoders work only for rendered toybox images: they are the default for these (`is_toybox`), and can be
    requested by name for 64-pixel images. Raises the DreamboothError of the first encoder that is not available,
    SettingsError when the bundled ones are requested for images of another size.
    """
    dino, clip = (
        name or (EMBEDDED_MODEL if is_toybox else default) for name, default in ((asked.dino, DINO), (asked.clip, CLIP_B32))
    )
    wrong = [field for field, name in (("dino", dino), ("clip", clip)) if is_embedded(name) and side != SIDE]
    if wrong:
        raise SettingsError(
            [
                f"{field} is toybox, which works only for {SIDE}-pixel images; this model's have {side} pixels"
                for field in wrong
            ],
            hint="Remove it, or use a folder or a hub id.",
        )
    with _explained_encoder("dino", "DINO, PRES and drift", side):
        eye = embedded_eye(device=device) if is_embedded(dino) else load_vit(_folder(dino), name=dino, device=device)
    with _explained_encoder("clip", "CLIP-I and CLIP-T", side):
        both = (
            embedded_clip(read_model(EMBEDDED_MODEL).family, device=device)
            if is_embedded(clip)
            else load_clip(_folder(clip), name=clip, device=device)
        )
    return Encoders(eye, both, _distance(asked.lpips, is_toybox=is_toybox, device=device), FeatureCache(cache))


@contextmanager
def _explained_encoder(field: str, scores: str, side: int) -> Iterator[None]:
    """The encoder may be a default, so an error tells what it is for and how to use another one."""
    try:
        yield
    except ModelFileError as error:
        what = f"It is the encoder for {scores} on {side}-pixel images. To use another one: --{field} FOLDER."
        raise ModelFileError(error.problems, hint="\n".join(filter(None, (what, error.hint)))) from error


def _folder(name: str) -> Path:
    return transformers_folder(name, example=DINO, fetch=fetch_encoder)


def _distance(lpips: Path | None, *, is_toybox: bool, device: torch.device) -> PerceptualDistance | None:
    if lpips is not None:
        network, weights = (open_tensor_file(lpips / name).tensors for name in (_ALEXNET, _LPIPS))
        return lpips_alexnet(network, weights, device=device)
    return embedded_distance(device=device) if is_toybox else None
