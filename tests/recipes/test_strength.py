"""A trained model at another strength: on the line from its base model, which its run remembers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import dreambooth
from dreambooth.cli.main import main
from dreambooth.weights.read import read_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the bundled model."""
    output = tmp_path_factory.mktemp("strength") / "runs" / "rex"
    flags = "--preset toybox --class-word backpack --steps 2 --prior-weight 0 --preview-steps 0 --validation-steps 0"
    asked = ["--photos", str(photos), "--model-dtype", "float32", "--output", str(output)]
    assert main(["train", *flags.split(), *asked]) == 0
    return output


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.2])
def test_every_weight_lies_on_the_line_from_the_base_model(run: Path, strength: float, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "rex.safetensors"
    assert main(["convert", str(run), str(file), "--strength", str(strength)]) == 0, capsys.readouterr().err
    base, trained, found = (read_model(str(model)) for model in ("toybox", run, file))
    moved = 0
    for part, tensors in found.parts.items():
        for name, tensor in tensors.items():
            low, high = base.parts[part][name].double(), trained.parts[part][name].double()
            torch.testing.assert_close(tensor.double(), low + strength * (high - low), rtol=0, atol=1e-6)
            moved += int((high - low).abs().max() > 1e-5)
    assert moved > 100, "the training changed the model, or this test shows nothing"
    with safe_open(file, "pt") as opened:
        assert opened.metadata().get("dreambooth.strength") == (None if strength == 1 else f"{strength:g}")


@pytest.mark.slow
def test_a_picture_at_strength_0_is_the_base_models(run: Path, tmp_path: Path) -> None:
    asked = ["--prompt", "photo of a mug", "--num-images", "1", "--sampling-steps", "2", "--no-grid"]
    for name, model in (("base", ["toybox"]), ("none", [str(run), "--strength", "0"]), ("all", [str(run)])):
        assert main(["generate", "--model", *model, *asked, "--output", str(tmp_path / name)]) == 0
    base, none, everything = (next((tmp_path / name).glob("*.png")) for name in ("base", "none", "all"))
    from dreambooth.data.photos import read_pixels

    pixels = [read_pixels(path, background="white") for path in (base, none, everything)]
    assert abs(pixels[0].astype(int) - pixels[1]).max() <= 1
    assert abs(pixels[0].astype(int) - pixels[2]).max() > 1


@pytest.mark.slow
def test_python_takes_a_strength_as_the_command_does(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "half.safetensors"
    assert main(["convert", str(run), str(file), "--strength", "0.5"]) == 0
    asked: dict[str, Any] = {"num_images": 1, "sampling_steps": 1, "device": "cpu"}
    learned = dreambooth.open(run)
    made = {
        "half": dreambooth.generate("a mug", model=run, strength=0.5, **asked),
        "half of the run": learned.generate("a mug", strength=0.5, **asked),
        "whole": learned.generate("a mug", **asked),
    }
    digests = {name: images[0].settings["model_digest"] for name, images in made.items()}
    assert digests["half"] == digests["half of the run"] == read_model(str(file)).digest()
    assert digests["whole"] == read_model(str(run)).digest() != digests["half"]


@pytest.mark.slow
def test_a_model_in_the_run_folder_remembers_its_base_and_one_elsewhere_does_not(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    inside, outside = run / "model.safetensors", tmp_path / "copied.safetensors"
    assert main(["convert", str(inside), str(tmp_path / "a.safetensors"), "--strength", "0.5"]) == 0
    outside.write_bytes(inside.read_bytes())
    capsys.readouterr()
    command = ["convert", str(outside), str(tmp_path / "b.safetensors"), "--strength", "0.5"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "strength is 0.5, which is counted from the base model, and" in said
    assert "--strength 0.5 --base MODEL" in said
    assert main([*command, "--base", "toybox"]) == 0
    assert read_model(str(tmp_path / "a.safetensors")).digest() == read_model(str(tmp_path / "b.safetensors")).digest()


def test_another_base_model_is_refused(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["convert", str(run), str(tmp_path / "x.safetensors"), "--strength", "0.5", "--base", str(run)]) == 1
    said = capsys.readouterr().err
    assert f"not the model that {run} was trained from" in said
    assert not (tmp_path / "x.safetensors").exists()


def test_a_base_model_without_a_strength_has_no_effect(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["convert", str(run), str(tmp_path / "x.safetensors"), "--base", "toybox"]) == 2
    assert "base would have no effect with strength 1" in capsys.readouterr().err


def test_the_recorded_inputs_are_what_is_compared(run: Path) -> None:
    made_of = json.loads(read_model(str(run)).metadata["dreambooth.made_of"])
    assert made_of["base model"] == read_model("toybox").digest()


@pytest.mark.slow
def test_an_evaluation_scores_strengths_and_names_the_best(run: Path, tmp_path: Path, capsys: Capture) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("photo of a {token} {class_word} on the beach\n", encoding="utf-8")
    fewer = ["--num-images", "1", "--num-class-images", "2", "--num-checkpoint-images", "0", "--sampling-steps", "1"]
    asked = ["--strengths", "0.5", "1.2", "--prompts", str(prompts), "--output", str(tmp_path / "e")]
    assert main(["evaluate", "--model", str(run), *fewer, *asked]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "e" / "scores.json").read_text())["by_strength"]
    assert [*found] == ["0.5", "1", "1.2"] and all(0 <= one["value"] <= 1 for one in found.values())
    best = max(found, key=lambda strength: found[strength]["value"])
    assert f"{'The full strength' if best == '1' else f'Strength {best}'} has the highest balance" in said
    assert "By strength of the training" in (tmp_path / "e" / "report.html").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "e" / "pictures").iterdir()} == {"model", "base", "strength-0.5", "strength-1.2"}


def test_strengths_need_a_base_model(run: Path, tmp_path: Path, photos: Path, capsys: Capture) -> None:
    file = tmp_path / "copied.safetensors"
    file.write_bytes((run / "model.safetensors").read_bytes())
    words = ["--photos", str(photos), "--class-word", "backpack", "--token", "sks", "--output", str(tmp_path / "e")]
    assert main(["evaluate", "--model", str(file), *words, "--strengths", "0.5"]) == 2
    assert "strengths are counted from the base model, and there is none" in capsys.readouterr().err
