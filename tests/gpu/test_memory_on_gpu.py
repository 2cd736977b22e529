"""Memory plans on a CUDA device: every preset trains and goes on, streamed blocks and compiled models change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.display import Display
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.memory.plan import PRESETS
from dreambooth.recipes.train import resume, train
from dreambooth.runs.events import read_events
from dreambooth.runtime.precision import choose_precision
from dreambooth.runtime.processes import OneProcess
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer.assembly import TrainingSetup, assemble, place_for_training
from dreambooth.training.batches import Batch
from dreambooth.training.loop import training_steps
from tests.random_weights import random_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

MakeSettings = Callable[..., TrainSettings]


def run_in(settings: TrainSettings, name: str) -> TrainSettings:
    output = settings.output.model_copy(update={"output": settings.output.output.with_name(name)})
    return settings.model_copy(update={"output": output})


def losses(run: Path) -> list[float]:
    return [event["loss"] for event in read_events(run / "events.jsonl") if event["event"] == "step"]


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:06d}" / "weights.safetensors")


@pytest.mark.parametrize("preset", StableDiffusion1.memory_presets)
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


@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
@pytest.mark.parametrize("how", ["blocks", "full"])
def test_compiled_models_train_to_the_same_losses(run_settings: MakeSettings, display: Display, how: str) -> None:
    settings = run_in(run_settings(loop={"steps": 3, "device": "cuda"}), "plain")
    compiled = run_in(run_settings(loop={"steps": 3, "device": "cuda", "compile": how}), how)
    train(settings, display)
    train(compiled, display)
    assert losses(compiled.output.output) == pytest.approx(losses(settings.output.output), rel=0.02)


def test_a_step_makes_the_host_wait_for_nothing(miniature: StableDiffusion1, run_settings: MakeSettings) -> None:
    """Losses, noise tables, batches, norm and update: none of them may read from the device."""
    device = torch.device("cuda")
    settings = run_settings(loop={"steps": 8, "device": "cuda"}, memory={"memory_preset": "fast"})
    plan, policy = PRESETS["fast"], choose_precision("bf16-mixed", device)
    components = random_model(miniature, seed=0).build(dtype=torch.float32)
    setup = TrainingSetup(settings.trainee, settings.optimizer, settings.loop, plan, policy)
    placed = place_for_training(components, setup, device)
    trainee, state = assemble(placed, setup, OneProcess())

    def batches_at(step: int) -> list[Batch]:
        x_0, is_prior = torch.zeros(2, 4, 16, 16, device=device), torch.tensor([False, True], device=device)
        eps, t_B = torch.ones_like(x_0), torch.tensor([step, 500]).pin_memory().to(device, non_blocking=True)
        text = torch.zeros(2, 77, dtype=torch.int64, device=device)
        return [Batch(x_0, eps, t_B, text, is_prior, torch.ones(2, device=device), ("a", "b"))]

    with trainee.train_mode():
        steps = training_steps(state, batches_at, last_step=8)
        results = [next(steps) for _ in range(3)]
        torch.cuda.set_sync_debug_mode("error")
        try:
            results += [next(steps) for _ in range(3)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for result in results:
        result.check()
