"""Stable Diffusion XL from the photos to a picture, by the installed command."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dreambooth.cli.main import main
from dreambooth.config import parse_settings
from dreambooth.display_silent import SilentDisplay
from dreambooth.recipes.convert import convert
from dreambooth.recipes.evaluate import evaluate
from dreambooth.recipes.generate import generate
from dreambooth.recipes.train import resume
from dreambooth.runtime.processes import OneProcess
from dreambooth.schema.verbs import ConvertSettings, EvaluateSettings, GenerateSettings, TrainSettings
from dreambooth.trainer.material import gather_material
from dreambooth.trainer.preflight import check_everything
from dreambooth.training.batches import draw
from dreambooth.weights.read import read_model

SETTINGS: dict[str, Any] = {
    "prior": {"num_prior_images": 1, "prior_sampling_steps": 1},
    "loop": {"device": "cpu", "steps": 2},
    "views": {"resolution": 64, "flip_probability": 0},
    "output": {"preview_steps": 0, "validation_steps": 2, "model_dtype": "float32"},
}


EVALUATION: dict[str, Any] = {
    **{"sampling_steps": 1, "num_images": 1, "num_class_images": 2, "num_checkpoint_images": 0},
    **{"dino": "toybox", "clip": "toybox"},
}


def settings(checkpoint: Path, photos: Path, output: Path) -> TrainSettings:
    own = {"base": {"model": str(checkpoint)}, "subject": {"photos": photos, "class_word": "backpack"}}
    values = {**SETTINGS, **own, "output": {**SETTINGS["output"], "output": output}}
    return parse_settings(TrainSettings, values, where="test")


def test_every_example_is_told_its_own_sizes(golden_xl_checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    """Class images with the sizes of photos, as other trainers tell them, would teach the class wrong sizes."""
    display = SilentDisplay()
    asked = settings(golden_xl_checkpoint, photos, tmp_path / "run")
    material = gather_material(check_everything(asked, display, OneProcess(), is_resume=False), display)
    told = {}
    for example in material.source.examples_at(1):
        numbers = draw(example, material.encoded, seed=23, step=1, num_timesteps=1000).sizes_6
        assert numbers is not None
        told[example.role] = numbers.tolist(), example.photo
    sizes, photo = told["instance"]
    assert sizes[:2] == [photo.height, photo.width] and max(sizes[:2]) > 64
    assert sizes[4:] == [64, 64]
    assert told["prior"][0] == [64, 64, 0, 0, 64, 64]
    assert [item.sizes_6 is not None for item in material.validation] == [True] * len(material.validation)


@pytest.mark.slow
def test_from_photos_to_a_picture(
    dreambooth: Callable[..., Any], golden_xl_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    flags = (
        *("train", "--model", golden_xl_checkpoint, "--photos", photos, "--class-word", "backpack", "--device", "cpu"),
        *("--resolution", 64, "--num-prior-images", 2, "--prior-sampling-steps", 1, "--preview-steps", 2),
        *("--preview-prompts", "{instance_prompt}", "--preview-guidance-scale", 1),
        *("--validation-steps", 0, "--model-dtype", "float32", "--text-encoder-2-learning-rate", 1e-5),
    )
    done = dreambooth(*flags, "--steps", 2, "--output", whole)
    assert done.returncode == 0, done.stderr
    assert len(list((whole / "previews").glob("step-*/*.png"))) == 2
    assert dreambooth(*flags, "--steps", 1, "--output", cut).returncode == 0
    display = SilentDisplay()
    resume(cut, {"loop.steps": 2}, display)
    model = load_file(whole / "model.safetensors")
    assert all(torch.equal(tensor, model[name]) for name, tensor in load_file(cut / "model.safetensors").items())
    base = load_file(golden_xl_checkpoint)
    assert model.keys() == base.keys()
    still = {name for name, tensor in base.items() if torch.equal(model[name], tensor.to(model[name].dtype))}
    assert any(".resblocks.1." in name for name in model.keys() - still)
    assert {name for name in still if "embedders.0" in name} == {
        name
        for name in model
        if "embedders.0" in name and ("layers.1." in name or "final_layer_norm" in name or "position_ids" in name)
    }
    with safe_open(whole / "model.safetensors", "pt") as file:
        assert file.metadata()["modelspec.architecture"] == "stable-diffusion-xl-v1-base"
        assert file.metadata()["modelspec.resolution"] == "64x64"
    convert(ConvertSettings(source=str(whole), destination=tmp_path / "folder"), display)
    convert(ConvertSettings(source=str(tmp_path / "folder"), destination=tmp_path / "back.safetensors"), display)
    assert all(torch.equal(tensor, model[name]) for name, tensor in load_file(tmp_path / "back.safetensors").items())
    sample = {
        "prompt": ["a sks backpack"],
        "num_images": 1,
        "sampling_steps": 2,
        "sampler": "euler",
        "output": tmp_path / "made",
    }
    asked = parse_settings(GenerateSettings, {"base": {"model": str(tmp_path / "folder")}, "sample": sample}, where="test")
    assert len(generate(asked, display).files) == 1
    (tmp_path / "prompts.txt").write_text("photo of a {token} {class_word}", encoding="utf-8")
    measured = {**EVALUATION, "prompts": tmp_path / "prompts.txt"}
    of_run = {"model": str(whole), "evaluation": measured, "device": "cpu"}
    evaluate(parse_settings(EvaluateSettings, of_run, where="test"), display)
    scores = json.loads((whole / "evaluation" / "scores.json").read_text(encoding="utf-8"))["scores"]
    assert {one["name"] for one in scores["model"]} >= {"DINO", "CLIP-T", "PRES"}


@pytest.mark.slow
def test_a_lora_of_all_its_parts_resumes_bit_for_bit(golden_xl_checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    flags = (
        *("train", "--model", str(golden_xl_checkpoint), "--photos", str(photos), "--class-word", "backpack"),
        *("--trainee", "lora", "--rank", "2", "--targets", "all", "--lora-dropout", "0.5", "--prior-examples", "photos"),
        *(
            "--device",
            "cpu",
            "--resolution",
            "64",
            "--preview-steps",
            "0",
            "--validation-steps",
            "0",
            "--model-dtype",
            "float32",
        ),
    )
    assert main([*flags, "--steps", "2", "--output", str(whole)]) == 0
    assert main([*flags, "--steps", "1", "--output", str(cut)]) == 0
    assert main(["train", "--resume", str(cut), "--steps", "2"]) == 0
    expected, found = load_file(whole / "model.safetensors"), load_file(cut / "model.safetensors")
    assert expected.keys() == found.keys() and {name[:8] for name in found} == {"lora_une", "lora_te1", "lora_te2"}
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    changed = [part for part, tensors in read_model(str(whole)).parts.items() if _differs(golden_xl_checkpoint, part, tensors)]
    assert changed == ["unet", "text_encoder", "text_encoder_2"]


def _differs(base: Path, part: str, tensors: Mapping[str, torch.Tensor]) -> bool:
    before = read_model(str(base)).parts[part]
    return any(not torch.equal(before[name].float(), tensor.float()) for name, tensor in tensors.items())
