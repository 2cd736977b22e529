"""A key table: pairs of a name in the original's files and a canonical name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["KeyPair", "Transform", "packed", "same_names"]

Transform = Literal["same", "convolution to linear", "flat", "transpose"]
"""Conversion of a tensor from the original to the canonical name: none; a 1x1 convolution of (out, in, 1, 1) to a linear layer
of (out, in); dropping axes of length one after the first, which some programs write and which are not written again; or a
matrix of (in, out) to one of (out, in). All are views: no bit changes."""


@dataclass(frozen=True)
class KeyPair:
    """A canonical tensor and its location in a file."""

    original: str
    canonical: str
    transform: Transform = "same"
    piece: int = 0
    """Index of this piece, if the file's tensor is split into equal pieces along its first axis."""
    num_pieces: int = 1


def same_names(canonical: Iterable[str]) -> tuple[KeyPair, ...]:
    """The table of a file that already uses canonical names."""
    return tuple(KeyPair(name, name) for name in canonical)


def packed(original: str, canonical: Sequence[str]) -> tuple[KeyPair, ...]:
    """Pairs for a tensor of the file that holds several canonical tensors of equal shape, concatenated."""
    return tuple(KeyPair(original, name, piece=piece, num_pieces=len(canonical)) for piece, name in enumerate(canonical))
