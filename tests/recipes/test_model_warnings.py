"""What a model file holds beside the model is told by training and generating too, not only by converting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dreambooth.display import Display
from dreambooth.errors import DreamboothError
from dreambooth.recipes.generate import generate
from dreambooth.runtime.processes import OneProcess
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.verbs import GenerateSettings, TrainSettings
from dreambooth.toybox.files import EMBEDDED_MODEL_FILE
from dreambooth.trainer.preflight import check_everything
from dreambooth.weights.settings import BaseModelSettings

MERGED = "This file is a merge of models (metadata sd_merge_recipe): the weights themselves are used, not the average."
LEFT_OUT = "Skipped 1 tensor outside all parts of the model (strange.tensor)."


@pytest.fixture(scope="session")
def odd_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as a merging program would leave it, with the average of another model."""
    tensors = load_file(EMBEDDED_MODEL_FILE)
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor * 0
        for name, tensor in tensors.items()
        if name.startswith("model.diffusion_model.")
    }
    path = tmp_path_factory.mktemp("odd") / "merge.safetensors"
    save_file({**tensors, **averages, "strange.tensor": torch.zeros(2)}, path, metadata={"sd_merge_recipe": "{'a': 1}"})
    return path


def test_training_tells(
    odd_model: Path, run_settings: Callable[..., TrainSettings], display: Display, said: Callable[[], str]
) -> None:
    base: dict[str, Any] = {"model": str(odd_model)}
    ready = check_everything(run_settings(base=base), display, OneProcess(), is_resume=False)
    assert MERGED in said()
    assert LEFT_OUT in said()
    which = "UNet weights: the raw weights of the last step, not the EMA weights; the file also holds their moving average"
    assert any(line.startswith(which) for line in ready.announcement)


@pytest.mark.slow
def test_generating_tells(odd_model: Path, tmp_path: Path, display: Display, said: Callable[[], str]) -> None:
    sample = SampleSettings(output=tmp_path / "pictures", prompt=("a vase",), num_images=1, sampling_steps=1, device="cpu")
    generate(GenerateSettings(base=BaseModelSettings(model=str(odd_model)), sample=sample), display)
    assert MERGED in said()
    assert LEFT_OUT in said()


def test_a_base_model_that_float16_cannot_hold_is_refused_before_training(
    run_settings: Callable[..., TrainSettings], display: Display, small_model: Path, tmp_path: Path
) -> None:
    tensors = {name: tensor.float() for name, tensor in load_file(small_model).items()}
    tensors["model.diffusion_model.out.2.bias"][0] = 1e6
    save_file(tensors, tmp_path / "large.safetensors")
    base: dict[str, Any] = {"model": str(tmp_path / "large.safetensors")}
    with pytest.raises(DreamboothError, match=r"conv_out\.bias holds the value 1e\+06, and float16 ends at 65,504") as caught:
        check_everything(run_settings(base=base), display, OneProcess(), is_resume=False)
    assert "--model-dtype float32" in str(caught.value)
    settings = run_settings(base=base, output={"model_dtype": "bfloat16"})
    assert check_everything(settings, display, OneProcess(), is_resume=False).outputs.model_dtype == "bfloat16"
