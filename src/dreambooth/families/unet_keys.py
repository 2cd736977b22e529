"""The two UNet naming schemes: `model.diffusion_model.input_blocks.4.1.proj_in` and `down_blocks.1.attentions.0.proj_in`.

The original numbers the blocks of all levels consecutively: `input_blocks.0` is the first convolution, followed by each
level's residual blocks (`.0`), with attention (`.1`) if the level has any, and a downsampling block.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from dreambooth.families.key_pairs import KeyPair
from dreambooth.families.shapes import UNetShape

__all__ = ["AVERAGE_PREFIX", "UNET_PREFIX", "UNetLayout", "average_keys", "unet_keys", "unet_layout"]

UNET_PREFIX = "model.diffusion_model."
AVERAGE_PREFIX = "model_ema."

_ENDS = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_TRANSFORMER_BLOCK = (
    *(f"attn{number}.{leaf}" for number in (1, 2) for leaf in ("to_q", "to_k", "to_v", "to_out.0")),
    *("ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3"),
)


@dataclass(frozen=True)
class UNetLayout:
    """The numbers that determine the names."""

    num_layers: int
    depths: tuple[int, ...]
    middle_depth: int

    @classmethod
    def of(cls, shape: UNetShape) -> UNetLayout:
        """The layout for a UNet's shape."""
        return cls(shape.num_layers, shape.depths, shape.middle_depth)


def unet_layout(names: Iterable[str]) -> UNetLayout:
    """The layout of the UNet whose tensors have these original names."""
    listed = [name.removeprefix(UNET_PREFIX) for name in names if name.startswith(UNET_PREFIX)]
    rows = {int(found[1]) for name in listed if (found := re.match(r"input_blocks\.(\d\d?)\.", name))}
    downsamplers = {int(found[1]) for name in listed if (found := re.match(r"input_blocks\.(\d\d?)\.0\.op\.", name))}
    # Level k ends with downsampling in row k * rows_of_level: one missing tensor does not change the divisor. Numbers have at
    # most two digits, so a file cannot claim a billion blocks.
    rows_of_level = math.gcd(*downsamplers) or max(rows, default=0) + 1
    num_levels = max(downsamplers, default=0) // rows_of_level + 1
    depths = []
    for level in range(num_levels):
        level_rows = "|".join(str(row) for row in range(level * rows_of_level, (level + 1) * rows_of_level))
        depths.append(_depth(listed, rf"input_blocks\.({level_rows})\.1\."))
    return UNetLayout(rows_of_level - 1, tuple(depths), _depth(listed, r"middle_block\.1\."))


def _depth(names: list[str], start: str) -> int:
    pattern = re.compile(rf"{start}transformer_blocks\.(?P<block>\d\d?)\.")
    return max((int(found["block"]) + 1 for name in names if (found := pattern.match(name))), default=0)


def unet_keys(layout: UNetLayout) -> tuple[KeyPair, ...]:
    """The key table of a UNet; it has a pair for every shortcut, although only blocks that change the width have one, and for
    the embedding of the vector that only some families add.
    """
    return tuple(
        KeyPair(f"{UNET_PREFIX}{original}.{leaf}", f"{canonical}.{leaf}")
        for original, canonical in _modules(layout)
        for leaf in ("weight", "bias")
    )


def average_keys(pairs: Sequence[KeyPair]) -> tuple[KeyPair, ...]:
    """The table for the moving average of the same weights: its names keep only the first dot."""
    return tuple(
        replace(pair, original=AVERAGE_PREFIX + pair.original.removeprefix("model.").replace(".", "")) for pair in pairs
    )


def _modules(layout: UNetLayout) -> Iterator[tuple[str, str]]:
    num_levels, num_layers = len(layout.depths), layout.num_layers
    yield from _ENDS.items()
    row = 1
    for level, depth in enumerate(layout.depths):
        for layer in range(num_layers):
            yield from _block(f"input_blocks.{row}", f"down_blocks.{level}", layer, depth)
            row += 1
        if level < num_levels - 1:
            yield f"input_blocks.{row}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
            row += 1
    yield from _residual("middle_block.0", "mid_block.resnets.0")
    yield from _transformer("middle_block.1", "mid_block.attentions.0", layout.middle_depth)
    yield from _residual("middle_block.2", "mid_block.resnets.1")
    row = 0
    for block, depth in enumerate(reversed(layout.depths)):
        for layer in range(num_layers + 1):
            yield from _block(f"output_blocks.{row}", f"up_blocks.{block}", layer, depth)
            row += 1
        if block < num_levels - 1:  # after the last residual block of the level and its attention
            yield f"output_blocks.{row - 1}.{2 if depth else 1}.conv", f"up_blocks.{block}.upsamplers.0.conv"


def _block(original: str, canonical: str, layer: int, depth: int) -> Iterator[tuple[str, str]]:
    yield from _residual(f"{original}.0", f"{canonical}.resnets.{layer}")
    if depth:
        yield from _transformer(f"{original}.1", f"{canonical}.attentions.{layer}", depth)


def _residual(original: str, canonical: str) -> Iterator[tuple[str, str]]:
    return ((f"{original}.{theirs}", f"{canonical}.{ours}") for theirs, ours in _RESIDUAL.items())


def _transformer(original: str, canonical: str, depth: int) -> Iterator[tuple[str, str]]:
    leaves = [f"transformer_blocks.{block}.{leaf}" for block in range(depth) for leaf in _TRANSFORMER_BLOCK]
    return ((f"{original}.{leaf}", f"{canonical}.{leaf}") for leaf in ("norm", "proj_in", *leaves, "proj_out"))
