"""The two naming schemes of the VAE: `first_stage_model.decoder.up.3.block.0.conv1` and `decoder.up_blocks.0.resnets.0.conv1`.

The original numbers the decoder's levels from the largest resolution, diffusers in the order in which they run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dreambooth.families.key_pairs import KeyPair, Transform
from dreambooth.families.shapes import VaeShape

__all__ = [
    "VAE_PREFIX",
    "VaeLayout",
    "canonical_attention",
    "canonical_vae_keys",
    "original_attention",
    "vae_keys",
    "vae_layout",
]

VAE_PREFIX = "first_stage_model."

_RESIDUAL = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_OLD_ATTENTION = {"query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"}  # diffusers before 0.15
_ANY_ATTENTION = {
    **{name: name for name in _ATTENTION},
    **{canonical: original for original, canonical in _ATTENTION.items()},
    **_OLD_ATTENTION,
}
_ATTENTION_NAME = re.compile(
    rf"(?P<module>.*\.(?:attn_1|attentions\.0))\.(?P<leaf>{'|'.join(map(re.escape, _ANY_ATTENTION))})\.(?P<kind>weight|bias)"
)


@dataclass(frozen=True)
class VaeLayout:
    """The numbers that determine the names."""

    num_levels: int
    num_layers: int

    @classmethod
    def of(cls, shape: VaeShape) -> VaeLayout:
        """The layout for a VAE's shape."""
        return cls(len(shape.widths), shape.num_layers)


def vae_layout(names: Iterable[str]) -> VaeLayout:
    """The layout of the VAE whose tensors have these original names."""
    pattern = re.compile(rf"{re.escape(VAE_PREFIX)}encoder\.down\.(\d\d?)\.block\.(\d\d?)\.")
    places = [(int(found[1]), int(found[2])) for name in names if (found := pattern.match(name))]
    return VaeLayout(
        num_levels=max((level + 1 for level, _ in places), default=1),
        num_layers=max((layer + 1 for _, layer in places), default=1),
    )


def original_attention(name: str) -> str:
    """`name` with any spelling of an attention leaf replaced by the original's (`q`, `proj_out`, ...)."""
    found = _ATTENTION_NAME.fullmatch(name)
    return f"{found['module']}.{_ANY_ATTENTION[found['leaf']]}.{found['kind']}" if found else name


def canonical_attention(name: str) -> str:
    """`name` with any spelling of an attention leaf replaced by the canonical one (`to_q`, `to_out.0`, ...)."""
    found = _ATTENTION_NAME.fullmatch(name)
    return f"{found['module']}.{_ATTENTION[_ANY_ATTENTION[found['leaf']]]}.{found['kind']}" if found else name


def vae_keys(layout: VaeLayout) -> tuple[KeyPair, ...]:
    """The key table of a VAE; it has a pair for every shortcut, although only blocks that change the width have one."""
    return tuple(_pairs(layout))


def canonical_vae_keys(names: Iterable[str]) -> tuple[KeyPair, ...]:
    """The key table of a VAE whose tensors have canonical names, with any spelling of the attention."""
    return tuple(KeyPair(name, name, _transform(name)) for name in dict.fromkeys(map(canonical_attention, names)))


def _pairs(layout: VaeLayout) -> Iterator[KeyPair]:
    for original, canonical in _modules(layout):
        for leaf in ("weight", "bias"):
            name = f"{canonical}.{leaf}"
            yield KeyPair(f"{VAE_PREFIX}{original}.{leaf}", name, _transform(name))


def _transform(canonical: str) -> Transform:
    """In the original, the projections around the VAE's attention are 1x1 convolutions; in some files, biases have axes too."""
    found = _ATTENTION_NAME.fullmatch(canonical)
    if found is None or found["leaf"] == "group_norm":
        return "same"
    return "convolution to linear" if found["kind"] == "weight" else "flat"


def _modules(layout: VaeLayout) -> Iterator[tuple[str, str]]:
    last = layout.num_levels - 1
    for level in range(layout.num_levels):
        down = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
        up = f"decoder.up.{level}", f"decoder.up_blocks.{last - level}"
        for layer in range(layout.num_layers):
            yield from _residual(f"{down[0]}.block.{layer}", f"{down[1]}.resnets.{layer}")
        for layer in range(layout.num_layers + 1):
            yield from _residual(f"{up[0]}.block.{layer}", f"{up[1]}.resnets.{layer}")
        if level < last:
            yield f"{down[0]}.downsample.conv", f"{down[1]}.downsamplers.0.conv"
        if level > 0:
            yield f"{up[0]}.upsample.conv", f"{up[1]}.upsamplers.0.conv"
    for half in ("encoder", "decoder"):
        yield f"{half}.conv_in", f"{half}.conv_in"
        yield from _residual(f"{half}.mid.block_1", f"{half}.mid_block.resnets.0")
        for theirs, ours in _ATTENTION.items():
            yield f"{half}.mid.attn_1.{theirs}", f"{half}.mid_block.attentions.0.{ours}"
        yield from _residual(f"{half}.mid.block_2", f"{half}.mid_block.resnets.1")
        yield f"{half}.norm_out", f"{half}.conv_norm_out"
        yield f"{half}.conv_out", f"{half}.conv_out"
    yield "quant_conv", "quant_conv"
    yield "post_quant_conv", "post_quant_conv"


def _residual(original: str, canonical: str) -> Iterator[tuple[str, str]]:
    return ((f"{original}.{theirs}", f"{canonical}.{ours}") for theirs, ours in _RESIDUAL.items())
