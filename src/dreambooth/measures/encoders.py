"""Encoders: objects that turn images and captions into features.

Two kinds, both models of the library transformers: a vision transformer (DINO) and a CLIP. They are read from a folder in the
library's layout; for a hub id the caller downloads the folder first. Shapes: B images or captions, C channels, H and W sizes
in pixels, D width of features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from dreambooth.display import counted
from dreambooth.errors import ModelFileError
from dreambooth.families.clip_tokenizer import load_clip_tokenizer
from dreambooth.families.quiet_import import quiet_import
from dreambooth.measures.preprocessing import Preprocessing, read_preprocessing
from dreambooth.reading import read_json

if TYPE_CHECKING:
    from transformers.models.clip.modeling_clip import CLIPModel
    from transformers.models.vit.modeling_vit import ViTModel

__all__ = [
    "CLIP_B32",
    "CLIP_L14",
    "DINO",
    "ClipEncoder",
    "ImageEncoder",
    "TextImageEncoder",
    "VitEncoder",
    "load_clip",
    "load_vit",
]

DINO = "facebook/dino-vits16"
"""Hub id of the encoder of the paper's DINO score, a ViT-S/16 (Caron et al., arXiv 2104.14294)."""

CLIP_B32 = "openai/clip-vit-base-patch32"
"""Hub id of the smaller CLIP (Radford et al., arXiv 2103.00020). The paper does not say which one it used."""

CLIP_L14 = "openai/clip-vit-large-patch14"
"""Hub id of the larger CLIP, whose text encoder is that of Stable Diffusion 1."""

_CLIP_VOCABULARY = 49408
_WEIGHT_FILES = "model.safetensors (or pytorch_model.bin)"
FROM_A_FOLDER: dict[str, Any] = {"local_files_only": True, "dtype": torch.float32, "output_loading_info": True}


class ImageEncoder(Protocol):
    """An encoder of images."""

    @property
    def name(self) -> str:
        """Display name, shown beside every score from this encoder."""

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of everything that determines the features: weights and preprocessing."""

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Features of pixels in [0, 1] of any size, (B, D) float32 on the CPU."""


