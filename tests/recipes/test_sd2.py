"""Stable Diffusion 2 by the installed command: trained with class images, resumed, converted there and back, sampled."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.config import parse_settings
from dreambooth.display_silent import SilentDisplay
from dreambooth.recipes.evaluate import evaluate
from dreambooth.recipes.train import resume
from dreambooth.schema.verbs import EvaluateSettings

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_a_subject_is_learned_from_photos(
    dreambooth: Command, golden_v2_checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    run, base = tmp_path / "run", load_file_of(golden_v2_checkpoint)
    options = ("--resolution", 64, "--num-prior-images", 2, "--prior-sampling-steps", 2, "--prior-folder", tmp_path / "class")
    rest = ("--preview-steps", 2, "--preview-prompts", "{instance_prompt}", "--preview-guidance-scale", 1)
    rest = (*rest, "--validation-steps", 0, "--learning-rate", 1e-4, "--model-dtype", "float32")
    about = ("--model", golden_v2_checkpoint, "--photos", photos, "--class-word", "backpack", *options, *rest)
    trained = dreambooth("train", *about, "--steps", 2, "--output", run)
    assert trained.returncode == 0, trained.stderr
    assert "The model predicts the velocity (v-prediction): stated by model.params.parameterization v." in trained.stdout
    model = load_file(run / "model.safetensors")
    moved = {name for name in base if "." in name and not torch.equal(model[name], base[name])}
    assert {"model.diffusion_model.out.2.weight", "cond_stage_model.model.transformer.resblocks.2.attn.in_proj_weight"} <= moved
    assert not any(".resblocks.3." in name or name.endswith(("text_projection", "logit_scale")) for name in moved)
    assert not any(name.startswith("first_stage_model.") for name in moved)

    assert len(list((run / "previews").rglob("*.png"))) >= 1
    assert dreambooth("train", *about, "--steps", 1, "--output", tmp_path / "cut").returncode == 0
    resume(tmp_path / "cut", {"loop.steps": 2}, SilentDisplay())
    again = load_file(tmp_path / "cut" / "model.safetensors")
    assert [name for name in model if not torch.equal(again[name], model[name])] == []

    (tmp_path / "prompts.txt").write_text("photo of a {token} {class_word}", encoding="utf-8")
    measured = {
        **{"sampling_steps": 1, "num_images": 1, "num_class_images": 2, "num_checkpoint_images": 0},
        **{"dino": "toybox", "clip": "toybox", "prompts": tmp_path / "prompts.txt"},
    }
    of_run = {"model": str(run), "evaluation": measured, "device": "cpu"}
    evaluate(parse_settings(EvaluateSettings, of_run, where="test"), SilentDisplay())
    scores = json.loads((run / "evaluation" / "scores.json").read_text(encoding="utf-8"))["scores"]
    assert {one["name"] for one in scores["model"]} >= {"DINO", "CLIP-T", "PRES"} and scores["base"]

    assert dreambooth("convert", run, tmp_path / "folder").returncode == 0
    assert dreambooth("convert", tmp_path / "folder", tmp_path / "back.safetensors").returncode == 0
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == model.keys()
    assert [name for name in model if not torch.equal(back[name], model[name])] == []


def load_file_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return tensors
