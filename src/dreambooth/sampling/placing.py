"""The device and dtype with which a model generates images."""

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
    """The dtype of a named precision; if None, float16 on a GPU and float32 on the CPU."""
    if precision is None:
        return torch.float32 if device.type == "cpu" else torch.float16
    return _DTYPES[precision]


def place(components: Components, device: torch.device) -> Components:
    """Move all modules to `device`, in place; returns the same components."""
    for module in components.parts.values():
        module.to(device)
    return components


@contextmanager
def visiting(modules: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """Inside, modules from another type of device are on `device`; afterwards they return to the CPU."""
    visitors = [module for module in modules if next(module.parameters()).device.type != device.type]
    for module in visitors:
        module.to(device)
    try:
        yield
    finally:
        for module in visitors:
            module.to("cpu")
