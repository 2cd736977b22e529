"""A Stable Diffusion 1 whose file is marked as one of the velocity: trained as such, and written with the marks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dreambooth.config import read_yaml
from dreambooth.display import Display
from dreambooth.recipes.train import train
from dreambooth.schema.verbs import TrainSettings


@pytest.mark.slow
def test_marks_of_the_velocity_and_of_zero_terminal_snr(
    run_settings: Callable[..., TrainSettings], small_model: Path, tmp_path: Path, display: Display, said: Callable[[], str]
) -> None:
    """As NoobAI's and other v-prediction models carry them: empty tensors beside the weights."""
    marks = {name: torch.zeros(0) for name in ("v_pred", "ztsnr")}
    save_file({**load_file(small_model), **marks}, tmp_path / "marked.safetensors", {"modelspec.resolution": "64x64"})
    looks = {"preview_steps": 1, "preview_prompts": ["{instance_prompt}"], "validation_steps": 1}
    settings = run_settings(base={"model": str(tmp_path / "marked.safetensors")}, loop={"steps": 1}, output=looks)
    run = train(settings, display)
    assert "The model predicts the velocity (v-prediction): stated by the tensor v_pred; its schedule ends without" in said()
    assert run.model is not None and marks.keys() <= load_file(run.model).keys()
    with safe_open(run.model, "pt") as file:
        assert file.metadata()["modelspec.prediction_type"] == "v"
    assert read_yaml(run.run / "config.yaml")["base"]["prediction"] == "auto"  # the file says it
    assert len(list((run.run / "previews").rglob("*.png"))) >= 1
