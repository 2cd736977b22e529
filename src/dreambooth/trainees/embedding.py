"""Trains the vectors of a new word (textual inversion, Gal et al., arXiv 2208.01618); the model itself stays as it is.

Gradients flow through the denoiser and the text encoders to the vectors, which these look up in place of the word's tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from dreambooth.trainees.modes import training_mode
from dreambooth.trainees.parts import Model, Tensors, trained_parts
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainees.token_vectors import add_vectors, token_table
from dreambooth.trainees.trainee import BaseModel, ParameterGroup, Product

__all__ = ["EmbeddingTrainee", "embedding_trainee"]

_GROUP = "word"


class EmbeddingTrainee:
    """The vectors (N, W) of one word for each text encoder; `parameters` has the order of the text encoders."""

    dropout = None

    def __init__(self, parts: Mapping[str, nn.Module], vectors: Mapping[str, Tensor], learning_rate: float) -> None:
        """`vectors` are the first values by text encoder, which a detached trainee has again."""
        self.parts = dict(parts)
        self._first = {part: tensor.detach() for part, tensor in vectors.items()}
        self._learned = {part: nn.Parameter(tensor.clone()) for part, tensor in self._first.items()}
        self._is_attached = True
        for module in self.parts.values():
            module.requires_grad_(False)
        for part in vectors:
            add_vectors(self.parts[part], self._vectors_of(part))
        group = {f"{part}.{_GROUP}": parameter for part, parameter in self._learned.items()}
        self.groups = (ParameterGroup(_GROUP, group, learning_rate),)
        self.parameters = dict(group)

    def _vectors_of(self, part: str) -> Callable[[], Tensor]:
        return lambda: self._learned[part] if self._is_attached else self._first[part]

    def train_mode(self) -> AbstractContextManager[None]:
        """Inside, the parts are in training mode; afterwards each has its previous mode."""
        return training_mode(self.parts.values())

    def attach(self) -> None:
        """Use the learned vectors again after `detach`."""
        assert not self._is_attached, "attached already"
        self._is_attached = True

    def detach(self, base: BaseModel) -> None:
        """Use the first vectors, those of the word's initial words; the model itself never changed."""
        assert self._is_attached, "detached already"
        self._is_attached = False

    def product(self, base: BaseModel, *, gather: Callable[[Tensors], Tensors]) -> Product:
        """The vectors alone."""
        return base.with_vectors(self._learned)


def embedding_trainee(model: Model, settings: TraineeSettings, *, learning_rate: float, dtype: torch.dtype) -> EmbeddingTrainee:
    """The trainee that the settings describe. The vectors are in `dtype`, on the device of the text encoders."""
    family = model.family
    parts = {name: model.parts[name] for name in trained_parts(settings, family)}
    vectors = {name: _first_vectors(model, parts[name], settings).to(dtype) for name in family.text_encoders}
    return EmbeddingTrainee(parts, vectors, learning_rate)


def _first_vectors(model: Model, encoder: nn.Module, settings: TraineeSettings) -> Tensor:
    """Rows (N, W) of an encoder's table: those of the initial words, spread evenly over the vectors, the last for the last."""
    num, table_VW = settings.embedding_vectors, token_table(encoder).weight.detach()
    if table_VW.is_meta:  # a size without numbers
        return torch.empty(num, table_VW.shape[1], dtype=table_VW.dtype, device=table_VW.device)
    assert settings.embedding_words is not None, "filled in by preflight"
    ids = model.family.words_of(settings.embedding_words)
    chosen = [ids[((position + 1) * len(ids) - 1) // num] for position in range(num)]
    return table_VW[torch.tensor(chosen, device=table_VW.device)]
