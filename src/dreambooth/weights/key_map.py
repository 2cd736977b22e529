"""One engine that renames tensors between two namings, in both directions, and drops nothing silently.

A key table is a list of pairs (name in the original's files, canonical name); reading and writing go through the same table.
Several pairs may share an original name: its tensor then holds theirs one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.families.key_pairs import KeyPair, Transform
from dreambooth.families.shapes import Shape, StateDict

__all__ = ["MappedPart", "check_parts", "find_tensors", "restore_names"]

_LISTED_KEYS = 12  # a list of problems that fits a screen


@dataclass(frozen=True)
class MappedPart:
    """One part of a model (UNet, VAE, text encoder) as found in a file."""

    title: str
    path: Path
    tensors: dict[str, Tensor]
    """By canonical name."""
    names: dict[str, str]
    """Canonical name to the name in the file; for a tensor that is missing, the name it would have."""
    leftover: tuple[str, ...]
    """Names in the file that belong to no pair."""


def find_tensors(
    title: str, path: Path, tensors: StateDict, pairs: Sequence[KeyPair], *, spelling: Callable[[str], str] = lambda name: name
) -> MappedPart:
    """Take every tensor of one part out of a file.

    `spelling` turns an older spelling of a name into the table's own. When two spellings of one name are present, the first
    is taken and the second is left over.
    """
    by_original = _grouped(pairs)
    names = {pair.canonical: pair.original for pair in pairs}
    found: dict[str, Tensor] = {}
    leftover = []
    for name, tensor in tensors.items():
        of_tensor = by_original.get(spelling(name), [])
        if not of_tensor or of_tensor[0].canonical in found:
            leftover.append(name)
            continue
        for pair in of_tensor:
            found[pair.canonical] = _to_canonical(_piece(tensor, pair), pair.transform)
            names[pair.canonical] = name
    return MappedPart(title, path, found, names, tuple(leftover))


def restore_names(tensors: StateDict, pairs: Sequence[KeyPair]) -> dict[str, Tensor]:
    """The tensors under the original's names, in the order of the table; the exact reverse of `find_tensors`.

    Raises ModelFileError when a tensor has no name in the table, or a tensor of the file lacks some of its pieces.
    """
    unknown = set(tensors) - {pair.canonical for pair in pairs}
    if unknown:
        raise ModelFileError(_shortened([f"{name} has no name in the original format" for name in sorted(unknown)]))
    present = {
        original: of_tensor
        for original, of_tensor in _grouped(pairs).items()
        if any(pair.canonical in tensors for pair in of_tensor)
    }
    missing = [
        f"{pair.canonical} is missing, but {original} of the original format needs it too"
        for original, of_tensor in present.items()
        for pair in of_tensor
        if pair.canonical not in tensors
    ]
    if missing:
        raise ModelFileError(_shortened(missing))
    return {
        original: _joined([_to_original(tensors[pair.canonical], pair.transform) for pair in of_tensor])
        for original, of_tensor in present.items()
    }


def check_parts(parts: Sequence[tuple[MappedPart, Mapping[str, Shape]]], *, hint: str) -> None:
    """Raise one ModelFileError that lists every missing tensor and every wrong shape of all parts.

    Each part comes with its blueprint, canonical name to shape. Long lists are cut and say how much was cut.
    """
    missing = [
        f"{part.path}: {part.names.get(name, name)} is missing ({part.title}, expected shape {shape})"
        for part, blueprint in parts
        for name, shape in blueprint.items()
        if name not in part.tensors
    ]
    wrong = [
        f"{part.path}: {part.names[name]} has shape {tuple(part.tensors[name].shape)}, expected {shape} ({part.title})"
        for part, blueprint in parts
        for name, shape in blueprint.items()
        if name in part.tensors and tuple(part.tensors[name].shape) != shape
    ]
    if missing or wrong:
        raise ModelFileError([*_shortened(missing), *_shortened(wrong)], hint=hint)


def _shortened(problems: list[str]) -> list[str]:
    hidden = len(problems) - _LISTED_KEYS
    return problems if hidden <= 0 else [*problems[:_LISTED_KEYS], f"... and {hidden} more"]


def _grouped(pairs: Sequence[KeyPair]) -> dict[str, list[KeyPair]]:
    """All pairs of each tensor of a file, in the order of the table and of the pieces."""
    grouped: dict[str, list[KeyPair]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.piece):
        grouped.setdefault(pair.original, []).append(pair)
    return {pair.original: grouped[pair.original] for pair in pairs}


def _piece(tensor: Tensor, pair: KeyPair) -> Tensor:
    """A view. Pieces of a tensor that cannot be cut evenly have shapes that `check_parts` will not accept."""
    if pair.num_pieces == 1 or tensor.ndim == 0:
        return tensor
    return tensor.tensor_split(pair.num_pieces)[pair.piece]


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))


def _to_canonical(tensor: Tensor, transform: Transform) -> Tensor:
    if transform == "convolution to linear" and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        return tensor[:, :, 0, 0]
    if transform == "flat" and tensor.ndim > 1 and tensor.shape[0] == tensor.numel():
        return tensor.reshape(-1)
    return _transposed(tensor) if transform == "transpose" else tensor


def _to_original(tensor: Tensor, transform: Transform) -> Tensor:
    if transform == "convolution to linear":
        return tensor[:, :, None, None]
    return _transposed(tensor) if transform == "transpose" else tensor


def _transposed(tensor: Tensor) -> Tensor:
    """Another number of axes stays as it is, for `check_parts` to find."""
    return tensor.mT if tensor.ndim == 2 else tensor
