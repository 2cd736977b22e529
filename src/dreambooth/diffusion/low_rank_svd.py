"""Low-rank matrices from a difference, and from each other, by singular values (Eckart and Young, 1936).

Of all products of a given rank, the one from the largest singular values is the nearest to a matrix. What it keeps is told as a
share of the energy of the matrix, the sum of its squared entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dreambooth.diffusion.low_rank import LowRank
from dreambooth.diffusion.randomness import seeded

__all__ = ["Approximation", "concatenated", "nearest_of_rank", "resized"]

_MARGIN = 16  # columns beyond the rank; with these and the iterations the error is that of the best product to 1e-3
_ITERATIONS = 6
_MUCH_SMALLER = 4  # from here on, finding few singular values is quicker than finding all


@dataclass(frozen=True)
class Approximation:
    """A product of low rank, and what it keeps of a matrix."""

    pair: LowRank
    """Its alpha is its rank."""
    kept: float
    """Squared norm of the product."""
    energy: float
    """Squared norm of the matrix."""


def nearest_of_rank(difference: Tensor, rank: int | None, *, energy: float = 1.0) -> Approximation:
    """The nearest product of `rank` to a weight's difference; None takes the smallest rank that keeps the share `energy`.

    Both matrices get the square roots of the singular values, so that neither is too small for a short number format.
    """
    matrix, smallest = difference.float().flatten(1), min(difference.shape[0], difference[0].numel())
    whole = float(matrix.square().sum())
    if rank is not None and _MUCH_SMALLER * (rank + _MARGIN) < smallest:
        with seeded(0):
            left, values, right = torch.svd_lowrank(matrix, q=rank + _MARGIN, niter=_ITERATIONS)
        right = right.mT
    else:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return _cut(left, values, right, rank, energy, whole=whole, kernel=difference.shape[2:])


def resized(pair: LowRank, rank: int | None, *, energy: float = 1.0) -> Approximation:
    """The nearest product of another rank to that of a pair, without computing the product of full size."""
    up_q, up_r = torch.linalg.qr(pair.up.float().flatten(1))
    down_q, down_r = torch.linalg.qr(pair.down.float().flatten(1).mT)
    core = pair.scale * up_r @ down_r.mT
    left, values, right = torch.linalg.svd(core)
    whole = float(core.square().sum())
    return _cut(up_q @ left, values, right @ down_q.mT, rank, energy, whole=whole, kernel=pair.down.shape[2:])


def concatenated(pairs: Sequence[tuple[LowRank, float]]) -> LowRank:
    """The sum of products, each times its ratio, exactly: their ranks add up. Raises ValueError for pairs of other sizes."""
    downs = [pair.down.float() for pair, _ in pairs]
    ups = [ratio * pair.scale * pair.up.float() for pair, ratio in pairs]
    if len({down.shape[1:] for down in downs}) > 1 or len({up.shape[0] for up in ups}) > 1:
        raise ValueError(f"layers of {', '.join(str(tuple(down.shape[1:])) for down in downs)} inputs do not add up")
    down, up = torch.cat(downs), torch.cat(ups, dim=1)
    return LowRank(down, up, alpha=float(down.shape[0]))


def _cut(
    left: Tensor, values: Tensor, right: Tensor, rank: int | None, energy: float, *, whole: float, kernel: torch.Size
) -> Approximation:
    squares = values.double().square()
    if rank is None:
        reached = torch.cumsum(squares, 0) >= energy * whole * (1 - 1e-6)
        rank = int(reached.double().argmax()) + 1 if bool(reached.any()) else len(values)
    rank = max(1, min(rank, len(values)))
    roots = values[:rank].sqrt()
    down, up = roots[:, None] * right[:rank], left[:, :rank] * roots
    inputs = right.shape[1] // kernel.numel()
    pair = LowRank(
        down.reshape(rank, inputs, *kernel).contiguous(), up.reshape(-1, rank, *[1] * len(kernel)).contiguous(), float(rank)
    )
    return Approximation(pair, min(float(squares[:rank].sum()), whole), whole)
