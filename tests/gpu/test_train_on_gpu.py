"""The main job on a CUDA device: every precision, gradient checkpointing, previews, resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.display import Display
from dreambooth.recipes.train import resume, train
from dreambooth.runs.events import read_events
from dreambooth.schema.verbs import TrainSettings

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

MakeSettings = Callable[..., TrainSettings]


def losses(run: Path) -> list[float]:
    return [event["loss"] for event in read_events(run / "events.jsonl") if event["event"] == "step"]


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed", "fp16-mixed"])
def test_the_first_losses_are_those_of_the_cpu(
    run_settings: MakeSettings, display: Display, tmp_path: Path, precision: str
) -> None:
    """Counted randomness gives every device the same examples and noise; later steps differ by rounding."""
    common: dict[str, dict[str, Any]] = {"loop": {"steps": 2}, "output": {"preview_steps": 2, "validation_steps": 1}}
    cpu = run_settings(**common | {"output": {**common["output"], "output": str(tmp_path / "runs" / "cpu")}})
    cpu = cpu.model_copy(update={"loop": cpu.loop.model_copy(update={"device": "cpu"})})
    gpu = run_settings(**common | {"loop": {"steps": 2, "device": "cuda"}, "memory": {"precision": precision}})
    train(cpu, display)
    train(gpu, display)
    tolerance = 1e-3 if precision == "fp32" else 3e-2
    assert losses(gpu.output.output)[0] == pytest.approx(losses(cpu.output.output)[0], rel=tolerance)
    assert all(torch.isfinite(value).all() for value in load_file(gpu.output.output / "model.safetensors").values())


def test_a_run_goes_on_from_its_checkpoint(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 2, "device": "cuda"}, output={"preview_steps": 1})
    train(settings, display)
    assert resume(settings.output.output, {"loop.steps": 4}, display).step == 4
    assert len(losses(settings.output.output)) == 4
