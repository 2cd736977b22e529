"""Classifier-free guidance."""

from __future__ import annotations

from torch import Tensor

__all__ = ["guide"]


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Guided eps = eps_u + s (eps_c - eps_u) (Ho and Salimans, arXiv 2207.12598, eq. 6 with s = 1 + w).

    s = 1 means no guidance. A guided velocity is that of the guided noise: at one x_t, each is linear in the other.
    """
    return unconditional + scale * (conditional - unconditional)
