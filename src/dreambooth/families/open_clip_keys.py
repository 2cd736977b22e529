"""OpenCLIP text encoders: `transformer.resblocks.4.ln_1.weight` in a single file is `encoder.layers.4.layer_norm1.weight` here.

OpenCLIP keeps the three projections of an attention in one tensor, in the order query, key, value, and multiplies by its text
projection from the right, so that the matrix is the transpose of a linear layer's. `logit_scale` belongs to its training and is
kept only to be written again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from dreambooth.families.blueprints import text_blueprint
from dreambooth.families.key_pairs import KeyPair, packed
from dreambooth.families.shapes import Shape, TextShape

__all__ = [
    "LOGIT_SCALE",
    "SD2_TEXT_PREFIX",
    "TEXT_PROJECTION",
    "UNUSED",
    "open_clip_keys",
    "open_clip_names",
    "penultimate_keys",
    "unused_blueprint",
    "with_unused",
]

TEXT_PROJECTION = "text_projection.weight"
LOGIT_SCALE = "logit_scale"
SD2_TEXT_PREFIX = "cond_stage_model.model."
UNUSED = "unused."
"""Before the canonical names of tensors that no module has: in Stable Diffusion 2, what comes after the penultimate layer."""

_NUM_LAYERS = 24  # of OpenCLIP-H

_WHOLE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
    LOGIT_SCALE: "logit_scale",
}
_LEAVES = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_PACKED = ("q_proj", "k_proj", "v_proj")
_LAYER = re.compile(r"encoder\.layers\.(?P<layer>\d+)\.(?P<leaf>.+)\.(?P<kind>weight|bias)")
_RESBLOCK = re.compile(r"(?:resblocks|encoder\.layers)\.(\d\d?)\.")


def open_clip_names(names: Iterable[str]) -> tuple[str, ...]:
    """The canonical names of a text encoder with as many layers as appear in these names (in either naming scheme)."""
    layers = [int(found[1]) + 1 for name in names if (found := _RESBLOCK.search(name))]
    return (*text_blueprint(TextShape(1, 1, 1, 1, max(layers, default=1))), TEXT_PROJECTION, LOGIT_SCALE)


def open_clip_keys(names: Iterable[str], prefix: str) -> tuple[KeyPair, ...]:
    """The key table of a text encoder with these canonical names, whose names in a single file begin with `prefix`."""
    return tuple(pair for name in names for pair in _pairs(name, prefix))


def penultimate_keys(names: Iterable[str], prefix: str = SD2_TEXT_PREFIX) -> tuple[KeyPair, ...]:
    """The key table of a text encoder whose states are those of the layer before the last one; `names` are a file's.

    The last layer, the projection and the scale are never used. A file that some converters made of a diffusers folder has
    none of them, so its last layer is a used one.
    """
    listed = [name.removeprefix(prefix) for name in names]
    canonical = open_clip_names(listed)
    num_layers = 1 + max(int(found["layer"]) for name in canonical if (found := _LAYER.fullmatch(name)))
    is_whole = num_layers >= _NUM_LAYERS or not {"text_projection", "logit_scale"}.isdisjoint(listed)
    return with_unused(canonical, prefix, num_used=num_layers - is_whole)


def with_unused(names: Sequence[str], prefix: str, *, num_used: int) -> tuple[KeyPair, ...]:
    """The key table of a text encoder of which only the first `num_used` layers and the final norm are used."""
    last = f"encoder.layers.{num_used}."
    return tuple(
        replace(pair, canonical=UNUSED + pair.canonical.removeprefix(last))
        if pair.canonical.startswith((last, TEXT_PROJECTION, LOGIT_SCALE))
        else pair
        for pair in open_clip_keys(names, prefix)
    )


def unused_blueprint(shape: TextShape) -> dict[str, Shape]:
    """Names and shapes of the tensors beyond the used layers: those of one more layer, the projection and the scale."""
    last = f"encoder.layers.{shape.num_layers}."
    one_more = text_blueprint(replace(shape, num_layers=shape.num_layers + 1))
    layer = {UNUSED + name.removeprefix(last): size for name, size in one_more.items() if name.startswith(last)}
    return {**layer, UNUSED + TEXT_PROJECTION: (shape.width, shape.width), UNUSED + LOGIT_SCALE: ()}


def _pairs(name: str, prefix: str) -> Iterator[KeyPair]:
    if name == TEXT_PROJECTION:
        yield KeyPair(f"{prefix}text_projection", name, "transpose")
    elif name in _WHOLE:
        yield KeyPair(prefix + _WHOLE[name], name)
    elif found := _LAYER.fullmatch(name):
        block, kind = f"{prefix}transformer.resblocks.{found['layer']}", found["kind"]
        if found["leaf"] in _LEAVES:
            yield KeyPair(f"{block}.{_LEAVES[found['leaf']]}.{kind}", name)
        elif found["leaf"] == f"self_attn.{_PACKED[0]}":  # the names of a layer's other two projections follow from this one
            attention = f"encoder.layers.{found['layer']}.self_attn"
            yield from packed(f"{block}.attn.in_proj_{kind}", [f"{attention}.{one}.{kind}" for one in _PACKED])
