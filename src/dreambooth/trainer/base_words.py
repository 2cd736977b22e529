"""Refuses to train a model that reads a learned word: what is written of the training would not have the word."""

from __future__ import annotations

from pathlib import Path

from dreambooth.display import quoted
from dreambooth.errors import SettingsError
from dreambooth.evaluation.remembered_run import read_remembered_run
from dreambooth.files import expanded
from dreambooth.weights.embedding_file import WORD
from dreambooth.weights.lora_choice import read_loras
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.settings import TrainedFromSettings

__all__ = ["check_no_word"]


def check_no_word(given: TrainedFromSettings, base: ModelWeights) -> None:
    """Raise SettingsError if the model, or a LoRA file that is applied to it, was trained together with a new word."""
    if base.words:
        raise SettingsError(
            f"model is {given.model}, which is another model with the learned word '{base.words[0].word}'; "
            "a training would lose the word",
            hint=_hint(given.model),
        )
    for text, lora in zip(given.lora, read_loras(given.lora), strict=True):
        if (word := lora.file.metadata.get(WORD)) is not None:
            raise SettingsError(
                f"lora is {text}, which was trained with the new word '{word}'; a training on top of it would lose the word",
                hint="Train without this file; to learn a word and a LoRA together: --trainee lora --embedding-words WORDS",
            )


def _hint(model: str) -> str:
    run = read_remembered_run(expanded(Path(model)))
    base = "MODEL" if run is None else quoted(run.base.model)
    return (
        f"Train the model that the word was learned for, together with a new word: "
        f"--model {base} --trainee lora --embedding-words WORDS (or --trainee full)"
    )
