"""Gathers pieces of many tensors into one flat tensor of bounded size, so that each operation is launched once for all."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["CUT", "BatchQueue", "Piece", "gathered", "write_back"]

CUT = 256
"""Tensors are cut only at multiples of this."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Piece(Generic[Item]):
    """The numbers from `start` to `stop` of a flattened tensor."""

    item: Item
    start: int
    stop: int
    is_last: bool
    """Whether the tensor ends with it."""

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return self.stop - self.start


class BatchQueue(Generic[Item]):
    """Tensors of several kinds wait here until those of one kind fill a batch; they are cut so that every batch is full."""

    def __init__(self, most: int) -> None:
        """`most` is the size of a batch in numbers, a multiple of `CUT`."""
        self._most = most
        self._waiting: dict[Hashable, list[Piece[Item]]] = {}
        self._room: dict[Hashable, int] = {}  # numbers that fit beside those that wait

    def add(self, kind: Hashable, item: Item, count: int) -> Iterator[list[Piece[Item]]]:
        """Let a tensor of `count` numbers wait; yields the batches that are full now, the last of which may leave a rest."""
        start = 0
        while start < count:
            batch, room = self._waiting.setdefault(kind, []), self._room.get(kind, self._most)
            stop = count if count - start <= room else start + room // CUT * CUT
            if stop > start:
                batch.append(Piece(item, start, stop, is_last=stop == count))
            self._room[kind] = room - (stop - start)
            if self._room[kind] == 0 or stop < count:
                yield self._taken(kind)
            start = stop

    def rest(self) -> Iterator[list[Piece[Item]]]:
        """One batch of each kind that waits; nothing waits any more."""
        while self._waiting:
            yield self._taken(next(iter(self._waiting)))

    def _taken(self, kind: Hashable) -> list[Piece[Item]]:
        del self._room[kind]
        return self._waiting.pop(kind)


def gathered(tensors: Sequence[Tensor], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Flat tensors as one, on a device, by default in their own dtype. A single tensor is copied only if necessary."""
    dtype = dtype or tensors[0].dtype
    if len(tensors) == 1:
        return tensors[0].to(device, dtype, non_blocking=True)
    flat = torch.empty(sum(tensor.numel() for tensor in tensors), dtype=dtype, device=device)
    torch._foreach_copy_(_parts(flat, tensors), list(tensors), non_blocking=True)
    return flat


def write_back(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    """The opposite of `gathered`: does nothing if `flat` is the only tensor itself."""
    if len(tensors) > 1:
        torch._foreach_copy_(list(tensors), _parts(flat, tensors))
    elif flat is not tensors[0]:
        tensors[0].copy_(flat)


def _parts(flat: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.split(flat, [tensor.numel() for tensor in tensors]))
