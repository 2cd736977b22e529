"""A new word as a trainee: only its vectors are learned, and the model stays as it is, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dreambooth.config import effective_values, parse_settings
from dreambooth.families.components import Components
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.word_tokenizer import WordTokenizer
from dreambooth.memory.recompute import recompute_activations
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainees.choice import make_trainee
from dreambooth.trainees.embedding import EmbeddingTrainee
from dreambooth.trainees.parts import what_learns
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.weights.embedding_apply import NamedEmbedding, with_embeddings
from dreambooth.weights.embedding_file import num_vector_parameters, read_embedding_file
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.products import WholeModel
from tests.random_weights import random_model
from tests.unit.trainees.refused import RUN, assert_refused


@pytest.fixture(scope="module")
def model(miniature: StableDiffusion1) -> ModelWeights:
    return random_model(miniature, seed=0)


@pytest.fixture(scope="module")
def xl_model(miniature_xl: StableDiffusionXL) -> ModelWeights:
    return random_model(miniature_xl, seed=0)


def _begun(model: ModelWeights, num: int = 1, words: str = "otter") -> tuple[Components, EmbeddingTrainee]:
    """A model with the new word sks, and its trainee."""
    plain = model.build(dtype=torch.float32)
    components = replace(plain, tokenizer=WordTokenizer(plain.tokenizer, (("sks", num),)))
    settings = TraineeSettings(trainee="embedding", embedding_vectors=num, embedding_words=words)
    trainee = make_trainee(components, settings, learning_rate=1e-2, dtype=torch.float32, seed=0)
    assert isinstance(trainee, EmbeddingTrainee)
    return components, trainee


def _learned(trainee: EmbeddingTrainee) -> None:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in trainee.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def _prediction(components: Components, prompt: str = "a sks dog") -> Tensor:
    family = components.family
    text = family.encode_text(components.parts, family.tokenize(components.tokenizer, [prompt]))
    if family.takes_sizes:
        text = text.with_sizes(torch.full((1, 6), 64.0))
    x_BCHW = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    return family.predict(components.denoiser, x_BCHW, torch.tensor([300]), text)


@pytest.mark.parametrize("name", ["model", "xl_model"])
@pytest.mark.parametrize(
    ("num", "words", "reads"),
    [(1, "otter", "otter"), (1, "otter corgi", "corgi"), (3, "otter corgi", "otter corgi corgi"), (2, "otter", "otter otter")],
)
def test_a_new_word_begins_as_its_first_words(
    name: str, num: int, words: str, reads: str, request: pytest.FixtureRequest
) -> None:
    model: ModelWeights = request.getfixturevalue(name)
    components, _ = _begun(model, num, words)
    expected = _prediction(model.build(dtype=torch.float32), f"a {reads} dog")
    assert torch.equal(_prediction(components), expected)


@pytest.mark.parametrize("name", ["model", "xl_model"])
def test_detached_it_is_what_it_began_as_and_the_model_never_changes(name: str, request: pytest.FixtureRequest) -> None:
    model: ModelWeights = request.getfixturevalue(name)
    components, trainee = _begun(model, 2)
    before, without = _prediction(components).detach(), _prediction(components, "a dog").detach()
    _learned(trainee)
    learned = _prediction(components).detach()
    assert (learned - before).norm() > 1e-3 * before.norm()
    assert torch.equal(_prediction(components, "a dog"), without)
    trainee.detach(WholeModel(model))
    assert torch.equal(_prediction(components), before)
    trainee.attach()
    assert torch.equal(_prediction(components), learned)
    states = components.family.state_dicts(components.parts)
    for part, tensors in model.parts.items():
        assert states[part].keys() <= tensors.keys()
        assert all(torch.equal(tensor, tensors[key]) for key, tensor in states[part].items())


@pytest.mark.parametrize("name", ["model", "xl_model"])
def test_its_file_beside_the_model_predicts_the_same(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model: ModelWeights = request.getfixturevalue(name)
    components, trainee = _begun(model, 3)
    _learned(trainee)
    path = tmp_path / "sks.safetensors"
    trainee.product(WholeModel(model), gather=lambda tensors: tensors).write(path, dtype=torch.float32, metadata={})
    file = read_embedding_file(path)
    used = with_embeddings(model, [NamedEmbedding(file, file.word)]).build(dtype=torch.float32)
    assert torch.equal(_prediction(used), _prediction(components))
    num = sum(parameter.numel() for parameter in trainee.parameters.values())
    assert num == num_vector_parameters(model.family, 3)


@pytest.mark.parametrize("name", ["model", "xl_model"])
def test_only_the_vectors_get_gradients_which_recomputation_keeps(name: str, request: pytest.FixtureRequest) -> None:
    model: ModelWeights = request.getfixturevalue(name)
    gradients: list[Mapping[str, Tensor | None]] = []
    for recomputes in (False, True):
        components, trainee = _begun(model, 2)
        _learned(trainee)
        if recomputes:
            recompute_activations(trainee.parts.values(), "all")
        with trainee.train_mode():
            _prediction(components).square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append({key: parameter.grad for key, parameter in trainee.parameters.items()})
        assert all(parameter.grad is None for module in components.parts.values() for parameter in module.parameters())
        assert [group.name for group in trainee.groups] == ["word"]
        assert list(trainee.parameters) == [f"{part}.word" for part in model.family.text_encoders]
    for key, gradient in gradients[0].items():
        again = gradients[1][key]
        assert gradient is not None and again is not None and torch.equal(gradient, again) and bool(gradient.all())


def test_a_caption_without_the_word_gives_a_gradient_of_zero(model: ModelWeights) -> None:
    components, trainee = _begun(model, 2)
    _prediction(components, "a dog").square().sum().backward()  # type: ignore[no-untyped-call]
    (gradient,) = [parameter.grad for parameter in trainee.parameters.values()]
    assert gradient is not None and not gradient.any()


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        (
            {"trainee": {"trainee": "full", "embedding_vectors": 2}},
            "trainee is full, so embedding_vectors would have no effect",
        ),
        (
            {"trainee": {"trainee": "lora", "embedding_vectors": 2}},
            "trainee is lora, so embedding_vectors would have no effect",
        ),
        (
            {"trainee": {"trainee": "embedding", "rank": 4, "text_encoder_learning_rate": 1}},
            "trainee is embedding, so rank, text_encoder_learning_rate would have no effect",
        ),
        ({"trainee": {"trainee": "embedding", "train_text_encoder": False}}, "so train_text_encoder would have no effect"),
        ({"trainee": {"trainee": "embedding", "embedding_vectors": 76}}, "expected at most 75"),
        (
            {"trainee": {"trainee": "embedding"}, "subject": {**RUN["subject"], "allow_silent_token": True}},
            "allow_silent_token is on, but trainee embedding learns nothing but the token",
        ),
        (
            {"trainee": {"trainee": "embedding"}, "output": {"file_layout": "joepenna"}},
            "whose models are .ckpt files, and a learned word is a .safetensors file",
        ),
        ({"trainee": {"trainee": "embedding"}, "memory": {"shard": True}}, "and those of a learned word are few"),
    ],
)
def test_settings_without_effect_are_refused(sections: dict[str, Any], problem: str) -> None:
    assert_refused(sections, problem)


def test_what_is_learned_is_said_and_what_has_no_effect_is_not_written() -> None:
    settings = parse_settings(TrainSettings, {**RUN, "trainee": {"trainee": "embedding"}}, where="command line")
    assert what_learns(settings.trainee, "UNet") == "a new word of 1 vector"
    assert settings.trainee.usual_learning_rate == 1e-3
    assert effective_values(settings)["trainee"] == {"trainee": "embedding", "embedding_vectors": 1, "embedding_words": None}
