"""Counts live bytes while real code runs on tensors without memory (torch's meta device)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["ACTIVATIONS", "LiveBytes", "stored_bytes"]

ACTIVATIONS = "activations"
"""The kind of everything not assigned to another kind."""

_BLOCK = 512  # CUDA's allocator returns whole blocks of this many bytes


def stored_bytes(tensors: Iterable[Tensor], *, block: int = _BLOCK) -> int:
    """Bytes of the tensors' storages as CUDA's allocator counts them; a shared storage counts once."""
    storages = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(_rounded(storage.nbytes(), block) for storage in storages.values())


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, counts the storages that operations create, from when they first appear until they are freed.

    Each storage counts once, even if several tensors share it. Temporary memory inside an operation is not counted.
    `fullest` holds the bytes of every kind at the peak; they add up to `peak`.
    """

    def __init__(self, *, device_type: str = "meta", block: int = _BLOCK) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current: dict[str, int] = {}
        self.fullest: dict[str, int] = {}
        self.peak = 0
        """Peak bytes."""
        self._total = 0
        self._device_type = device_type
        self._block = block
        self._living: dict[int, tuple[weakref.ref[Any], str, int]] = {}

    def hold(self, kind: str, tensors: Iterable[Tensor]) -> None:
        """Count these tensors as `kind` from now on, even if they existed before or were counted as another kind."""
        for tensor in tensors:
            self._see(tensor, kind)

    def pass_by(self, kind: str, size: int) -> None:
        """Count `size` additional bytes that live only momentarily."""
        self._look(kind, size)

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count its result; views of existing storages are not new."""
        made = func(*args, **(kwargs or {}))
        if not _gives_views(func):
            for leaf in (made,) if isinstance(made, Tensor) else tree_leaves(made):
                if isinstance(leaf, Tensor) and id(leaf.untyped_storage()) not in self._living:
                    self._see(leaf, ACTIVATIONS)
        return made

    def _see(self, tensor: Tensor, kind: str) -> None:
        if tensor.device.type != self._device_type:
            return
        storage = tensor.untyped_storage()
        key, size = id(storage), _rounded(storage.nbytes(), self._block)
        if key in self._living:
            self._forget(key)
        self._living[key] = weakref.ref(storage, lambda _: self._forget(key)), kind, size
        self.current[kind] = self.current.get(kind, 0) + size
        self._total += size
        self._look(kind, 0)

    def _forget(self, key: int) -> None:
        _, kind, size = self._living.pop(key)
        self.current[kind] -= size
        self._total -= size

    def _look(self, kind: str, extra: int) -> None:
        if self._total + extra > self.peak:
            self.peak = self._total + extra
            self.fullest = {**self.current, kind: self.current.get(kind, 0) + extra}


@cache
def _gives_views(func: Any) -> bool:
    return any(result.alias_info is not None for result in func._schema.returns)


def _rounded(size: int, block: int) -> int:
    return -(-size // block) * block
