"""Draw the weights of the miniature Stable Diffusion XL again, under the original program's names, in float16 as in real files.

`sdxl_mini_layout.txt` holds names and shapes. Each tensor has a generator of its own, seeded by its name, so that their order
decides nothing. Matrices are normal with variance 1 / fan in (queries and keys of twice the size, so that attention is not
flat), norms lie around one, and biases around zero; no tensor is trivial.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import torch

_LAYOUT = Path(__file__).with_name("sdxl_mini_layout.txt")
_SHARP = ("to_q.weight", "to_k.weight", "q_proj.weight", "k_proj.weight")
_EMBEDDINGS = ("token_embedding.weight", "position_embedding.weight", "positional_embedding")


def rebuild_state_dict() -> dict[str, torch.Tensor]:
    """The tensors of the single file, float16, and the position ids in int64."""
    tensors = {}
    for line in _LAYOUT.read_text(encoding="utf-8").splitlines():
        name, shape = line.split()
        tensors[name] = _tensor(name, tuple(int(size) for size in shape.split("x")) if shape != "-" else ())
    return tensors


def _tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name.endswith("position_ids"):
        return torch.arange(shape[1]).unsqueeze(0)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())), dtype=torch.float64)
    if name.endswith("logit_scale"):
        drawn = drawn + math.log(100)
    elif len(shape) == 1:
        drawn = 0.1 * drawn + (1.0 if name.endswith("weight") else 0.0)
    elif name.endswith(_EMBEDDINGS):
        drawn = 0.3 * drawn
    else:
        drawn = drawn / math.sqrt(math.prod(shape[1:]))
        if name.endswith("in_proj_weight"):
            drawn[: 2 * shape[1]] *= 2
        elif name.endswith(_SHARP):
            drawn = 2 * drawn
    return drawn.to(torch.float16)


def sinusoids(timesteps: torch.Tensor, embedding_dim: int, **choices: object) -> torch.Tensor:
    """In place of diffusers' `get_timestep_embedding`, cosines first: computed in float64 and rounded to float32.

    The original computes them in float32, where torch's exponential differs between processors in the last bit; at timestep 999
    that moves predictions by 1e-5, which would hide everything smaller.
    """
    half = embedding_dim // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
    angles = timesteps[:, None].double() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1).float()
