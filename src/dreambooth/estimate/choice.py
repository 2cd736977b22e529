"""Chooses the memory plan of a run, and checks whether it fits the free memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from dreambooth.data.buckets import bucket_sizes
from dreambooth.data.size import Size
from dreambooth.errors import SettingsError
from dreambooth.estimate.peak import WORKSPACE, describe_estimate, estimate_memory, gib
from dreambooth.estimate.traces import part_bytes
from dreambooth.estimate.workload import Workload
from dreambooth.families.family import Family
from dreambooth.memory.plan import MemoryPlan, plan_of
from dreambooth.memory.settings import MemoryPreset, MemorySettings
from dreambooth.runtime.precision import PrecisionPolicy, choose_precision, has_bfloat16
from dreambooth.trainees.settings import TraineeSettings

__all__ = ["USABLE", "ChosenPlan", "choose_plan", "first_that_fits", "possible_plan"]

USABLE = 0.95
"""Fraction of the free memory that a plan may use."""

_CERTAINLY_FITS = 0.005  # of the machine's memory; a model this small is not estimated, which would take a second
_OF_TEXT_ENCODERS = ("train_token_table", "text_encoder_learning_rate", "text_encoders", "text_encoder_2_learning_rate")
_NUM_LEVERS = 6  # listed in a message
_SMALLEST_SAVING = 0.01  # of the peak, below which a change is not listed


@dataclass(frozen=True)
class ChosenPlan:
    """A plan, the preset it came from, and the precision that follows from it."""

    preset: MemoryPreset
    plan: MemoryPlan
    policy: PrecisionPolicy
    warnings: tuple[str, ...] = ()
    """Warnings about the plan that do not prevent the run."""
    predicted: str | None = None
    """The predicted memory compared with the free memory; None if it was not estimated."""


def choose_plan(
    memory: MemorySettings,
    device: torch.device,
    family: Family | None,
    workload: Workload,
    *,
    free: int | None,
    is_resume: bool = False,
) -> ChosenPlan:
    """The plan for the settings; "auto" is the fastest preset of the family that fits `free` bytes of a GPU.

    Without a family (its model could not be read) the settings are checked but nothing is estimated. Raises SettingsError
    when settings contradict each other, the device does not support them, a library is missing, or a GPU has too little
    memory: then with the predicted peak, the free memory, and what each possible change would save. A plan that is only near
    the limit, or that belongs to a resumed run, gives a warning instead, since the prediction contains guesses.
    """
    preset = memory.memory_preset
    is_gpu = device.type == "cuda"
    if preset == "auto" and not is_gpu:
        preset = "cpu"
    if preset == "auto":
        preset = "fast" if family is None else first_that_fits(memory, family, workload, device, free=free)
    plan = possible_plan(preset, memory, workload, has_bfloat16=has_bfloat16(device))
    policy = choose_precision(plan.precision, device)
    if family is None or free is None:
        return ChosenPlan(preset, plan, policy)
    if not is_gpu and part_bytes(family, family.denoiser, torch.float32) < _CERTAINLY_FITS * free:
        return ChosenPlan(preset, plan, policy)
    estimate = estimate_memory(family, plan, workload)
    if not is_gpu:
        too_large = f"the run may need more memory than is free. {describe_estimate(estimate, free)}"
        return ChosenPlan(preset, plan, policy, (too_large,) if estimate.peak > free else (), describe_estimate(estimate, free))
    if estimate.peak - WORKSPACE > free and not is_resume:
        raise _does_not_fit(preset, memory, family, workload, device=device, free=free)
    predicted = describe_estimate(estimate, free)
    is_tight = estimate.peak > USABLE * free
    return ChosenPlan(preset, plan, policy, ("memory may run out during training",) if is_tight else (), predicted)


def first_that_fits(
    memory: MemorySettings, family: Family, workload: Workload, device: torch.device | None, *, free: int | None
) -> MemoryPreset:
    """The family's fastest preset that fits `free` bytes of a GPU, or the smallest one if none does.

    `device` is None for a GPU in another machine, assumed to support bfloat16. Presets that contradict other settings or that
    the device does not support are skipped; raises SettingsError if none remains.
    """
    peaks: dict[MemoryPreset, int] = {}
    first_error: SettingsError | None = None
    for preset in family.memory_presets:
        try:
            plan = possible_plan(preset, memory, workload, has_bfloat16=device is None or has_bfloat16(device))
            if device is not None:
                choose_precision(plan.precision, device)
        except SettingsError as error:
            first_error = first_error or error
            continue
        peaks[preset] = estimate_memory(family, plan, workload).peak
        if free is None or peaks[preset] <= USABLE * free:
            return preset
    if not peaks:
        assert first_error is not None
        raise first_error
    return min(peaks, key=lambda preset: peaks[preset])


def possible_plan(preset: MemoryPreset, memory: MemorySettings, workload: Workload, *, has_bfloat16: bool) -> MemoryPlan:
    """A preset with the settings' overrides. Raises SettingsError for contradictions."""
    plan = plan_of(preset, memory, has_bfloat16=has_bfloat16)
    if plan.step_in_backward and workload.num_passes(plan) > 1:
        raise SettingsError(
            f"memory_preset {preset} with step_in_backward applies each gradient immediately, but a step sums the gradients of "
            f"{workload.num_passes(plan)} forward passes",
            hint="Use --gradient-accumulation 1, "
            + ("--crop center, " if workload.has_buckets else "")
            + "--no-step-in-backward, or another --memory-preset.",
        )
    if plan.stream_blocks and (others := workload.needs_blocks_in_place):
        raise SettingsError(
            f"memory_preset {preset} with stream_blocks moves the weights during each pass, which does not work with "
            f"{' and '.join(others)}",
            hint="Use --no-stream-blocks, or another --memory-preset.",
        )
    return plan


