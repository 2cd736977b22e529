"""Training mode of modules, for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["training_mode"]


@contextmanager
def training_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, the modules are in training mode; afterwards each has its previous mode."""
    before = [(module, module.training) for module in modules]
    try:
        for module, _ in before:
            module.train()
        yield
    finally:
        for module, was_training in before:
            module.train(was_training)
