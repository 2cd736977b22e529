"""Compiles the parts of a model that run repeatedly.

Compilation takes a minute or more and pays off only in long runs. Its benefit on a GPU has not been measured yet, so "auto"
never compiles, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from dreambooth.training.settings import Compilation

__all__ = ["compile_modules", "describe_compilation"]

_REPEATED = frozenset({"BasicTransformerBlock", "ResnetBlock2D", "CLIPEncoderLayer"})
_MOST_SHAPES = 64


def compile_modules(modules: Iterable[nn.Module], how: Compilation, *, backend: str = "inductor") -> None:
    """Compile the modules with torch, in place, on their first call; their names and weights stay the same.

    "blocks" compiles each layer that a model repeats, so that layers of the same shape are compiled once; "full" compiles
    whole models.
    """
    if how in ("auto", "off"):  # importing the compiler takes a second
        return
    # The layers of a UNet have about a dozen shapes; the compiler's default limit is 8 variants of one piece of code.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_SHAPES)
    for module in modules:
        if how == "full":
            module.compile(backend=backend, dynamic=False)
        else:
            for part in module.modules():
                if type(part).__name__ in _REPEATED:
                    part.compile(backend=backend, dynamic=False)


def describe_compilation(how: Compilation) -> str:
    """The choice in words."""
    return {
        "auto": "compilation is off (--compile auto: a benefit is not measured yet)",
        "off": "compilation is off",
        "blocks": "repeated blocks are compiled during the first steps",
        "full": "full models are compiled during the first steps",
    }[how]
