"""The plan of a run follows what is free, and a plan that does not fit is refused with a way out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from dreambooth.data.size import Size
from dreambooth.errors import SettingsError
from dreambooth.estimate import choice as memory_plan
from dreambooth.estimate.choice import USABLE, ChosenPlan, choose_plan, first_that_fits, possible_plan
from dreambooth.estimate.peak import WORKSPACE, estimate_memory
from dreambooth.estimate.traces import Sampling
from dreambooth.estimate.workload import Workload
from dreambooth.families.family import Family
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.memory.plan import PRESETS
from dreambooth.memory.settings import MemoryPreset, MemorySettings
from dreambooth.runtime import precision
from dreambooth.trainees.settings import TraineeSettings

UNET_ALONE = TraineeSettings(train_text_encoder=False)
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
WORK = Workload(
    size=Size.square(256),
    num_examples=2,
    gradient_accumulation=1,
    trainee=TraineeSettings(),
    keeps_average=False,
    optimizer="adamw",
    class_images=Sampling(4, is_guided=True),
    previews=Sampling(1, is_guided=True),
)


@pytest.fixture
def wide(miniature: StableDiffusion1) -> StableDiffusion1:
    """So wide that weights count more than the optimizer's pieces."""
    return replace(miniature, unet=replace(miniature.unet, widths=(128, 512)), text=replace(miniature.text, width=64))


@pytest.fixture(autouse=True)
def _gpu_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory_plan, precision):
        monkeypatch.setattr(module, "has_bfloat16", lambda device: True)


@pytest.fixture
def _without_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of refusals alone: what each lever would save is a dozen estimates."""
    monkeypatch.setattr(memory_plan, "_levers", lambda *_: [])


def peak(family: Family, preset: MemoryPreset, work: Workload = WORK, **choices: object) -> int:
    plan = possible_plan(preset, MemorySettings.model_validate(choices), work, has_bfloat16=True)
    return estimate_memory(family, plan, work).peak


def choose(
    family: Family | None,
    free: int | None,
    device: torch.device = CUDA,
    work: Workload = WORK,
    *,
    is_resume: bool = False,
    **choices: object,
) -> ChosenPlan:
    return choose_plan(MemorySettings.model_validate(choices), device, family, work, free=free, is_resume=is_resume)


def test_auto_is_the_fastest_that_fits(wide: StableDiffusion1) -> None:
    peaks = {preset: peak(wide, preset) for preset in StableDiffusion1.memory_presets}
    assert peaks["fast"] > peaks["12gb"] > peaks["6gb"]
    for free_peak in peaks.values():
        free = int(free_peak / USABLE) + 1
        fitting = [preset for preset in StableDiffusion1.memory_presets if peaks[preset] <= free_peak]
        assert choose(wide, free).preset == fitting[0]
    assert choose(wide, int(peaks["fast"] / USABLE) - 1).preset != "fast"


@pytest.fixture
def wide_xl(miniature_xl: StableDiffusionXL) -> StableDiffusionXL:
    """A Stable Diffusion XL whose UNet counts more than the optimizer's pieces."""
    return replace(miniature_xl, unet=replace(miniature_xl.unet, widths=(128, 512)))


