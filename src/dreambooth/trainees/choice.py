"""The trainee that the settings describe."""

from __future__ import annotations

import torch

from dreambooth.trainees.embedding import embedding_trainee
from dreambooth.trainees.full import full_trainee
from dreambooth.trainees.lora import lora_trainee
from dreambooth.trainees.parts import Model
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainees.trainee import Trainee
from dreambooth.trainees.with_word import TraineeWithWord

__all__ = ["make_trainee"]


def make_trainee(model: Model, settings: TraineeSettings, *, learning_rate: float, dtype: torch.dtype, seed: int) -> Trainee:
    """The trainee for a model whose parts are placed. `dtype` is that of what it adds, and `seed` decides its start."""
    if settings.trainee == "embedding":
        return embedding_trainee(model, settings, learning_rate=learning_rate, dtype=dtype)
    # the word first: it freezes all parts, of which the other trainee then trains its own
    word = embedding_trainee(model, settings, learning_rate=settings.word_rate, dtype=dtype) if settings.learns_word else None
    if settings.trainee == "lora":
        trainee: Trainee = lora_trainee(model, settings, learning_rate=learning_rate, dtype=dtype, seed=seed)
    else:
        trainee = full_trainee(model, settings, learning_rate=learning_rate)
    return trainee if word is None else TraineeWithWord(trainee, word)
