"""Training the model that ships, in the smallest size: through the command, stopped in between, and what it writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dreambooth.display import Display
from dreambooth.errors import Interrupted, SettingsError
from dreambooth.families.untrained import untrained_vit
from dreambooth.toybox.eye import EYE
from dreambooth.toybox.judge import load_judge
from dreambooth.weights.read import read_model
from experiments.toybox import run_stage as pretrain_stage
from experiments.toybox import train as recipe
from experiments.toybox.denoising import denoising_loss
from experiments.toybox.parts import embedded_family
from experiments.toybox.settings import STAGES, PretrainSettings
from experiments.toybox.train import pretrain

ROOT = Path(__file__).parents[2]
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}
SMALL = {
    "num_pictures": 100,
    "num_subject_pictures": 100,
    "num_lookalike_pictures": 32,
    "autoencoder_steps": 2,
    "clip_steps": 1,
    "unet_steps": 2,
    "judge_steps": 2,
    "eye_steps": 1,
    "processes": 1,
    "threads": 1,
}


@pytest.mark.slow
def test_every_stage_runs_and_goes_on_where_it_was(tmp_path: Path, display: Display, said: Callable[[], str]) -> None:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "experiments.toybox", "train", "--output", "box", "--stages", "pictures", *flags]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=HERE,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "rendering the world: 100/100 images" in done.stdout

    box = tmp_path / "box"
    settings = PretrainSettings(output=box, stages=STAGES[1:], **SMALL)
    assert pretrain(settings, display) == box
    assert "UNet: step 2, mean loss" in said()
    assert "increase of the loss with wrong captions" in said()
    assert "step 2, subjects: class" in said()
    assert (box / "sheets" / "step-000002.png").is_file()

    model = read_model(str(box / "toybox.safetensors"))
    assert model.family == embedded_family()
    assert {tensor.dtype for tensor in model.parts["unet"].values()} == {torch.float16}
    average = load_file(box / "unet.safetensors")
    assert torch.equal(model.parts["unet"]["conv_in.weight"], average["average.conv_in.weight"].half())
    load_judge(box / "judge.safetensors")
    assert "step 1, held-out images: AUC against lookalikes" in said()
    eye, state = load_file(box / "eye.safetensors"), load_file(box / "eye-state.safetensors")
    assert set(eye) == {name for name, _ in untrained_vit(EYE, seed=0).named_parameters()}
    assert all(torch.equal(tensor, state[f"average.eye.{name}"].half()) for name, tensor in eye.items())
    with safe_open(box / "eye.safetensors", "pt") as file:
        assert {"dreambooth.seed", "dreambooth.AUC against its class", "dreambooth.pattern"} <= set(file.metadata())

    with pytest.raises(SettingsError, match=r"seed is 5, and .*pictures.json says 20221") as caught:
        pretrain(settings.model_copy(update={"seed": 5}), display)
    assert "another --output" in str(caught.value.hint)

    said_so_far = len(said())
    pretrain(settings.model_copy(update={"stages": ("unet",)}), display)
    assert said()[said_so_far:].strip() == "UNet: already at its last step, 2"


@pytest.fixture
def box(tmp_path: Path, display: Display) -> PretrainSettings:
    """A folder with everything up to a finished CLIP, and what made it."""
    settings = PretrainSettings(output=tmp_path / "box", stages=("pictures", "autoencoder", "clip"), **SMALL)
    pretrain(settings, display)
    return settings.model_copy(update={"stages": ("unet",)})


@pytest.mark.slow
def test_a_stage_that_was_stopped_ends_where_it_would_have_ended(
    box: PretrainSettings, tmp_path: Path, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "hearing", lambda *_, **__: 0.0)
    monkeypatch.setattr(recipe, "_write_sheet", lambda *_: None)
    shutil.copytree(box.output, tmp_path / "undisturbed")
    pretrain(box.model_copy(update={"output": tmp_path / "undisturbed"}), display)

    def stopping(*arguments: Any, step: int, **named: Any) -> torch.Tensor:
        if step == 2:
            raise Interrupted("stopped", exit_code=130)
        return denoising_loss(*arguments, step=step, **named)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain_stage, "_SAVE_EVERY", 1)
        patch.setattr(recipe, "denoising_loss", stopping)
        with pytest.raises(Interrupted):
            pretrain(box, display)
    pretrain(box, display)
    one, other = (load_file(folder / "unet.safetensors") for folder in (box.output, tmp_path / "undisturbed"))
    assert all(torch.equal(one[name], other[name]) for name in other)

    with pytest.raises(SettingsError, match=r"vae.safetensors: the stage autoencoder is at step 2 of 9") as caught:
        pretrain(box.model_copy(update={"autoencoder_steps": 9, "unet_steps": 9}), display)
    assert f"train --output {box.output} --stages autoencoder" in str(caught.value.hint)


def test_what_a_stage_needs_must_be_there(tmp_path: Path, display: Display) -> None:
    empty = PretrainSettings(output=tmp_path / "box", **SMALL)
    with pytest.raises(SettingsError, match="100 of 100 images are missing") as caught:
        pretrain(empty.model_copy(update={"stages": ("autoencoder",)}), display)
    assert f"train --output {empty.output} --stages pictures" in str(caught.value.hint)
    assert not (empty.output / "pictures.json").exists()
    with pytest.raises(SettingsError, match="does not exist, but the finished stage unet is needed"):
        pretrain(empty.model_copy(update={"stages": ("model",)}), display)


def test_stages_are_words_of_a_list(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.toybox", "train", "--stages", "unets"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=HERE,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 2
    assert "--stages is 'unets': expected pictures, autoencoder" in done.stderr
    assert "python -m experiments.toybox train --help" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_the_small_world_has_a_help_of_its_own(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "experiments.toybox", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0
    assert "python -m experiments.toybox VERB" in done.stdout
    assert all(verb in done.stdout for verb in ("train", "count", "subjects"))
