"""Training under every memory plan: close to float32, resumed bit for bit, and told what to do when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.config import read_yaml
from dreambooth.errors import SettingsError, TrainingError
from dreambooth.recipes.display import Display
from dreambooth.recipes.settings import TrainSettings
from dreambooth.recipes.train import resume, train
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.events import read_events

MakeSettings = Callable[..., TrainSettings]
PRESETS = ["fast", "24gb", "12gb", "8gb", "6gb"]


def losses(run: Path) -> list[float]:
    return [event["loss"] for event in read_events(run / "events.jsonl") if event["event"] == "step"]


def checkpoint(run: Path, step: int) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{step:06d}"
    files = {name: load_file(folder / f"{name}.safetensors") for name in ("weights", "optimizer")}
    return {f"{file} {name}": tensor for file, tensors in files.items() for name, tensor in tensors.items()}


def in_folder(settings: TrainSettings, name: str) -> TrainSettings:
    output = settings.output.model_copy(update={"output": settings.output.output.with_name(name)})
    return settings.model_copy(update={"output": output})


def at_steps(settings: TrainSettings, steps: int) -> TrainSettings:
    return settings.model_copy(update={"loop": settings.loop.model_copy(update={"steps": steps})})


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_goes_on_bit_for_bit_and_stays_close_to_float32(
    run_settings: MakeSettings, display: Display, preset: str
) -> None:
    exact = run_settings(loop={"steps": 3})
    settings = in_folder(run_settings(loop={"steps": 3}, memory={"memory_preset": preset}), preset)
    stopped = in_folder(settings, f"{preset}-stopped")
    train(exact, display)
    train(settings, display)
    train(at_steps(stopped, 2), display)
    resume(stopped.output.output, {"loop.steps": 3}, display)
    straight, resumed = (checkpoint(one.output.output, 3) for one in (settings, stopped))
    assert straight.keys() == resumed.keys()
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name
    assert losses(settings.output.output) == losses(stopped.output.output)
    assert losses(settings.output.output) == pytest.approx(losses(exact.output.output), rel=0.03)
    stored = read_yaml(settings.output.output / "config.yaml")["memory"]
    assert stored["memory_preset"] == preset
    assert stored["precision"] in ("bf16", "bf16-mixed")


@pytest.mark.parametrize(
    "levers",
    [
        {"memory.gradient_checkpointing": "all", "memory.micro_batch_size": 1},
        {"memory.states_on_host": True},
        {"memory.step_in_backward": True, "memory.gradient_checkpointing": "outer"},
    ],
    ids=str,
)
def test_levers_that_change_no_number_may_be_pulled_on_a_resume(
    run_settings: MakeSettings, display: Display, levers: dict[str, Any]
) -> None:
    settings = run_settings(loop={"steps": 4})
    saved = in_folder(run_settings(loop={"steps": 2}), "saved")
    train(settings, display)
    train(saved, display)
    resume(saved.output.output, {"loop.steps": 4, **levers}, display)
    assert losses(saved.output.output) == pytest.approx(losses(settings.output.output), rel=1e-4)
    weights = {name: tensor for name, tensor in checkpoint(settings.output.output, 4).items() if name.startswith("weights")}
    for name, tensor in weights.items():
        torch.testing.assert_close(checkpoint(saved.output.output, 4)[name], tensor, rtol=1e-3, atol=2e-4, msg=name)


def test_another_format_of_the_means_is_refused_on_a_resume(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 1})
    train(settings, display)
    run = settings.output.output
    with pytest.raises(SettingsError) as caught:
        resume(run, {"loop.steps": 2, "memory.memory_preset": "8gb"}, display)
    assert caught.value.problems == (
        "memory.optimizer_states was float32 when the run started and is now 8bit; "
        "with --memory-preset 8gb add --optimizer-states float32",
    )
    with pytest.raises(SettingsError, match=r"memory\.precision was 'fp32' when the run started and is now 'bf16'"):
        resume(run, {"loop.steps": 2, "memory.precision": "bf16"}, display)
    with pytest.raises(SettingsError, match=r"memory_preset is auto, and the run began with cpu; name a preset"):
        resume(run, {"loop.steps": 2, "memory.memory_preset": "auto"}, display)
    changed = {"loop.steps": 2, "memory.memory_preset": "8gb", "memory.optimizer_states": "float32"}
    assert resume(run, changed, display).step == 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
    ids=["cuda", "cpu"],
)
def test_out_of_memory_is_told_with_the_levers_and_the_run_goes_on(
    run_settings: MakeSettings, display: Display, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    settings = run_settings(loop={"steps": 4}, output={"checkpoint_steps": 2})
    calls = 0
    predict = Denoiser.__call__

    def full(self: Denoiser, *arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return predict(self, *arguments)

    monkeypatch.setattr(Denoiser, "__call__", full)
    with pytest.raises(TrainingError) as caught:
        train(settings, display)
    [problem], hint = caught.value.problems, caught.value.hint
    assert problem.startswith("cpu (1 threads): out of memory (")
    assert "more" not in problem
    assert hint is not None
    assert hint.startswith("Resumed with --gradient-checkpointing all or --micro-batch-size 1 or --states-on-host")
    assert "The run is saved at step 2. To go on:\n  dreambooth train --resume" in hint
    changes = {"memory.gradient_checkpointing": "all", "memory.micro_batch_size": 1}
    assert resume(settings.output.output, changes, display).step == 4


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    run_settings: MakeSettings, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Denoiser, "__call__", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(run_settings(), display)
