"""The word that a model or a LoRA was trained together with: its metadata name it, and a file beside it has the vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from dreambooth.errors import ModelFileError
from dreambooth.families.family import Family
from dreambooth.trainees.with_word import word_beside
from dreambooth.weights.embedding_apply import NamedEmbedding, with_embeddings
from dreambooth.weights.embedding_file import WORD, read_embedding_file, write_embedding_file
from dreambooth.weights.learned_words import LearnedWord
from dreambooth.weights.lora_apply import applied_words
from dreambooth.weights.model_weights import ModelWeights

__all__ = ["missing_words", "own_word", "with_own_word", "write_word_beside"]

_STEP = "global_step"


def own_word(model: Path, metadata: Mapping[str, str]) -> NamedEmbedding | None:
    """The word of a model or LoRA file with these metadata; None if they name none, or if its file is not beside it.

    Raises ModelFileError if the vectors are those of another step: then a kill came between the two files.
    """
    word, path = metadata.get(WORD), word_beside(model)
    if word is None or not path.is_file():
        return None
    file = read_embedding_file(path)
    if file.metadata.get(_STEP) != metadata.get(_STEP):
        steps = " and ".join(str(one.get(_STEP)) for one in (metadata, file.metadata))
        raise ModelFileError(
            f"{model}: it and its learned word in {path} are of different steps, {steps}",
            hint="The run was stopped between the two files. Resume it; it writes both again.",
        )
    return NamedEmbedding(file, word)


def missing_words(model: ModelWeights) -> list[str]:
    """A sentence for each word that the model, or a LoRA applied to it, was trained with and that was not found."""
    named = [model.metadata.get(WORD), *applied_words(model)]
    missing = dict.fromkeys(word for word in named if word is not None and all(one.word != word for one in model.words))
    return [
        f"the training included the word '{word}', whose vectors are not beside the model: give their file as --embedding FILE"
        for word in missing
    ]


def with_own_word(model: ModelWeights, file: Path) -> ModelWeights:
    """The model of a file with its own word, if it has one; see `own_word`."""
    word = own_word(file, model.metadata)
    return model if word is None else with_embeddings(model, [word])


def write_word_beside(
    model: Path, word: LearnedWord, family: Family, *, dtype: torch.dtype, metadata: Mapping[str, str]
) -> None:
    """Write a word where `own_word` looks for that of the file `model`. Raises ModelFileError if the place is taken."""
    path = word_beside(model)
    if path.exists():
        hint = "Choose another destination, or remove it first."
        raise ModelFileError(f"{path}: already exists, and is where the learned word would be", hint=hint)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_embedding_file(path, family, word.vectors, dtype=dtype, metadata={**metadata, WORD: word.word})
