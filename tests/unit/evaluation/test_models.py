"""Which models are compared, and which pictures are asked of each."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dreambooth.evaluation.evaluator import PromptSet
from dreambooth.evaluation.models import Models, ModelSamples, other_models, read_models, samples_of_models
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.schema.verbs import EvaluateSettings
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_single_file

PROMPTS = ("a a cat", "a b cat", "photo of a cat")


def sample_cache(name: str) -> Any:
    return SimpleNamespace(name=name)


def test_the_models_of_a_run_say_their_steps_themselves(small_model: Path, tmp_path: Path) -> None:
    read = read_model(str(small_model))
    places = {
        "models/b.safetensors": "3",
        "models/a.safetensors": "7",
        "checkpoints/last.ckpt": "9",
        "ckpts/trainstep_ckpts/epoch=0-step=5.ckpt": "5",
    }
    for place, step in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        write_single_file(tmp_path / place, read, dtype=None, metadata={"global_step": step})
    (tmp_path / "models" / "unknown.safetensors").write_bytes(small_model.read_bytes())
    found = other_models(tmp_path, than=5, side=128)
    assert {step: model.report.source.name for step, model in found.items()} == {
        3: "b.safetensors",
        7: "a.safetensors",
        9: "last.ckpt",
    }
    assert [*found] == [3, 7, 9], "those after the final model's step as well, and its own not again"
    assert {model.family.resolution for model in found.values()} == {128}
    assert read.num_steps is None


def test_every_model_shows_each_picture_once() -> None:
    model, base, other = (sample_cache(name) for name in ("model", "base", "other"))
    both = [PromptSet((f"a {token} cat",), ("a cat",), "photo of a cat", num_images=2, num_class_images=5) for token in "ab"]
    asked = ModelSamples(model, 9, base, {3: other}).wanted(both, num_other_images=1)
    assert [one.name for one, _ in asked] == ["base", "model", "other"]
    counts = [{prompt: [one.prompt for one in pictures].count(prompt) for prompt in PROMPTS} for _, pictures in asked]
    assert counts == [{"a a cat": 2, "a b cat": 2, "photo of a cat": 5}] * 2 + [
        {"a a cat": 1, "a b cat": 1, "photo of a cat": 4}
    ]
    assert [len(set(pictures)) for _, pictures in asked] == [9, 9, 6]
    assert [one.name for one, _ in ModelSamples(model, 0, None, {}).wanted(both, num_other_images=0)] == ["model"]


@pytest.mark.parametrize(("said", "steps_of_run", "step"), [("7", 9, 7), (None, 9, 9), ("7", None, 7), (None, None, 0)])
def test_the_step_of_the_measured_model_is_what_it_says_or_the_last_of_its_run(
    said: str | None, steps_of_run: int | None, step: int, small_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    metadata = {} if said is None else {"global_step": said}
    write_single_file(path, read_model(str(small_model)), dtype=None, metadata=metadata)
    run: Any = None if steps_of_run is None else SimpleNamespace(loop=SimpleNamespace(steps=steps_of_run))
    target: Any = SimpleNamespace(model=str(path), base=None, run=run)
    assert read_models(EvaluationRequest(str(path)), target).step == step


def test_each_models_pictures_lie_in_a_folder_of_its_step(tmp_path: Path) -> None:
    def model(source: str) -> Any:
        return SimpleNamespace(report=SimpleNamespace(source=source))

    models = Models(model("final"), 9, model("original"), {3: model("early"), 12: model("late")})
    target: Any = SimpleNamespace(output=tmp_path, model="runs/rex", base=SimpleNamespace(model="toybox"))
    settings = EvaluateSettings(model="runs/rex", evaluation={"guidance_scale": 3.0})
    samples = samples_of_models(models, target, settings, torch.device("cpu"))
    assert samples.step == 9
    assert samples.base is not None
    caches = {0: samples.base, samples.step: samples.measured, **samples.others}
    assert {step: (cache.model.report.source, cache.name, cache.folder.name) for step, cache in caches.items()} == {
        0: ("original", "toybox", "base"),
        9: ("final", "runs/rex", "model"),
        3: ("early", "early", "step-000003"),
        12: ("late", "late", "step-000012"),
    }
    assert {cache.folder.parent for cache in caches.values()} == {tmp_path / "pictures"}