def _does_not_fit(
    preset: MemoryPreset,
    memory: MemorySettings,
    family: Family,
    workload: Workload,
    *,
    device: torch.device,
    free: int,
) -> SettingsError:
    can_bfloat16 = has_bfloat16(device)
    plan = possible_plan(preset, memory, workload, has_bfloat16=can_bfloat16)
    estimate = estimate_memory(family, plan, workload)
    savings = {}
    for words, other_memory, other_workload in _levers(preset, family, memory, workload):
        try:
            other = possible_plan(other_memory.memory_preset, other_memory, other_workload, has_bfloat16=can_bfloat16)
            choose_precision(other.precision, device)
        except SettingsError:
            continue
        savings[words] = estimate.peak - estimate_memory(family, other, other_workload).peak
    worth = [words for words, saved in savings.items() if saved > _SMALLEST_SAVING * estimate.peak]
    best = sorted(worth, key=lambda words: -savings[words])[:_NUM_LEVERS]
    missing = estimate.peak - USABLE * free  # stricter than the check that refuses a plan
    lines = [f"  {words}: saves {gib(savings[words])} GiB{', enough' if savings[words] >= missing else ''}" for words in best]
    what = "the smallest preset" if memory.memory_preset == "auto" else "memory_preset"
    return SettingsError(
        f"{what} {preset} does not fit the free memory of {device}. {describe_estimate(estimate, free)}",
        hint="\n".join(["What would help:", *lines]) if lines else "No other setting would save more memory.",
    )


_Lever = tuple[str, MemorySettings, Workload]


def _levers(preset: MemoryPreset, family: Family, memory: MemorySettings, workload: Workload) -> Iterator[_Lever]:
    """Possible changes: the flags to type, and the resulting settings and workload; some have no effect."""
    named, presets = memory.model_copy(update={"memory_preset": preset}), family.memory_presets
    smaller = presets[presets.index(preset) + 1 :] if preset in presets else presets
    choices: list[Mapping[str, object]] = [
        *({"memory_preset": name} for name in smaller),
        {"precision": "bf16"},
        {"optimizer_states": "8bit"},
        {"optimizer_states": "4bit"},
        {"gradient_checkpointing": "all"},
        {"micro_batch_size": 1},
        {"step_in_backward": True},
        {"states_on_host": True},
        {"stream_blocks": True},
        *([{"shard": True}] if workload.num_processes > 1 else []),
        {"step_in_backward": True, "gradient_checkpointing": "all", "stream_blocks": True, "states_on_host": True},
    ]
    for choice in choices:
        is_for_states = "optimizer_states" in choice or "states_on_host" in choice
        if not (is_for_states and workload.optimizer == "adafactor"):  # it has hardly any states, and refuses these choices
            yield " ".join(_typed(name, value) for name, value in choice.items()), named.model_copy(update=choice), workload
    trainee = workload.trainee
    if not trainee.keeps_base:
        lora = trainee.model_copy(update={"trainee": "lora", "train_token_table": True})
        yield "--trainee lora", named, replace(workload, trainee=lora)
    if trainee.train_text_encoder and trainee.trainee != "embedding":
        if not trainee.keeps_base:
            yield "--no-train-token-table", named, replace(workload, trainee=_changed(trainee, train_token_table=False))
        frozen = _changed(trainee, **{name: TraineeSettings.model_fields[name].default for name in _OF_TEXT_ENCODERS})
        frozen = _changed(frozen, train_text_encoder=False)
        yield "--no-train-text-encoder", named, replace(workload, trainee=frozen)
    side = workload.preview_size.shorter_side * 3 // 4 // 64 * 64
    yield f"--resolution {side}", named, _at_resolution(workload, side, family) if side >= 64 else workload
    yield "--preview-steps 0", named, replace(workload, previews=None)
    if workload.class_images is not None:
        yield "--prior-batch-size 1", named, replace(workload, class_images=replace(workload.class_images, num_pictures=1))


def _at_resolution(workload: Workload, side: int, family: Family) -> Workload:
    if workload.square is None:
        return replace(workload, size=Size.square(side))
    size = bucket_sizes(side, family.downsampling).nearest(workload.size)
    return replace(workload, size=size, square=Size.square(side))


def _changed(trainee: TraineeSettings, **values: object) -> TraineeSettings:
    return trainee.model_copy(update=values)


def _typed(name: str, value: object) -> str:
    flag = "--" + name.replace("_", "-")
    return flag if value is True else f"{flag} {value}"
