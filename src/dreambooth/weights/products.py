"""What training writes: a whole model, the changes of one as a LoRA file, or the vectors of a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.diffusion.low_rank import Change
from dreambooth.families.family import Family
from dreambooth.families.shapes import StateDict
from dreambooth.trainees.settings import LoraForm
from dreambooth.weights.embedding_file import write_embedding_file
from dreambooth.weights.lora_write import Adapter
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.write import write_single_file

__all__ = ["WholeModel", "WordVectors"]


@dataclass(frozen=True)
class WordVectors:
    """The vectors (N, W) of a word for each text encoder of a family, to be written as a file of textual inversion."""

    family: Family
    vectors: Mapping[str, Tensor]

    def write(self, path: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
        """See `write_embedding_file`."""
        write_embedding_file(path, self.family, self.vectors, dtype=dtype, metadata=metadata)


@dataclass(frozen=True)
class WholeModel:
    """A model that is written with all its parts, as one file."""

    weights: ModelWeights

    @property
    def parts(self) -> Mapping[str, StateDict]:
        """The tensors of each part."""
        return self.weights.parts

    def with_parts(self, parts: Mapping[str, StateDict]) -> WholeModel:
        """The same model with other tensors for some parts."""
        kept = self.weights.parts  # what a module lacks, although its file has it, stays
        return WholeModel(replace(self.weights, parts={**kept, **{name: {**kept[name], **parts[name]} for name in parts}}))

    def with_changes(self, changes: Mapping[str, Mapping[str, Change]], form: LoraForm) -> Adapter:
        """Changes of its layers without the model, with the metadata that says which model they are for."""
        return Adapter(self.weights.family, changes, form)

    def with_vectors(self, vectors: Mapping[str, Tensor]) -> WordVectors:
        """The vectors of a new word without the model."""
        return WordVectors(self.weights.family, vectors)

    def write(self, path: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
        """See `write_single_file`."""
        write_single_file(path, self.weights, dtype=dtype, metadata=metadata)
