"""The package as a library: what it returns, that it is silent, and that a model is built once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import dreambooth
from dreambooth.weights.model_weights import ModelWeights

SAMPLE: dict[str, Any] = {"sampling_steps": 2, "num_images": 1, "guidance_scale": 1, "device": "cpu"}


def _train(photos: Path, model: Path, output: Path, **settings: Any) -> dreambooth.Run:
    return dreambooth.train(
        model=model,
        photos=photos,
        class_word="backpack",
        output=output,
        **{"prior_weight": 0, "steps": 2, "preview_steps": 0, "validation_steps": 0, "device": "cpu", **settings},
    )


@pytest.fixture(scope="module")
def run(photos: Path, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dreambooth.Run:
    return _train(photos, small_model, tmp_path_factory.mktemp("api") / "run")


def test_training_is_silent_and_tells_a_listener(
    photos: Path, small_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    events: list[dict[str, Any]] = []
    run = _train(photos, small_model, tmp_path / "run", on_event=events.append)
    assert capfd.readouterr() == ("", "")
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2]
    assert {"say", "progress", "checkpoint"} <= {event["event"] for event in events}
    assert run.model == tmp_path / "run" / "model.safetensors"
    assert run.settings.loop.steps == 2
    assert run.status is not None and run.status.state == "finished"
    assert [event["event"] for event in run.events()] == ["step", "step", "checkpoint"]


def test_the_model_of_a_run_is_built_once(run: dreambooth.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, builds, build = dreambooth.open(run.path), list[ModelWeights](), ModelWeights.build

    def counting(model: ModelWeights, **options: Any) -> Any:
        builds.append(model)
        return build(model, **options)

    monkeypatch.setattr(ModelWeights, "build", counting)
    first = opened.generate(["photo of a sks backpack", "a cat"], **SAMPLE)
    again = opened.generate("photo of a sks backpack", output=tmp_path / "pictures", **SAMPLE)
    assert len(builds) == 1
    assert [picture.prompt for picture in first] == ["photo of a sks backpack", "a cat"]
    assert (first[0].path, first[0].image.size, first[0].image.mode) == (None, (64, 64), "RGB")
    assert first[0].settings["seed"] == 42 and first[0].settings["steps"] == 2
    assert again[0].path == tmp_path / "pictures" / "00000-photo-of-a-sks-backpack.png"
    with Image.open(again[0].path) as file:
        assert file.tobytes() == first[0].image.tobytes() == again[0].image.tobytes()
    opened.generate("a cat", **{**SAMPLE, "precision": "bf16"})
    assert len(builds) == 2


@pytest.mark.slow
def test_resuming_goes_on_and_the_new_model_is_used(photos: Path, small_model: Path, tmp_path: Path) -> None:
    run = _train(photos, small_model, tmp_path / "run", learning_rate=1e-2)
    before = run.generate("photo of a sks backpack", **SAMPLE)[0]
    assert run.resume(steps=3) is run
    assert [event["step"] for event in run.events() if event["event"] == "step"] == [1, 2, 3]
    after = run.generate("photo of a sks backpack", **SAMPLE)[0]
    assert before.settings["model_digest"] != after.settings["model_digest"]
    assert before.image.tobytes() != after.image.tobytes()
    with pytest.raises(dreambooth.SettingsError, match=r"loop\.batch_size was 1 when the run started"):
        run.resume(batch_size=2)


@pytest.mark.slow
def test_an_interrupt_is_an_exception_and_the_run_can_be_resumed(photos: Path, small_model: Path, tmp_path: Path) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(dreambooth.Interrupted):
        _train(photos, small_model, tmp_path / "run", steps=3, on_event=interrupt)
    run = dreambooth.open(tmp_path / "run")
    assert run.model is None and run.status is not None and run.status.state == "stopped"
    assert run.resume().model is not None


def test_mistakes_are_exceptions_of_the_package(tmp_path: Path, run: dreambooth.Run) -> None:
    with pytest.raises(dreambooth.RunError, match="not a run folder"):
        dreambooth.open(tmp_path)
    with pytest.raises(dreambooth.SettingsError, match="no prompt was given"):
        run.generate([])
    with pytest.raises(dreambooth.SettingsError, match="unknown setting 'model'"):
        run.generate("a cat", model="toybox")
    with pytest.raises(dreambooth.ModelFileError, match="no such file"):
        dreambooth.generate("a cat", model=tmp_path / "none.ckpt")
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = dreambooth.trian  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_other_verbs_return_what_their_recipes_do(run: dreambooth.Run, small_model: Path, tmp_path: Path) -> None:
    assert run.model is not None
    assert dreambooth.convert(run.model, tmp_path / "model.ckpt").form == "single-file"
    assert dreambooth.inspect(tmp_path / "model.ckpt", token="sks").tokens[0].word == "sks"
    made = dreambooth.prior(
        model=small_model, class_word="dog", prior_folder=tmp_path / "dogs", num_prior_images=1, prior_sampling_steps=1
    )
    assert made.num_made == 1 and made.images[0].is_file()
    assert dreambooth.plan(model="toybox", gpu_memory=24, memory_preset="fast").free == 24 * 2**30
