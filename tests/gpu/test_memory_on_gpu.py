"""Memory plans on a CUDA device: every preset trains and goes on, streamed blocks and compiled models change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.memory.plan import GPU_PRESETS
from dreambooth.recipes.display import Display
from dreambooth.recipes.settings import TrainSettings
from dreambooth.recipes.train import resume, train
from dreambooth.training.events import read_events

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

MakeSettings = Callable[..., TrainSettings]


def run_in(settings: TrainSettings, name: str) -> TrainSettings:
    output = settings.output.model_copy(update={"output": settings.output.output.with_name(name)})
    return settings.model_copy(update={"output": output})


def losses(run: Path) -> list[float]:
    return [event["loss"] for event in read_events(run / "events.jsonl") if event["event"] == "step"]


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:06d}" / "weights.safetensors")


@pytest.mark.parametrize("preset", GPU_PRESETS)
def test_every_preset_trains_previews_and_goes_on(run_settings: MakeSettings, display: Display, preset: str) -> None:
    gpu = {"steps": 6, "device": "cuda"}
    looks = {"preview_steps": 3, "validation_steps": 3}
    settings = run_in(run_settings(loop=gpu, memory={"memory_preset": preset}, output=looks), preset)
    exact = run_in(run_settings(loop={**gpu, "device": "cpu"}), "cpu")
    train(exact, display)
    train(settings, display)
    assert losses(settings.output.output) == pytest.approx(losses(exact.output.output), rel=0.05)
    assert len(losses(settings.output.output)) == 6  # fetched late, and none is lost
    assert resume(settings.output.output, {"loop.steps": 8}, display).step == 8
    assert len(losses(settings.output.output)) == 8


def test_streamed_blocks_give_the_same_weights(run_settings: MakeSettings, display: Display) -> None:
    memory: dict[str, Any] = {"memory_preset": "6gb", "states_on_host": True}
    plain = run_in(run_settings(loop={"steps": 3, "device": "cuda"}, memory=memory), "plain")
    streamed = run_in(run_settings(loop={"steps": 3, "device": "cuda"}, memory={**memory, "stream_blocks": True}), "streamed")
    train(plain, display)
    train(streamed, display)
    for name, tensor in weights(plain.output.output, 3).items():
        torch.testing.assert_close(weights(streamed.output.output, 3)[name], tensor, rtol=2e-2, atol=2e-4, msg=name)


@pytest.mark.parametrize("how", ["blocks", "full"])
def test_compiled_models_train_to_the_same_losses(run_settings: MakeSettings, display: Display, how: str) -> None:
    settings = run_in(run_settings(loop={"steps": 3, "device": "cuda"}), "plain")
    compiled = run_in(run_settings(loop={"steps": 3, "device": "cuda", "compile": how}), how)
    train(settings, display)
    train(compiled, display)
    assert losses(compiled.output.output) == pytest.approx(losses(settings.output.output), rel=0.02)
