"""Draw the weights of two miniatures again, whose results the original programs computed: see README.md.

A part of a model has a stream of random numbers of its own, and its tensors are drawn in the order of their names. Matrices are
normal with variance 1 / fan in, queries and keys larger so that attention is not flat, norms lie around one and biases around
zero. Names and shapes are in `*_layout.txt`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).parent
STREAMS: Mapping[str, Mapping[str, int]] = {
    "v1b": {"model.diffusion_model.": 20261129, "first_stage_model.": 20261130, "cond_stage_model.": 20261131},
    "xl": {
        "model.diffusion_model.": 20261202,
        "first_stage_model.": 20261203,
        "conditioner.embedders.0.": 20261204,
        "conditioner.embedders.1.": 20261205,
    },
}
_LOGIT_SCALE = math.log(1 / 0.07)
_FACTORS = {
    ("to_q.weight", "to_k.weight"): 2.0,
    ("q_proj.weight", "k_proj.weight"): 1.5,
    ("diffusion_model.out.2.weight",): 0.5,
}
_DEVIATIONS = {("position_embedding.weight", "positional_embedding"): 0.1, ("token_embedding.weight",): 0.3}


def rebuild_state_dict(model: str) -> dict[str, Tensor]:
    """The tensors of the file of "v1b" or "xl": of float32 weights, or of float16 ones as in published files."""
    shapes = {}
    for line in (FOLDER / f"{model}_layout.txt").read_text(encoding="utf-8").splitlines():
        name, shape = line.split()
        shapes[name] = tuple(int(size) for size in shape.split("x")) if shape != "-" else ()
    drawn = {name: tensor for prefix, seed in STREAMS[model].items() for name, tensor in _part(shapes, prefix, seed).items()}
    short = {name: tensor.half() for name, tensor in drawn.items()} if model == "xl" else drawn
    positions = torch.arange(77).unsqueeze(0)
    return {name: positions if name.endswith("position_ids") else short[name] for name in shapes}


def _part(shapes: Mapping[str, tuple[int, ...]], prefix: str, seed: int) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    names = sorted(name for name in shapes if name.startswith(prefix) and not name.endswith("position_ids"))
    return {name: _tensor(name, torch.randn(shapes[name], generator=stream)) for name in names}


def _tensor(name: str, drawn: Tensor) -> Tensor:
    for ends, deviation in _DEVIATIONS.items():
        if name.endswith(ends):
            return drawn * deviation
    if name.endswith("logit_scale"):
        return torch.tensor(_LOGIT_SCALE)
    rows = len(drawn)
    if drawn.dim() == 1:
        vector = 1 + 0.1 * drawn if name.endswith("weight") else 0.1 * drawn
        if name.endswith(".quant_conv.bias"):
            vector[rows // 2 :] -= 4  # log-variances about -4
        return vector
    drawn = drawn / math.sqrt(math.prod(drawn.shape[1:]))
    if name.endswith(".quant_conv.weight"):
        drawn[rows // 2 :] *= 0.1
    if name.endswith("in_proj_weight"):
        drawn[: rows // 3 * 2] *= 1.5
    for ends, factor in _FACTORS.items():
        if name.endswith(ends):
            return drawn * factor
    return drawn
