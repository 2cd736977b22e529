"""What learns of a model, and what stays as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from dreambooth.config import parse_settings
from dreambooth.errors import SettingsError
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.untrained import without_memory
from dreambooth.trainees.full import full_trainee
from dreambooth.trainees.parts import trainee_problems
from dreambooth.trainees.settings import TraineeSettings
from tests.random_weights import random_model


def test_the_table_of_words_learns_unless_it_is_turned_off(miniature: StableDiffusion1) -> None:
    components = random_model(miniature, seed=0).build(dtype=torch.float32)
    names = {}
    for trains in (True, False):
        settings = TraineeSettings(train_token_table=trains)
        trained = full_trainee(components, settings, learning_rate=1e-6)
        names[trains] = set(trained.parameters)
        assert all(parameter.requires_grad for parameter in trained.parameters.values())
    [table] = names[True] - names[False]
    assert table.startswith("text_encoder.")
    assert table.endswith("token_embedding.weight")
    frozen = [name for name, parameter in components.parts["text_encoder"].named_parameters() if not parameter.requires_grad]
    assert [f"text_encoder.{name}" for name in frozen] == [table]


@pytest.mark.parametrize(
    ("values", "rates"),
    [
        ({}, {"unet": 1.0, "text_encoder": 1.0, "text_encoder_2": 1.0}),
        ({"train_text_encoder": False}, {"unet": 1.0}),
        ({"text_encoders": "first"}, {"unet": 1.0, "text_encoder": 1.0}),
        ({"text_encoders": "second", "text_encoder_2_learning_rate": 0.5}, {"unet": 1.0, "text_encoder_2": 0.5}),
        ({"text_encoder_learning_rate": 0.25}, {"unet": 1.0, "text_encoder": 0.25, "text_encoder_2": 0.25}),
        (
            {"text_encoder_learning_rate": 0.25, "text_encoder_2_learning_rate": 0.125},
            {"unet": 1.0, "text_encoder": 0.25, "text_encoder_2": 0.125},
        ),
    ],
)
def test_each_of_two_text_encoders_may_learn_at_its_own_rate(
    miniature_xl: StableDiffusionXL, values: dict[str, Any], rates: dict[str, float]
) -> None:
    settings = parse_settings(TraineeSettings, values, where="test")
    trained = full_trainee(without_memory(miniature_xl), settings, learning_rate=1.0)
    assert {group.name: group.learning_rate for group in trained.groups} == rates


def test_a_single_text_encoder_has_no_second(miniature: StableDiffusion1, miniature_xl: StableDiffusionXL) -> None:
    settings = TraineeSettings(text_encoders="second", text_encoder_2_learning_rate=1e-6)
    [problem] = trainee_problems(settings, miniature)
    assert problem.startswith("text_encoders, text_encoder_2_learning_rate: no effect")
    assert trainee_problems(settings, miniature_xl) == []
    assert trainee_problems(TraineeSettings(), miniature) == []


@pytest.mark.parametrize("name", ["text_encoder_2_learning_rate", "text_encoders"])
def test_frozen_text_encoders_have_no_rate_and_no_choice(name: str) -> None:
    values = {"train_text_encoder": False, name: "second" if name == "text_encoders" else 1e-6}
    with pytest.raises(SettingsError, match=f"{name} has no effect while train_text_encoder is off"):
        parse_settings(TraineeSettings, values, where="test")


def test_a_layer_of_the_unet_is_never_taken_for_the_table() -> None:
    unet = nn.ModuleDict({"token_embedding": nn.Linear(2, 2)})
    family = SimpleNamespace(denoiser="unet", text_encoders=("text_encoder",), idle_parameters=lambda part: ())
    model: Any = SimpleNamespace(family=family, parts={"unet": unet, "text_encoder": nn.Linear(2, 2)})
    trained = full_trainee(model, TraineeSettings(train_token_table=False), learning_rate=1e-6)
    assert "unet.token_embedding.weight" in trained.parameters


def test_a_table_of_a_frozen_text_encoder_cannot_be_turned_off() -> None:
    values = {"train_text_encoder": False, "train_token_table": False}
    with pytest.raises(SettingsError, match="train_token_table has no effect while train_text_encoder is off"):
        parse_settings(TraineeSettings, values, where="test")
