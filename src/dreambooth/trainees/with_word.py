"""Trains a LoRA or whole parts together with the vectors of a new word (pivotal tuning)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from dreambooth.trainees.dropout import RankDropout
from dreambooth.trainees.embedding import EmbeddingTrainee
from dreambooth.trainees.parts import Tensors
from dreambooth.trainees.trainee import BaseModel, Product, Trainee

__all__ = ["TraineeWithWord", "word_beside"]


def word_beside(model: Path) -> Path:
    """Where the vectors of a word are that were learned together with the model or LoRA in the file (or folder) `model`."""
    return model.parent / "embeddings" / f"{model.stem if model.suffix else model.name}.safetensors"


class TraineeWithWord:
    """Two trainees of one model without a common parameter; the word's has all parts through which gradients flow."""

    def __init__(self, trainee: Trainee, word: EmbeddingTrainee) -> None:
        self._trainee, self._word = trainee, word
        self.parts = word.parts
        self.groups = (*trainee.groups, *word.groups)
        self.parameters = {**trainee.parameters, **word.parameters}

    @property
    def dropout(self) -> RankDropout | None:
        """Dropout of the ranks of the LoRA."""
        return self._trainee.dropout

    def train_mode(self) -> AbstractContextManager[None]:
        """Inside, the parts are in training mode; afterwards each has its previous mode."""
        return self._word.train_mode()

    def attach(self) -> None:
        """Apply what both learned again after `detach`."""
        self._trainee.attach()
        self._word.attach()

    def detach(self, base: BaseModel) -> None:
        """Restore the parts to their values before training, and the word to its initial words."""
        self._trainee.detach(base)
        self._word.detach(base)

    def product(self, base: BaseModel, *, gather: Callable[[Tensors], Tensors]) -> Product:
        """Both results, in two files."""
        return _TwoFiles(self._trainee.product(base, gather=gather), self._word.product(base, gather=gather))


@dataclass(frozen=True)
class _TwoFiles:
    main: Product
    word: Product

    def write(self, path: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
        """Write the word, then the rest to `path`: if that file exists, so does the word's."""
        beside = word_beside(path)
        beside.parent.mkdir(parents=True, exist_ok=True)
        self.word.write(beside, dtype=dtype, metadata=metadata)
        self.main.write(path, dtype=dtype, metadata=metadata)
