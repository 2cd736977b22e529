"""Counts live bytes while real code runs on tensors without memory (torch's meta device)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
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
        made = _run(func, args, kwargs or {})
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


@cache
def _only_makes_tensors(func: Any) -> bool:
    schema = func._schema
    is_pure = all(value.alias_info is None for value in (*schema.arguments, *schema.returns))
    return is_pure and all(str(result.type) == "Tensor" for result in schema.returns)


_Form = tuple[torch.Size, tuple[int, ...], torch.dtype]
_forms: dict[Any, list[_Form | None]] = {}
"""What pure operations on meta tensors returned before, by operation and arguments; None where they returned no tensor."""


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """The operation's result. torch computes many shapes in Python, up to 4 ms each: those seen before are only repeated."""
    if not _only_makes_tensors(func) or (described := _description((args, kwargs))) is None:
        return func(*args, **kwargs)
    key = func, described
    if key not in _forms:
        made = func(*args, **kwargs)
        results = (made,) if isinstance(made, Tensor) else made
        if all(result is None or result.is_meta for result in results):
            _forms[key] = [None if result is None else (result.shape, result.stride(), result.dtype) for result in results]
        return made
    made = tuple(
        None if form is None else torch.empty_strided(form[0], form[1], dtype=form[2], device="meta") for form in _forms[key]
    )
    return made[0] if len(func._schema.returns) == 1 else made


def _description(value: Any) -> Any:
    """A key for arguments, equal if an operation returns tensors of the same form; None if tensors are not on meta."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype) if value.device.type == "meta" else None
    if isinstance(value, dict):
        value = tuple(value.items())
    if isinstance(value, list | tuple):
        parts = tuple(map(_description, value))
        return None if None in parts else parts
    return type(value), value


def _rounded(size: int, block: int) -> int:
    return -(-size // block) * block
