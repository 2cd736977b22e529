"""The text encoders of a single file, found by the prefixes under which the original programs keep them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from dreambooth.families.key_pairs import KeyPair
from dreambooth.families.open_clip_keys import SD2_TEXT_PREFIX, open_clip_keys, open_clip_names, penultimate_keys
from dreambooth.families.text_keys import (
    SDXL_OPEN_CLIP_PREFIX,
    SDXL_TEXT_PREFIX,
    TEXT_LEVEL,
    TEXT_PREFIX,
    original_text,
    text_keys,
    text_names,
)
from dreambooth.weights.key_map import MappedPart, find_tensors

__all__ = ["TEXT_STAGES", "find_text_encoders", "has_later_text_encoder"]

TEXT_STAGES = ("cond_stage_model.", "conditioner.")
"""What the names of all text encoders begin with."""


@dataclass(frozen=True)
class _Place:
    prefix: str
    part: str
    title: str
    kind: Literal["CLIP", "OpenCLIP", "penultimate OpenCLIP"]

    def keys(self, names: Iterable[str]) -> tuple[KeyPair, ...]:
        """The key table of the text encoder whose tensors have these names in the file."""
        if self.kind == "CLIP":
            return text_keys(text_names(names), self.prefix + TEXT_LEVEL)
        if self.kind == "penultimate OpenCLIP":
            return penultimate_keys(names, self.prefix)
        return open_clip_keys(open_clip_names(names), self.prefix)


_PLACES: Sequence[_Place] = (
    _Place(TEXT_PREFIX.removesuffix(TEXT_LEVEL), "text_encoder", "text encoder", "CLIP"),
    _Place(SD2_TEXT_PREFIX, "text_encoder", "text encoder", "penultimate OpenCLIP"),
    _Place(SDXL_TEXT_PREFIX.removesuffix(TEXT_LEVEL), "text_encoder", "first text encoder", "CLIP"),
    _Place(SDXL_OPEN_CLIP_PREFIX, "text_encoder_2", "second text encoder", "OpenCLIP"),
)


def has_later_text_encoder(names: Iterable[str]) -> bool:
    """Whether a file has the text encoder of a family after Stable Diffusion 1."""
    later = (SD2_TEXT_PREFIX, "conditioner.")
    return any(name.startswith(later) for name in names)


def find_text_encoders(path: Path, tensors: dict[str, Tensor]) -> tuple[dict[str, MappedPart], dict[str, Tensor]]:
    """The text encoders among the tensors of a file, by part name, and the tensors that belong to none."""
    parts: dict[str, MappedPart] = {}
    rest = dict(tensors)
    for place in _PLACES:
        inside = {name: rest.pop(name) for name in tensors if name in rest and name.startswith(place.prefix)}
        if inside:
            parts[place.part] = find_tensors(place.title, path, inside, place.keys(inside), spelling=original_text)
    return parts, rest
