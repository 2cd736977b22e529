"""`dreambooth plan`: what a person reads, and what a program gets back."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.main import main
from dreambooth.cli.verbs import VERBS
from dreambooth.config import parse_settings, write_yaml
from dreambooth.data.size import Size
from dreambooth.display import Display
from dreambooth.errors import PhotoError, SettingsError
from dreambooth.estimate.choice import USABLE
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.memory.plan import PRESETS
from dreambooth.recipes.plan import PlanResult, plan_memory
from dreambooth.schema.verbs import PlanSettings, TrainSettings
from dreambooth.trainer.workload import workload_of

FIRST_LINE = "Stable Diffusion 1: UNet and text encoder, 2 images of 64 px per forward pass\n"
LAST_LINE = "On a GPU with 24 GiB free: auto chooses fast. Predicted peak memory: "


def plan(display: Display, **values: object) -> PlanResult:
    return plan_memory(parse_settings(PlanSettings, {"base": {"model": "toybox"}, **values}, where="here"), display)


def typed(line: str) -> PlanSettings:
    verb, arguments = VERBS["plan"], shlex.split(line)
    return settings_from(verb, PlanSettings, read_arguments(verb, PlanSettings, arguments))


@pytest.mark.slow
def test_the_installed_command() -> None:
    command = [str(Path(sys.executable).with_name("dreambooth")), "plan", "--model", "toybox", "--gpu-memory", "24"]
    environment = {**os.environ, "COLUMNS": "80", "CUDA_VISIBLE_DEVICES": ""}
    one = [*command, "--memory-preset", "fast"]
    result = subprocess.run(one, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(FIRST_LINE)


@pytest.mark.slow
def test_a_table_of_components_and_one_of_phases_has_every_preset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["plan", "--model", "toybox", "--gpu-memory", "24"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and shown.out.startswith(FIRST_LINE)
    lines = [line.split() for line in shown.out.splitlines()]
    assert [line[0] for line in lines if line and line[0] in PRESETS] == 2 * [*StableDiffusion1.memory_presets, "cpu"]
    fast = next(line for line in lines if line and line[0] == "fast")
    assert fast[-1] == "yes" and sum(map(float, fast[1:6])) == pytest.approx(float(fast[6]), abs=0.03)
    assert LAST_LINE in shown.out


def test_without_a_gpu_the_plan_for_cpus_is_taken(display: Display, said: Callable[[], str]) -> None:
    result = plan(display, loop={"device": "cpu"})
    assert result.auto == "cpu" and set(result.estimates) == {*StableDiffusion1.memory_presets, "cpu"}
    assert "auto chooses cpu" in said() and "To plan for a GPU in another machine: --gpu-memory GIB" in said()


@pytest.mark.slow
def test_a_named_preset_alone_and_nothing_that_fits(display: Display, said: Callable[[], str]) -> None:
    result = plan(display, gpu_memory=0.5, memory={"memory_preset": "8gb"}, trainee={"train_text_encoder": False})
    assert list(result.estimates) == ["8gb"] and result.auto is None
    assert result.free == 2**29
    assert "Stable Diffusion 1: UNet, 2 images" in said()
    assert "8gb does not fit a GPU with 0.5 GiB free. Predicted peak memory: " in said()
    assert "auto" not in said()
    nothing = plan(display, gpu_memory=0.3, trainee={"train_text_encoder": False})
    assert nothing.auto is None
    assert "no preset fits; the smallest is " in said()
    assert "To use the least memory: --memory-preset 6gb --states-on-host --stream-blocks" in said()
    assert next(line for line in said().splitlines() if line.startswith("8gb")).split()[-1] == "no"


def test_what_is_asked_for_reaches_the_prediction(display: Display, said: Callable[[], str]) -> None:
    memory = {"memory_preset": "fast"}
    plain = plan(display, gpu_memory=24, memory=memory).estimates["fast"]
    large = plan(
        display, gpu_memory=24, memory=memory, loop={"batch_size": 4}, views={"resolution": 256}, prior={"prior_weight": 0}
    ).estimates["fast"]
    assert "4 images of 256 px per forward pass" in said()
    assert [phase.name for phase in large.phases] == ["encoding", "training step", "previews"]
    assert large.peak > 1.2 * plain.peak
    average = plan(
        display, gpu_memory=24, memory=memory, loop={"ema_decay": 0.99}, optimizer={"optimizer": "adafactor"}
    ).estimates["fast"]
    assert average.largest.use.average > 0 and average.largest.use.states < plain.largest.use.states / 10


def test_presets_that_contradict_the_choices_are_left_out(display: Display, said: Callable[[], str]) -> None:
    result = plan(display, loop={"device": "cpu"}, memory={"stream_blocks": True})
    assert list(result.estimates) == ["6gb"] and result.auto is None
    assert "Skipped: fast: stream_blocks needs --step-in-backward and --gradient-checkpointing all" in said()
    assert "auto would choose cpu, but stream_blocks needs" in said()
    with pytest.raises(SettingsError, match="cannot be summed over micro-batches"):
        plan(display, memory={"step_in_backward": True, "micro_batch_size": 1})
    with pytest.raises(SettingsError) as once:
        plan(display, memory={"step_in_backward": True, "micro_batch_size": 1})
    assert len(once.value.problems) == 1


def test_options_without_effect_are_refused(display: Display) -> None:
    with pytest.raises(SettingsError, match="device cpu would have no effect"):
        plan(display, loop={"device": "cpu"}, gpu_memory=8)
    with pytest.raises(SettingsError, match="optimizer_states would have no effect"):
        plan(display, optimizer={"optimizer": "adafactor"}, memory={"optimizer_states": "8bit"})


@pytest.mark.slow
def test_without_a_model_the_plan_is_for_a_full_size_one(display: Display, said: Callable[[], str]) -> None:
    result = plan_memory(typed("--memory-preset fast --gpu-memory 24"), display)
    assert said().startswith(
        "No --model given: planning for a full-size Stable Diffusion 1.\n"
        "Stable Diffusion 1: UNet and text encoder, 2 images of 512 px per forward pass\n"
    )
    trained_parameters = 859_520_964 + 123_060_480
    assert result.estimates["fast"].largest.use.weights == pytest.approx(4 * trained_parameters, rel=1e-4)
    with pytest.raises(SettingsError, match="no model is given, so weights would have no effect"):
        typed("--weights raw")


def test_without_a_model_the_plan_may_be_for_another_family(
    display: Display, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch, miniature_xl: StableDiffusionXL
) -> None:
    monkeypatch.setattr("dreambooth.recipes.plan.FULL_SIZE", {"sdxl": lambda: miniature_xl.at_resolution(64)})
    result = plan_memory(typed("--family sdxl --gpu-memory 8 --memory-preset fast --no-train-text-encoder"), display)
    assert "No --model given: planning for a full-size Stable Diffusion XL." in said()
    assert "Stable Diffusion XL: UNet, 2 images of 64 px" in said() and list(result.estimates) == ["fast"]
    with pytest.raises(SettingsError, match="a model is given, which shows its family, so family would have no effect"):
        typed("--model toybox --family sdxl")


@pytest.mark.slow
def test_a_plan_for_stable_diffusion_xl_has_its_own_presets(
    display: Display, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch, miniature_xl: StableDiffusionXL
) -> None:
    family = replace(miniature_xl.at_resolution(64), unet=replace(miniature_xl.unet, widths=(128, 512)))
    monkeypatch.setattr("dreambooth.recipes.plan.FULL_SIZE", {"sdxl": lambda: family})
    line = "--family sdxl --no-train-text-encoder --prior-weight 0 --preview-steps 0 --gpu-memory"
    result = plan_memory(typed(f"{line} 24"), display)
    assert tuple(result.estimates) == (*family.memory_presets, "cpu") and result.auto == "fast"
    enough = result.estimates["sdxl-10gb"].peak / USABLE / 2**30 + 1e-6
    assert plan_memory(typed(f"{line} {enough}"), display).auto == "sdxl-10gb"
    assert f"On a GPU with {enough:g} GiB free: auto chooses sdxl-10gb. Predicted peak memory: " in said()
    assert plan_memory(typed(f"{line} 0.1"), display).auto is None
    assert said().endswith("\nTo use the least memory: --memory-preset sdxl-6gb\n")


def test_a_plan_for_a_file_of_stable_diffusion_2(display: Display, said: Callable[[], str], golden_v2_checkpoint: Path) -> None:
    """Of the velocity, with previews and class images; 768 pixels are its own size."""
    result = plan(
        display,
        base={"model": str(golden_v2_checkpoint)},
        views={"resolution": 64},
        memory={"memory_preset": "8gb"},
        gpu_memory=8,
    )
    assert said().startswith("Stable Diffusion 2: UNet and text encoder, 2 images of 64 px per forward pass")
    assert [phase.name for phase in result.estimates["8gb"].phases] == ["class images", "encoding", "training step", "previews"]
    assert "8gb fits a GPU with 8 GiB free." in said()


def test_a_runs_own_settings_are_planned_for_as_they_are(
    run_settings: Callable[..., TrainSettings], tmp_path: Path, display: Display, said: Callable[[], str]
) -> None:
    training = run_settings(
        loop={"batch_size": 2, "steps": 9, "device": "cpu"}, optimizer={"warmup_steps": 3}, views={"resolution": 128}
    )
    write_yaml(tmp_path / "config.yaml", training, comment="a run")
    settings = typed(f"--preset {tmp_path / 'config.yaml'} --gpu-memory 8 --memory-preset fast")
    assert workload_of(settings, Size.square(128)) == workload_of(training, Size.square(128))
    assert settings.loop.device is None  # that of the run gives way to the other machine's GPU
    plan_memory(settings, display)
    assert "4 images of 128 px per forward pass" in said()
    with pytest.raises(SettingsError, match=r"batch_sise'; did you mean 'loop\.batch_size'"):
        (tmp_path / "wrong.yaml").write_text("loop: {batch_sise: 2}\n", encoding="utf-8")
        typed(f"--preset {tmp_path / 'wrong.yaml'}")


def test_photos_in_buckets_are_planned_for_at_their_largest_size(
    tmp_path: Path, display: Display, said: Callable[[], str], run_settings: Callable[..., TrainSettings]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((300, 200)).save(photos / f"{seed}.png")
    line = "--model toybox --memory-preset fast --gpu-memory 8 --prior-weight 0 --preview-steps 0 --resolution 256 --crop"
    settings = typed(f"{line} bucket --photos {photos}")
    peaks = {"bucket": plan_memory(settings, display).estimates["fast"].peak}
    activations = [phase.use.activations for phase in plan_memory(settings, display).estimates["fast"].phases]
    assert "1 image of 192x320 px per forward pass" in said()
    unknown = plan_memory(typed(f"{line} bucket"), display).estimates["fast"]
    peaks["unknown"] = unknown.peak
    assert "1 image of 256 px per forward pass" in said()
    assert "No --photos given: planning for squares, the largest buckets." in said()
    assert peaks["bucket"] < peaks["unknown"]
    assert all(less < phase.use.activations for less, phase in zip(activations, unknown.phases, strict=True))
    with pytest.raises(SettingsError, match="crop is center, so photos would have no effect"):
        typed(f"{line} center --photos {photos}")
    training = run_settings(subject={"photos": str(photos)}, views={"crop": "bucket"})
    write_yaml(tmp_path / "config.yaml", training, comment="a run")
    of_run = f"--preset {tmp_path / 'config.yaml'} --gpu-memory 8"
    assert typed(of_run).photos == (photos,) and typed(f"{of_run} --crop center").photos == ()
    (photos / "3.jpg").write_bytes(b"no picture")
    with pytest.raises(PhotoError, match=r"3\.jpg: is not an image"):
        plan_memory(settings, display)


def test_a_shipped_preset_gives_its_model_and_its_sizes() -> None:
    settings = typed("--preset toybox --batch-size 4 --prior-weight 0")
    assert (settings.base.model, settings.loop.batch_size, settings.prior.num_made) == ("toybox", 4, 0)


def test_settings_that_training_refuses_are_refused_by_a_plan(run_settings: Callable[..., TrainSettings]) -> None:
    sections: dict[str, dict[str, Any]] = {"loop": {"gradient_accumulation": 2}, "memory": {"step_in_backward": True}}
    with pytest.raises(SettingsError, match="sums gradients over several passes"):
        run_settings(**sections)
    with pytest.raises(SettingsError, match="sums gradients over several passes"):
        parse_settings(PlanSettings, sections, where="here")
