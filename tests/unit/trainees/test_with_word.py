"""Pivotal tuning: a LoRA or a whole model and the vectors of a new word, trained together and written as two files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dreambooth.config import effective_values, parse_settings
from dreambooth.errors import ModelFileError
from dreambooth.evaluation.blended import model_with_files
from dreambooth.families.components import Components
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.word_tokenizer import WordTokenizer
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainees.choice import make_trainee
from dreambooth.trainees.parts import trained_parts, what_learns
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainees.trainee import Trainee
from dreambooth.trainees.with_word import TraineeWithWord, word_beside
from dreambooth.weights.embedding_file import TOKEN_TABLE, WORD
from dreambooth.weights.learned_words import LearnedWord
from dreambooth.weights.lora_apply import ScaledLora, with_loras
from dreambooth.weights.lora_file import read_lora_file
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.own_word import missing_words, own_word, write_word_beside
from dreambooth.weights.products import WholeModel
from dreambooth.weights.read import read_model
from dreambooth.weights.settings import BaseModelSettings, EmbeddingSettings, LoraSettings, StrengthSettings
from dreambooth.weights.write import write_diffusers_folder, write_single_file
from tests.random_weights import random_model
from tests.unit.trainees.refused import RUN, assert_refused
from tests.unit.trainees.test_embedding import _prediction

SAID = {WORD: "sks", "global_step": "4"}


@pytest.fixture(scope="module")
def model(miniature: StableDiffusion1) -> ModelWeights:
    return random_model(miniature, seed=0)


@pytest.fixture(scope="module")
def xl_model(miniature_xl: StableDiffusionXL) -> ModelWeights:
    return random_model(miniature_xl, seed=0)


def _begun(model: ModelWeights, **settings: Any) -> tuple[Components, Trainee]:
    plain = model.build(dtype=torch.float32)
    components = replace(plain, tokenizer=WordTokenizer(plain.tokenizer, (("sks", 2),)))
    asked = TraineeSettings(embedding_vectors=2, embedding_words="otter corgi", **settings)
    return components, make_trainee(components, asked, learning_rate=1e-4, dtype=torch.float32, seed=0)


def _learned(trainee: Trainee) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in trainee.parameters.items():
            if not name.endswith(".down"):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


CASES: list[dict[str, Any]] = [
    {"trainee": "lora", "rank": 2},
    {"trainee": "lora", "rank": 2, "train_text_encoder": False, "embedding_learning_rate": 0.5},
    {"trainee": "full"},
    {"trainee": "full", "train_text_encoder": False},
]


@pytest.mark.parametrize("settings", CASES)
def test_both_are_learned_each_at_its_rate_and_both_are_taken_back(settings: dict[str, Any], model: ModelWeights) -> None:
    components, trainee = _begun(model, **settings)
    assert isinstance(trainee, TraineeWithWord)
    before = _prediction(components).detach()
    assert torch.equal(before, _prediction(model.build(dtype=torch.float32), "a otter corgi dog"))
    rates = {group.name: group.learning_rate for group in trainee.groups}
    others = {"unet": 1e-4} if settings.get("train_text_encoder") is False else {"unet": 1e-4, "text_encoder": 1e-4}
    assert rates == {**others, "word": settings.get("embedding_learning_rate", 1e-3)}
    _learned(trainee)
    learned = _prediction(components)
    learned.square().sum().backward()  # type: ignore[no-untyped-call]
    trained = {name for name, parameter in trainee.parameters.items() if parameter.grad is not None and parameter.grad.any()}
    assert {"text_encoder.word"} < trained
    every = {id(one) for module in components.parts.values() for one in module.parameters() if one.grad is not None}
    assert every <= {id(one) for one in trainee.parameters.values()}  # a frozen text encoder only passes gradients on
    trainee.detach(WholeModel(model))
    assert torch.equal(_prediction(components), before)
    trainee.attach()
    assert torch.equal(_prediction(components), learned)


@pytest.mark.parametrize("name", ["model", "xl_model"])
@pytest.mark.parametrize("settings", [CASES[0], CASES[2]])
def test_its_two_files_predict_the_same(
    settings: dict[str, Any], name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model: ModelWeights = request.getfixturevalue(name)
    components, trainee = _begun(model, **settings)
    _learned(trainee)
    path = tmp_path / "rex.safetensors"
    trainee.product(WholeModel(model), gather=dict).write(path, dtype=torch.float32, metadata=SAID)
    assert word_beside(path) == tmp_path / "embeddings" / "rex.safetensors"
    if settings["trainee"] == "full":
        read = read_model(str(path))
    else:
        write_single_file(tmp_path / "base.safetensors", model, dtype=torch.float32, metadata={})
        base, loras = BaseModelSettings(model=str(tmp_path / "base.safetensors")), LoraSettings(lora=(str(path),))
        read = model_with_files(base, StrengthSettings(), loras, EmbeddingSettings())
        named = EmbeddingSettings(embedding=(str(word_beside(path)),))
        assert model_with_files(base, StrengthSettings(), loras, named).digest() == read.digest()
    assert not missing_words(read)
    expected, found = _prediction(components), _prediction(read.build(dtype=torch.float32))
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_a_word_that_is_not_beside_its_model_is_missed_and_one_of_another_step_refused(
    model: ModelWeights, tmp_path: Path
) -> None:
    _, trainee = _begun(model, **CASES[0])
    path, product = tmp_path / "rex.safetensors", trainee.product(WholeModel(model), gather=dict)
    product.write(path, dtype=torch.float32, metadata=SAID)
    kept = word_beside(path).read_bytes()
    product.write(path, dtype=torch.float32, metadata={**SAID, "global_step": "8"})
    word_beside(path).write_bytes(kept)
    lora = read_lora_file(path)
    with pytest.raises(ModelFileError, match="of different steps, 8 and 4"):
        own_word(path, lora.metadata)
    word_beside(path).unlink()
    assert own_word(path, lora.metadata) is None
    assert "'sks', whose vectors are not beside the model" in missing_words(with_loras(model, [ScaledLora(lora)]))[0]


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        (
            {"trainee": {"trainee": "lora", "embedding_learning_rate": 1, "embedding_vectors": 2}},
            "trainee is lora, so embedding_vectors, embedding_learning_rate would have no effect without embedding_words",
        ),
        (
            {"trainee": {"trainee": "embedding", "embedding_words": "a", "embedding_learning_rate": 1}},
            "trainee is embedding, so embedding_learning_rate would have no effect",
        ),
        (
            {"trainee": {"embedding_words": "a"}, "subject": {**RUN["subject"], "allow_silent_token": True}},
            "allow_silent_token is on, but embedding_words makes the token a new word",
        ),
        (
            {"trainee": {"embedding_words": "a"}, "output": {"file_layout": "joepenna"}},
            ".ckpt files cannot name the word",
        ),
        ({"trainee": {"embedding_words": "a"}, "memory": {"shard": True}}, "embedding_words trains a word beside them"),
    ],
)
def test_what_a_word_excludes_is_refused(sections: dict[str, Any], problem: str) -> None:
    assert_refused(sections, problem)


def test_what_is_learned_is_said_and_the_written_settings_are_read_again(miniature: StableDiffusion1) -> None:
    word = {"embedding_words": "dog", "embedding_vectors": 2, "train_text_encoder": False}
    for trainee, of_what in (("lora", "a LoRA of rank 16 for UNet"), ("full", "UNet")):
        said, sections = f"{of_what} and a new word of 2 vectors", {"trainee": {"trainee": trainee, **word}}
        settings = parse_settings(TrainSettings, {**RUN, **sections}, where="command line")
        assert what_learns(settings.trainee, "UNet") == said
        assert trained_parts(settings.trainee, miniature) == ("unet", "text_encoder")
        assert parse_settings(TrainSettings, effective_values(settings), where="test") == settings


def test_a_word_is_found_beside_a_folder_and_is_never_overwritten(model: ModelWeights, tmp_path: Path) -> None:
    width = model.parts["text_encoder"][TOKEN_TABLE].shape[1]
    word = LearnedWord("sks", {"text_encoder": torch.randn(2, width)})
    folder = tmp_path / "rex"
    write_diffusers_folder(folder, model, dtype=None, metadata=SAID)
    write_word_beside(folder, word, model.family, dtype=torch.float32, metadata=SAID)
    (found,) = read_model(str(folder)).words
    assert found.word == "sks" and torch.equal(found.vectors["text_encoder"], word.vectors["text_encoder"])
    with pytest.raises(ModelFileError, match="already exists, and is where the learned word would be"):
        write_word_beside(folder, word, model.family, dtype=torch.float32, metadata=SAID)