class TextImageEncoder(ImageEncoder, Protocol):
    """An encoder of images and captions into the same feature space."""

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Features of captions, (B, D) float32 on the CPU."""


@dataclass(frozen=True)
class VitEncoder:
    """A vision transformer; the feature is the first token's state after the final norm, as in DINO's own evaluation."""

    name: str
    model: ViTModel
    preprocessing: Preprocessing

    @cached_property
    def digest(self) -> str:
        """Of the weights, the model's class and the preprocessing."""
        return _digest(self.model, self.preprocessing)

    @torch.no_grad()
    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Features of pixels in [0, 1] of any size, (B, D) float32 on the CPU."""
        prepared = self.preprocessing(pixels_BCHW).to(self.model.device)
        states_BLD: Tensor = self.model(pixel_values=prepared).last_hidden_state
        return states_BLD[:, 0].float().cpu()


@dataclass(frozen=True)
class ClipEncoder:
    """A CLIP; features are the projected ones, not yet of length 1."""

    name: str
    model: CLIPModel
    preprocessing: Preprocessing

    @cached_property
    def digest(self) -> str:
        """Of the weights, the model's class and the preprocessing."""
        return _digest(self.model, self.preprocessing)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_clip_tokenizer()

    @torch.no_grad()
    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Features of pixels in [0, 1] of any size, (B, D) float32 on the CPU."""
        prepared = self.preprocessing(pixels_BCHW).to(self.model.device)
        return _projected(self.model.get_image_features(pixel_values=prepared)).float().cpu()

    @torch.no_grad()
    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Features of captions, (B, D) float32 on the CPU; captions are truncated after 75 tokens, as in CLIP."""
        length = self.model.config.text_config.max_position_embeddings
        encoded = self._tokenizer(list(captions), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        input_ids_BL = encoded.input_ids.to(self.model.device)
        return _projected(self.model.get_text_features(input_ids=input_ids_BL)).float().cpu()


def load_vit(folder: Path, *, name: str, device: torch.device) -> VitEncoder:
    """The vision transformer in `folder`, in float32 on `device`; `name` is its display name.

    Raises ModelFileError when the folder does not hold one, or not all of it.
    """
    with quiet_import():
        from transformers.models.vit.modeling_vit import ViTModel

    config = folder_config(folder, "vit", example=DINO)
    preprocessing = _fitting(read_preprocessing(folder), config.get("image_size", 224), folder)
    model = checked_model(lambda: ViTModel.from_pretrained(folder, add_pooling_layer=False, **FROM_A_FOLDER), folder)
    return VitEncoder(name, model.to(device), preprocessing)


def load_clip(folder: Path, *, name: str, device: torch.device) -> ClipEncoder:
    """The CLIP in `folder`, in float32 on `device`; `name` is its display name. Captions are tokenized by the bundled
    tokenizer, which is that of all of OpenAI's CLIP models.

    Raises ModelFileError when the folder does not hold one, or not all of it, or one of another vocabulary.
    """
    with quiet_import():
        from transformers.models.clip.modeling_clip import CLIPModel

    config = folder_config(folder, "clip", example=CLIP_B32)
    vision = config.get("vision_config") or {}
    preprocessing = _fitting(read_preprocessing(folder), vision.get("image_size", 224), folder)
    model = checked_model(lambda: CLIPModel.from_pretrained(folder, **FROM_A_FOLDER), folder)
    check_clip_vocabulary(model, folder, hint=f"Use one of OpenAI's models, for example {CLIP_B32} or {CLIP_L14}.")
    return ClipEncoder(name, model.to(device), preprocessing)


def check_clip_vocabulary(model: Any, folder: Path, *, hint: str) -> None:
    """Raise ModelFileError unless the bundled tokenizer, which is that of OpenAI's CLIP, fits the model."""
    if (words := model.config.text_config.vocab_size) != _CLIP_VOCABULARY:
        raise ModelFileError(
            f"{folder}: its vocabulary has {words} entries; expected that of OpenAI's CLIP, {_CLIP_VOCABULARY}", hint=hint
        )


def folder_config(folder: Path, kind: str, *, example: str) -> dict[str, Any]:
    """The folder's config.json. Raises ModelFileError unless it describes a model of `kind`."""
    hint = f"Use a folder with a transformers model, for example from `hf download {example} --local-dir FOLDER`."
    path = folder / "config.json"
    if not path.is_file():
        found = "no such folder" if not folder.is_dir() else "holds no config.json"
        raise ModelFileError(f"{folder}: {found}; expected a folder in the transformers layout", hint=hint)
    try:
        config = read_json(path)
        found = config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{path}: cannot be read as a model configuration: {error}", hint=hint) from error
    if found != kind:
        raise ModelFileError(f"{folder}: holds a model of type {found!r}; expected {kind!r}", hint=hint)
    return dict(config)


def _fitting(preprocessing: Preprocessing, side: int, folder: Path) -> Preprocessing:
    """The same, if it produces the image size of the model. Raises ModelFileError otherwise."""
    if preprocessing.crop != side:
        raise ModelFileError(
            f"{folder}: its preprocessor_config.json makes {preprocessing.crop}-pixel images; the model takes {side} pixels",
            hint="Use both files from the same model.",
        )
    return preprocessing


def checked_model(load: Any, folder: Path) -> Any:
    """A model from its folder, in evaluation mode.

    The library fills missing tensors with random ones; here that is an error.
    """
    hint = f"Download the model again; its weights are {_WEIGHT_FILES}."
    try:
        with quiet_import(), _without_progress_bar():
            model, report = load()
    except Exception as error:  # the library passes on any error of the file readers it uses
        raise ModelFileError(f"{folder}: cannot be loaded ({type(error).__name__}: {error})", hint=hint) from error
    if missing := sorted(report["missing_keys"]):
        shown = ", ".join(missing[:3])
        raise ModelFileError(
            f"{folder}: {counted(len(missing), 'tensor')} missing from the model's weights: {shown}", hint=hint
        )
    return model.eval().requires_grad_(False)


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """The library would draw one while loading, over the display of the running command."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _projected(output: Any) -> Tensor:
    """Depending on the release, the library returns the projected features directly or as a record's pooled output."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


def _digest(model: nn.Module, preprocessing: Preprocessing) -> str:
    found = hashlib.sha256(repr((type(model).__name__, preprocessing)).encode())
    for name, parameter in sorted(model.named_parameters()):
        found.update(repr((name, tuple(parameter.shape))).encode())
        found.update(parameter.detach().float().cpu().contiguous().numpy().data)
    return found.hexdigest()
