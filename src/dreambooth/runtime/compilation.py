"""Compiling what a model computes again and again.

Compiling costs a minute or more and pays for itself only in long runs. Not measured yet on a GPU: therefore "auto" never
compiles, and says so.
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
    """Let torch compile the modules in place, at their first call; their names and weights stay as they are.

    "blocks" compiles each layer that a model repeats, so that layers of one shape share the work; "full" compiles whole models.
    """
    if how in ("auto", "off"):  # the compiler takes a second to load
        return
    # The layers of a UNet come in a dozen shapes, and the compiler's usual limit is 8 for one piece of code.
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
