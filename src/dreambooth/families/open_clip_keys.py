"""OpenCLIP text encoders: `transformer.resblocks.4.ln_1.weight` in a single file is `encoder.layers.4.layer_norm1.weight` here.

OpenCLIP keeps the three projections of an attention in one tensor, in the order query, key, value, and multiplies by its text
projection from the right, so that the matrix is the transpose of a linear layer's. `logit_scale` belongs to its training and is
kept only to be written again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from dreambooth.families.blueprints import text_blueprint
from dreambooth.families.key_pairs import KeyPair, packed
from dreambooth.families.shapes import TextShape

__all__ = ["LOGIT_SCALE", "TEXT_PROJECTION", "open_clip_keys", "open_clip_names"]

TEXT_PROJECTION = "text_projection.weight"
LOGIT_SCALE = "logit_scale"

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
