"""A key table: pairs of a name in the original's files and a canonical name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["KeyPair", "Transform", "packed", "same_names"]

Transform = Literal["same", "convolution to linear", "flat", "transpose"]
"""What happens to a tensor on the way from the original to the canonical name: nothing; a 1x1 convolution of (out, in, 1, 1)
becomes a linear layer of (out, in); axes of length one behind the first, which some programs write, are dropped, and are not
written again; or a matrix of (in, out) becomes one of (out, in). All are views: no bit changes."""


@dataclass(frozen=True)
class KeyPair:
    """One canonical tensor and where a file keeps it."""

    original: str
    canonical: str
    transform: Transform = "same"
    piece: int = 0
    """Which of the equal pieces along the first axis of the file's tensor this is."""
    num_pieces: int = 1


def same_names(canonical: Iterable[str]) -> tuple[KeyPair, ...]:
    """The table of a file that uses the canonical names already."""
    return tuple(KeyPair(name, name) for name in canonical)


def packed(original: str, canonical: Sequence[str]) -> tuple[KeyPair, ...]:
    """Pairs for a tensor of the file that holds several canonical ones of equal shape, one behind the other."""
    return tuple(KeyPair(original, name, piece=piece, num_pieces=len(canonical)) for piece, name in enumerate(canonical))
