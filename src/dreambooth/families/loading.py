"""Fills modules with tensors, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from dreambooth.families.mapped_pages import MappedPages
from dreambooth.families.shapes import StateDict

__all__ = ["build_module"]

Module = TypeVar("Module", bound=nn.Module)


def build_module(
    make: Callable[[], Module], tensors: StateDict, *, buffers: Mapping[str, Tensor], dtype: torch.dtype
) -> Module:
    """A module that `make` creates without memory, filled with copies of `tensors` in `dtype` and with `buffers` unchanged.

    `buffers` are those that are in no state dict. The module is in evaluation mode and its parameters require no gradients.
    Peak memory is that of the copies plus one tensor.
    """
    with torch.device("meta"):
        module = make()
    pages = MappedPages()
    copies = {}
    for name, tensor in tensors.items():
        copies[name] = tensor.to(dtype=dtype, copy=True, memory_format=torch.contiguous_format)
        pages.release(tensor)
    module.load_state_dict(copies, assign=True, strict=True)
    for name, buffer in buffers.items():
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, buffer)
    empty = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    assert not empty, f"no memory was assigned to {empty}"
    return module.eval().requires_grad_(False)
