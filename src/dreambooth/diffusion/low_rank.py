"""Small changes of a weight matrix: the products that LoRA and related methods train instead of the matrix itself.

LoRA (Hu et al., arXiv 2106.09685) adds (alpha / rank) B A to a weight W; DoRA (Liu et al., arXiv 2402.09353) also trains
the norm of each output row. A convolution's weight counts as a matrix whose columns are the inputs of all its positions. LoHa
(Hyeon-Woo et al., arXiv 2108.06098) and LoKr (Yeh et al., arXiv 2309.14859) build the difference from elementwise and Kronecker
products.

Everything is computed in float32. Shapes: O outputs, I inputs, K positions of a convolution's kernel, R the rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Change", "Difference", "Hadamard", "Kronecker", "LowRank", "Whole", "row_norms"]


class Difference(Protocol):
    """A difference between two values of a weight."""

    @property
    def rank(self) -> int | None:
        """Its rank, or None if it has no small rank."""

    def of_shape(self, shape: torch.Size) -> Tensor:
        """The difference with the shape of the weight, in float32. Raises ValueError if it has other sizes."""

    def squared_norm(self) -> float:
        """The sum of the squares of its numbers."""


@dataclass(frozen=True)
class LowRank:
    """(alpha / R) B A."""

    down: Tensor
    """A, (R, I), or (R, I, K, K) for a convolution."""
    up: Tensor
    """B, (O, R), or (O, R, 1, 1)."""
    alpha: float
    middle: Tensor | None = None
    """Kernel (R, R, K, K) between the two, if `down` and `up` have none (a Tucker decomposition)."""

    @property
    def rank(self) -> int:
        """Rows of `down`."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """Factor of the product."""
        return self.alpha / self.rank

    def of_shape(self, shape: torch.Size) -> Tensor:
        """The difference with the shape of the weight, in float32. Raises ValueError if it has other sizes."""
        if self.middle is None:
            product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        else:
            product = _tucker(self.middle, self.up.flatten(1).mT, self.down.flatten(1))
        return _shaped(self.scale * product, shape)

    def squared_norm(self) -> float:
        """The sum of the squares of its numbers."""
        if self.middle is not None:
            return self.scale**2 * _squares(_tucker(self.middle, self.up.flatten(1).mT, self.down.flatten(1)))
        down_RI, up_OR = self.down.float().flatten(1), self.up.float().flatten(1)
        return self.scale**2 * float(torch.sum((up_OR.mT @ up_OR) * (down_RI @ down_RI.mT)))  # no product of full size


@dataclass(frozen=True)
class Hadamard:
    """LoHa: the elementwise product of two products of low rank, times alpha / R."""

    first: tuple[Tensor, Tensor]
    """(O, R) and (R, I K K); with a kernel (R, O) and (R, I)."""
    second: tuple[Tensor, Tensor]
    alpha: float
    kernels: tuple[Tensor, Tensor] | None = None
    """(R, R, K, K) of each."""

    @property
    def rank(self) -> int:
        """Rank of either product; that of the difference is up to its square."""
        return self.first[1].shape[0]

    def of_shape(self, shape: torch.Size) -> Tensor:
        """The difference with the shape of the weight, in float32. Raises ValueError if it has other sizes."""
        return _shaped(self._product(), shape)

    def squared_norm(self) -> float:
        """The sum of the squares of its numbers."""
        return _squares(self._product())

    def _product(self) -> Tensor:
        pairs = (self.first, self.second)
        if self.kernels is None:
            one, other = (a.float().flatten(1) @ b.float().flatten(1) for a, b in pairs)
        else:
            one, other = (_tucker(kernel, *pair) for kernel, pair in zip(self.kernels, pairs, strict=True))
        return self.alpha / self.rank * one * other


@dataclass(frozen=True)
class Kronecker:
    """LoKr: the Kronecker product of a small matrix and a larger one, each of which may be a product of low rank."""

    first: Tensor | tuple[Tensor, Tensor]
    """A matrix, or its two factors."""
    second: Tensor | tuple[Tensor, Tensor]
    alpha: float
    """Has an effect only if one of the two is a product."""
    kernel: Tensor | None = None
    """(R, R, K, K) of the second one's factors, then (R, O) and (R, I)."""

    @property
    def rank(self) -> int | None:
        """Rank of the factors."""
        ranks = [pair[1].shape[0] for pair in (self.second, self.first) if isinstance(pair, tuple)]
        return ranks[0] if ranks else None

    def of_shape(self, shape: torch.Size) -> Tensor:
        """The difference with the shape of the weight, in float32. Raises ValueError if it has other sizes."""
        first, second = self._factors()
        first = first.reshape(*first.shape, *[1] * (second.ndim - first.ndim))
        return _shaped(self._scale * torch.kron(first, second), shape)

    def squared_norm(self) -> float:
        """The sum of the squares of its numbers."""
        first, second = self._factors()
        return self._scale**2 * _squares(first) * _squares(second)

    @property
    def _scale(self) -> float:
        return 1.0 if self.rank is None else self.alpha / self.rank

    def _factors(self) -> tuple[Tensor, Tensor]:
        if self.kernel is None:
            return _matrix(self.first), _matrix(self.second)
        assert isinstance(self.second, tuple)
        return _matrix(self.first), _tucker(self.kernel, *self.second)


