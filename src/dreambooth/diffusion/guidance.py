"""Classifier-free guidance."""

from __future__ import annotations

from torch import Tensor

__all__ = ["guide"]


def guide(eps_unconditional: Tensor, eps_conditional: Tensor, scale: float) -> Tensor:
    """Guided eps = eps_u + s (eps_c - eps_u) (Ho and Salimans, arXiv 2207.12598, eq. 6 with s = 1 + w).

    s = 1 means no guidance.
    """
    return eps_unconditional + scale * (eps_conditional - eps_unconditional)
