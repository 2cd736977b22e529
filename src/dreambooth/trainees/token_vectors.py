"""Text encoders that read token ids below zero as vectors beside their table: the vectors of learned words.

The vectors are no part of the encoder's modules: a hook looks them up, so no name and no size of the model changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["add_vectors", "token_table"]

_TABLE = "token_embedding"


def token_table(encoder: nn.Module) -> nn.Embedding:
    """The table of a text encoder, with a row for each entry of the vocabulary."""
    table = getattr(_embeddings(encoder), _TABLE)
    assert isinstance(table, nn.Embedding)
    return table


def add_vectors(encoder: nn.Module, vectors: Callable[[], Tensor]) -> None:
    """Make a text encoder read token id -1 as the first of `vectors()` (N, W), -2 as the second, and so on.

    `vectors` is called in every forward pass. It may return another device or dtype than the encoder's, and gradients reach
    what it returns, also in a pass without any such id; they are then zero.
    """

    def look_up(embeddings: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids_BL: Tensor = inputs[0] if inputs else options["input_ids"]
        rows_BLW: Tensor = getattr(embeddings, _TABLE)(ids_BL.clamp(min=0))
        vectors_NW = vectors().to(rows_BLW)
        vectors_BLW = vectors_NW[(-1 - ids_BL).clamp(min=0)]
        rest = {name: value for name, value in options.items() if name != "input_ids"}
        return (), {**rest, "inputs_embeds": torch.where(ids_BL.unsqueeze(-1) < 0, vectors_BLW, rows_BLW)}

    _embeddings(encoder).register_forward_pre_hook(look_up, with_kwargs=True)


def _embeddings(encoder: nn.Module) -> nn.Module:
    """The module of a text encoder that turns token ids into vectors."""
    return next(module for module in encoder.modules() if hasattr(module, _TABLE))
