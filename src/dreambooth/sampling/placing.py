"""Where and in which number format a model makes pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dreambooth.families.components import Components
from dreambooth.sampling.settings import PicturePrecision

__all__ = ["picture_dtype", "place", "visiting"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def picture_dtype(precision: PicturePrecision | None, device: torch.device) -> torch.dtype:
    """The number format of a named precision; float16 on a GPU and float32 on the CPU when there is no name."""
    if precision is None:
        return torch.float32 if device.type == "cpu" else torch.float16
    return _DTYPES[precision]


def place(components: Components, device: torch.device) -> Components:
    """Bring all modules to `device`, in place; the same components."""
    for module in components.parts.values():
        module.to(device)
    return components


@contextmanager
def visiting(modules: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """Inside, modules that are elsewhere are on `device`."""
    visitors = [module for module in modules if next(module.parameters()).device.type != device.type]
    for module in visitors:
        module.to(device)
    try:
        yield
    finally:
        for module in visitors:
            module.to("cpu")
