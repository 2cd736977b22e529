"""A key table: pairs of a name in the original's files and a canonical name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["KeyPair", "Transform", "same_names"]

Transform = Literal["same", "convolution to linear"]
"""What happens to a tensor on the way from the original to the canonical name: nothing, or a 1x1 convolution of (out, in,
1, 1) becomes a linear layer of (out, in). Both directions are views: no bit changes."""


@dataclass(frozen=True)
class KeyPair:
    """One tensor's two names."""

    original: str
    canonical: str
    transform: Transform = "same"


def same_names(canonical: Iterable[str]) -> tuple[KeyPair, ...]:
    """The table of a file that uses the canonical names already."""
    return tuple(KeyPair(name, name) for name in canonical)