@dataclass(frozen=True)
class Whole:
    """A difference that is stored as it is."""

    difference: Tensor
    rank: None = field(default=None, init=False)

    def of_shape(self, shape: torch.Size) -> Tensor:
        """The difference with the shape of the weight, in float32. Raises ValueError if it has other sizes."""
        return _shaped(self.difference.float(), shape)

    def squared_norm(self) -> float:
        """The sum of the squares of its numbers."""
        return _squares(self.difference)


@dataclass(frozen=True)
class Change:
    """A change of one weight: a difference, and with DoRA the norm of each output row (or input column) afterwards."""

    difference: Difference
    magnitude: Tensor | None = None
    """The norms: one number for each output, or a row (1, I) of one for each input."""
    strength_is_inside: bool = False
    """Whether strength scales the difference before the norms are set (PEFT), or blends the two weights (other programs)."""

    def changed(self, weight: Tensor, strength: float) -> Tensor:
        """The weight with the change at a strength, in float32. Raises ValueError if the change has other sizes."""
        weight, difference = weight.float(), self.difference.of_shape(weight.shape)
        if self.magnitude is None:
            return weight + strength * difference
        moved = weight + (strength if self.strength_is_inside else 1.0) * difference
        of_columns = self.magnitude.ndim > 1 and self.magnitude.shape[0] == 1 != weight.shape[0]
        norms = row_norms(moved.transpose(0, 1)).transpose(0, 1) if of_columns else row_norms(moved)
        changed = moved * _shaped(self.magnitude.float(), norms.shape) / norms
        return changed if self.strength_is_inside or strength == 1 else weight + strength * (changed - weight)


def row_norms(weight: Tensor) -> Tensor:
    """The norm of every output's weights, (O, 1, ...) with as many axes as the weight."""
    norms: Tensor = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
    return norms


def _tucker(kernel_RRKK: Tensor, rows_RO: Tensor, columns_RI: Tensor) -> Tensor:
    return torch.einsum("ijkl,ip,jr->prkl", kernel_RRKK.float(), rows_RO.float(), columns_RI.float())


def _squares(tensor: Tensor) -> float:
    return float(tensor.float().square().sum())


def _matrix(stored: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    return stored.float() if isinstance(stored, Tensor) else stored[0].float() @ stored[1].float().flatten(1)


def _shaped(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Linear layers and 1x1 convolutions are the same matrix; nothing else is reshaped into another layer."""
    found = tensor.shape
    same_rows = shape[:1] == found[:1] and tensor.numel() == math.prod(shape)
    if not same_rows or (len(found) > 2 and len(shape) > 2 and found[1:] != shape[1:]):
        raise ValueError(f"{tuple(found)} does not fit {tuple(shape)}")
    return tensor.reshape(shape)
