"""A second subject on top of a first one: the first one's images are mixed in, and the model keeps a list of both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.cli.main import main
from dreambooth.config import read_yaml
from dreambooth.recipes.toybox import write_photos
from dreambooth.weights.read import read_model
from dreambooth.weights.subjects import learned_subjects

FLAGS = [
    *("--preset", "toybox", "--prior-examples", "images", "--class-prompt", "photo of a {class_word}", "--prior-weight", "1"),
    *("--num-prior-images", "2", "--prior-sampling-steps", "2", "--preview-steps", "0", "--validation-steps", "2"),
]
Capture = pytest.CaptureFixture[str]


def train(folder: Path, name: str, token: str, class_word: str, *flags: str) -> Path:
    output = folder / name
    words = ["--photos", str(folder / "photos" / class_word), "--class-word", class_word, "--token", token]
    assert main(["train", *FLAGS, *words, *flags, "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of a ball and of a vase, and a run that learned the ball."""
    made = tmp_path_factory.mktemp("replay")
    write_photos("marked-ball", made / "photos" / "ball", num=3)
    write_photos("belted-vase", made / "photos" / "vase", num=3)
    train(made, "ball", "sks", "ball", "--steps", "2")
    return made


def prompts_of_sets(folder: Path) -> set[str]:
    manifests = [json.loads(path.read_text()) for path in folder.glob("*/manifest.json")]
    return {manifest["request"]["prompt"] for manifest in manifests}


@pytest.mark.slow
def test_the_first_subject_is_drawn_by_its_own_model_and_predicted(folder: Path, capsys: Capture) -> None:
    run = train(folder, "vase", "zwx", "vase", "--model", str(folder / "ball"), "--steps", "2", "--replay-images", "3")
    said = capsys.readouterr().out
    assert "The base model knows 'sks ball': 3 images of each are generated and mixed in" in said
    assert "Images of 'sks ball': 3 of 3 prompts in" in said
    assert "base model's predictions: 4/4 examples" in said
    assert "Each of the 6 class images was seen" in said, "as many of the ball as of the class"
    assert {"photo of a sks ball", "photo of a vase"} <= prompts_of_sets(folder / "class-images")
    assert read_yaml(run / "config.yaml")["prior"]["prior_target"] == "prediction"
    assert [one.name for one in learned_subjects(read_model(str(run)))] == ["sks ball", "zwx vase"]

    fewer = ["--num-images", "1", "--num-class-images", "2", "--num-checkpoint-images", "0", "--sampling-steps", "1"]
    assert main(["evaluate", "--model", str(run), *fewer]) == 0
    found = json.loads((run / "evaluation" / "scores.json").read_text())
    assert [*found["subjects"]] == ["zwx vase", "sks ball"]
    assert found["confusion"]["shares"]["sks ball"].keys() == {"zwx vase", "sks ball"}
    assert "The earlier subject was" in (run / "evaluation" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_without_replay_the_first_subject_is_left_to_its_fate(folder: Path, capsys: Capture) -> None:
    run = train(folder, "alone", "zwx", "vase", "--model", str(folder / "ball"), "--no-replay", "--steps", "2")
    assert "The base model knows 'sks ball', which this training does not keep" in capsys.readouterr().out
    assert read_yaml(run / "config.yaml")["prior"]["prior_target"] == "noise"
    assert [one.name for one in learned_subjects(read_model(str(run)))] == ["zwx vase"]


@pytest.mark.slow
def test_training_the_same_subject_further_replays_nothing(folder: Path, capsys: Capture) -> None:
    train(folder, "further", "sks", "ball", "--model", str(folder / "ball"), "--steps", "2")
    assert "The base model knows" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_stop_between_two_steps_changes_no_bit(folder: Path) -> None:
    flags = ("--model", str(folder / "ball"), "--checkpoint-steps", "1", "--model-dtype", "float32", "--replay-images", "3")
    straight = train(folder, "straight", "zwx", "vase", *flags, "--steps", "3")
    shutil.rmtree(folder / "prior-predictions")
    stopped = train(folder, "stopped", "zwx", "vase", *flags, "--steps", "1")
    assert main(["train", "--resume", str(stopped), "--steps", "3"]) == 0
    one, other = (load_file(run / "model.safetensors") for run in (straight, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)
