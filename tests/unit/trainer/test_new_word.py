"""A token that cannot become a new word is refused, and so is a base model whose own word would be lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dreambooth.data.settings import PriorSettings
from dreambooth.errors import SettingsError
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainer.base_words import check_no_word
from dreambooth.trainer.new_word import check_earlier_subjects, check_new_word
from dreambooth.weights.embedding_file import WORD
from dreambooth.weights.lora_write import Adapter, write_lora
from dreambooth.weights.settings import TrainedFromSettings
from dreambooth.weights.subjects import LearnedSubject
from tests.lora_changes import random_changes
from tests.random_weights import random_model
from tests.unit.trainer.test_caption_checks import NO_PRIOR, SUBJECT, pictures

WORD_BESIDE_A_LORA = TraineeSettings(trainee="lora", embedding_words="vase")


@pytest.mark.parametrize(
    ("prior", "captions", "problem"),
    [
        (
            NO_PRIOR,
            ("a sks vase", "a vase"),
            "images says the token 'sks', which is to be a new word: 'a sks vase'",
        ),
        (PriorSettings(class_prompt="a SKS {class_word}"), (), "1 class prompt of class images says the token 'sks'"),
    ],
)
def test_class_images_must_not_say_the_new_word(prior: PriorSettings, captions: tuple[str, ...], problem: str) -> None:
    """The base model, which makes or predicts them, would look up vectors that it does not have."""
    check_new_word(pictures("a sks vase", priors=("a vase",)), SUBJECT, WORD_BESIDE_A_LORA, PriorSettings())
    check_new_word(pictures("a sks vase", priors=captions), SUBJECT, TraineeSettings(), prior)
    with pytest.raises(SettingsError) as raised:
        check_new_word(pictures("a sks vase", priors=captions), SUBJECT, WORD_BESIDE_A_LORA, prior)
    assert problem in "; ".join(raised.value.problems)


def test_earlier_subjects_must_not_have_the_new_word() -> None:
    own, earlier = [LearnedSubject("sks", "vase", "a sks vase")], [LearnedSubject("sks", "dog", "a sks dog")]
    check_earlier_subjects(earlier, own, TraineeSettings())
    check_earlier_subjects([], own, WORD_BESIDE_A_LORA)
    with pytest.raises(SettingsError, match="'sks' already names a subject of the base model"):
        check_earlier_subjects(earlier, own, WORD_BESIDE_A_LORA)


def test_a_lora_that_has_a_word_is_no_base(miniature: StableDiffusion1, tmp_path: Path) -> None:
    model = random_model(miniature, seed=0)
    adapter: Any = Adapter(model.family, random_changes(model, "attention"), "kohya")
    for name, said in (("plain", {}), ("worded", {WORD: "sks"})):
        write_lora(tmp_path / f"{name}.safetensors", adapter, dtype=torch.float32, metadata=said)
    plain, worded = (str(tmp_path / f"{name}.safetensors") for name in ("plain", "worded"))
    check_no_word(TrainedFromSettings(model="toybox", lora=(plain,)), model)
    with pytest.raises(SettingsError, match="was trained with the new word 'sks'; a training on top"):
        check_no_word(TrainedFromSettings(model="toybox", lora=(plain, worded)), model)
