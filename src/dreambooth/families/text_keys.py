"""The two naming schemes of the text encoder: `cond_stage_model.transformer.text_model.` before the canonical name, or none.

The original wrapped the CLIPTextModel of the transformers version of its time, which had a level `text_model`; files from
NovelAI and some later tools, and transformers 5, omit it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor

from dreambooth.families.blueprints import text_blueprint
from dreambooth.families.key_pairs import KeyPair
from dreambooth.families.shapes import TextShape

__all__ = [
    "POSITION_IDS",
    "SDXL_OPEN_CLIP_PREFIX",
    "SDXL_TEXT_PREFIX",
    "TEXT_LEVEL",
    "TEXT_PREFIX",
    "UNUSED_TEXT",
    "canonical_text",
    "original_text",
    "position_ids_note",
    "text_keys",
    "text_names",
]

TEXT_LEVEL = "text_model."
TEXT_PREFIX = f"cond_stage_model.transformer.{TEXT_LEVEL}"
SDXL_TEXT_PREFIX = f"conditioner.embedders.0.transformer.{TEXT_LEVEL}"
SDXL_OPEN_CLIP_PREFIX = "conditioner.embedders.1.model."
POSITION_IDS = "embeddings.position_ids"

_WITHOUT_LEVEL = TEXT_PREFIX.removesuffix(TEXT_LEVEL)
_LEFT_OUT_BY_NOVELAI = {
    f"{prefix.removesuffix(TEXT_LEVEL)}{module}.": prefix
    for prefix in (TEXT_PREFIX, SDXL_TEXT_PREFIX)
    for module in ("embeddings", "encoder", "final_layer_norm")
}
UNUSED_TEXT = tuple(
    f"{_WITHOUT_LEVEL}{name}" for name in ("text_projection.weight", "logit_scale", "text_model.text_projection.weight")
)
"""Tensors of a whole CLIP that no Stable Diffusion 1 uses; ComfyUI writes the first."""


def text_names(names: Iterable[str]) -> tuple[str, ...]:
    """The canonical names of a text encoder, with as many layers as appear in these names (in either naming scheme)."""
    layers = [int(found[1]) + 1 for name in names if (found := re.search(r"encoder\.layers\.(\d\d?)\.", name))]
    return tuple(text_blueprint(TextShape(1, 1, 1, 1, max(layers, default=1))))


def text_keys(names: Iterable[str], prefix: str = TEXT_PREFIX) -> tuple[KeyPair, ...]:
    """The key table of a text encoder with these canonical names."""
    return tuple(KeyPair(prefix + name, name) for name in names)


def original_text(name: str) -> str:
    """`name` with the level that NovelAI's files omit."""
    for start, prefix in _LEFT_OUT_BY_NOVELAI.items():
        if name.startswith(start):
            return prefix + name.removeprefix(prefix.removesuffix(TEXT_LEVEL))
    return name


def canonical_text(name: str) -> str:
    """`name` from a diffusers folder without the level that older files have."""
    return name.removeprefix(TEXT_LEVEL)


def position_ids_note(position_ids: Tensor) -> str:
    """The note for position ids that are not integers, as in pruned files."""
    return f"position_ids are {str(position_ids.dtype).removeprefix('torch.')} instead of int64 and are recreated"