def test_auto_takes_the_presets_of_the_models_family(wide: StableDiffusion1, wide_xl: StableDiffusionXL) -> None:
    work = replace(WORK, trainee=UNET_ALONE, class_images=None, previews=None)
    peaks = {preset: peak(wide_xl, preset, work) for preset in wide_xl.memory_presets}
    assert peaks["fast"] > peaks["sdxl-40gb"] > peaks["sdxl-24gb"] > peaks["sdxl-16gb"] > peaks["sdxl-10gb"] > peaks["sdxl-6gb"]
    for free_peak in peaks.values():
        chosen = choose(wide_xl, int(free_peak / USABLE) + 1, work=work)
        assert chosen.preset == next(preset for preset in wide_xl.memory_presets if peaks[preset] <= free_peak)
        assert chosen.plan == PRESETS[chosen.preset]
    assert {preset for preset in wide.memory_presets if preset in wide_xl.memory_presets} == {"fast"}
    assert choose(wide, 2**20, work=work, is_resume=True).preset == "6gb"
    assert choose(wide_xl, 2**20, work=work, is_resume=True).preset == "sdxl-6gb"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"keeps_average": True}, "ema_decay"),
        ({"is_compiled": True}, "compile"),
        ({"trainee": TraineeSettings(trainee="lora", dora=True)}, "dora"),
    ],
)
def test_a_preset_that_streams_blocks_is_not_for_runs_that_need_them_in_place(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(SettingsError, match=f"memory_preset sdxl-6gb with stream_blocks .* which does not work with {name}"):
        possible_plan("sdxl-6gb", MemorySettings(), replace(WORK, **changes), has_bfloat16=True)
    assert possible_plan("sdxl-6gb", MemorySettings(), WORK, has_bfloat16=True).stream_blocks


def test_auto_off_a_gpu_is_the_plan_for_cpus(miniature: StableDiffusion1) -> None:
    chosen = choose(miniature, 2**40, CPU)
    assert (chosen.preset, chosen.policy.name, chosen.warnings) == ("cpu", "fp32", ())
    assert choose(miniature, None, torch.device("mps")).preset == "cpu"


def test_auto_passes_over_what_contradicts_other_choices(miniature: StableDiffusion1) -> None:
    assert choose(miniature, 2**40, stream_blocks=True).preset == "6gb"
    assert choose(miniature, 2**40, precision="fp16-mixed").preset == "fast"
    with pytest.raises(SettingsError, match="cannot be summed over micro-batches"):
        choose(miniature, 2**40, step_in_backward=True, micro_batch_size=1)


@pytest.mark.usefixtures("_without_advice")
def test_auto_passes_over_what_the_gpu_cannot_calculate(wide: StableDiffusion1, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory_plan, precision):
        monkeypatch.setattr(module, "has_bfloat16", lambda device: False)
    chosen = choose(wide, 2**40)
    assert (chosen.preset, chosen.policy.name) == ("fast", "fp16-mixed")
    with pytest.raises(SettingsError, match=r"24gb does not fit|fast does not fit"):  # not those in bfloat16
        choose(wide, 2**20)


def test_when_nothing_fits_the_smallest_is_named_with_what_would_help(wide: StableDiffusion1) -> None:
    with pytest.raises(SettingsError) as caught:
        choose(wide, 2**27)
    error = caught.value
    smallest = min(StableDiffusion1.memory_presets, key=lambda preset: peak(wide, preset))
    (problem,) = error.problems
    assert problem.startswith(f"the smallest preset {smallest} does not fit the free memory of cuda. ")
    assert (
        f"Predicted peak memory: {peak(wide, smallest) / 2**30:.2f} of 0.12 GiB free, in the phase 'training step' (weights"
        in problem
    )
    assert error.hint is not None and error.hint.startswith("What would help:\n  --")


def lever(text: str | None, words: str) -> str:
    assert text is not None
    return next(line for line in text.splitlines() if line.startswith(f"  {words}: "))


@pytest.mark.slow
def test_a_named_preset_that_does_not_fit_says_what_each_lever_saves(wide: StableDiffusion1) -> None:
    needed, smaller = peak(wide, "fast"), peak(wide, "6gb")
    with pytest.raises(SettingsError, match="memory_preset fast does not fit") as caught:
        choose(wide, int(smaller / USABLE) + 2**20, memory_preset="fast")
    saved = needed - smaller
    assert lever(caught.value.hint, "--memory-preset 6gb") == f"  --memory-preset 6gb: saves {saved / 2**30:.2f} GiB, enough"
    savings = [float(line.split("saves ")[1].split()[0]) for line in str(caught.value.hint).splitlines()[1:]]
    assert savings == sorted(savings, reverse=True) and 1 < len(savings) <= 6
    assert not lever(caught.value.hint, "--memory-preset 24gb").endswith("enough")


@pytest.mark.usefixtures("_without_advice")
def test_choices_laid_over_a_preset_count(wide: StableDiffusion1) -> None:
    free = peak(wide, "8gb") - WORKSPACE + 2**20
    assert choose(wide, free, memory_preset="8gb").preset == "8gb"
    with pytest.raises(SettingsError, match="memory_preset 8gb does not fit"):
        choose(wide, free, memory_preset="8gb", precision="fp32")


def test_a_plan_that_is_near_the_limit_or_was_begun_is_only_warned_of(wide: StableDiffusion1) -> None:
    needed = peak(wide, "8gb")
    tight = choose(wide, needed, memory_preset="8gb")
    assert tight.warnings == ("memory may run out during training",)
    assert tight.predicted is not None and "Predicted" in tight.predicted
    assert choose(wide, 2 * needed, memory_preset="8gb").warnings == ()
    begun = choose(wide, 2**20, memory_preset="8gb", is_resume=True)
    assert (begun.preset, begun.warnings) == ("8gb", tight.warnings)


@pytest.mark.slow
def test_levers_without_effect_are_not_named(wide: StableDiffusion1) -> None:
    work = replace(WORK, optimizer="adafactor", trainee=UNET_ALONE, class_images=None)
    with pytest.raises(SettingsError) as caught:
        choose(wide, 2**20, work=work, memory_preset="fast")
    text = str(caught.value.hint)
    assert "--optimizer-states" not in text and "--states-on-host" not in text and "--no-train-text-encoder" not in text
    assert "--memory-preset" in text


def test_on_a_cpu_too_little_memory_is_only_a_warning(miniature: StableDiffusion1) -> None:
    (warning,) = choose(miniature, 2**20, CPU).warnings
    assert warning.startswith("the run may need more memory than is free. Predicted peak memory: ")


def test_without_a_model_contradictions_are_found_and_nothing_else() -> None:
    assert choose(None, 1).preset == "fast"
    with pytest.raises(SettingsError, match="stream_blocks needs"):
        choose(None, 1, memory_preset="fast", stream_blocks=True)


def test_a_step_of_several_passes_cannot_use_gradients_up(miniature: StableDiffusion1) -> None:
    work = replace(WORK, gradient_accumulation=2)
    with pytest.raises(SettingsError, match="a step sums the gradients of 2 forward passes"):
        choose(miniature, 2**40, work=work, memory_preset="6gb")
    assert first_that_fits(MemorySettings(), miniature, work, None, free=1) != "6gb"
