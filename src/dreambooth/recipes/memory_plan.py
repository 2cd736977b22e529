"""Which memory plan a run follows."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dreambooth.memory.plan import MemoryPlan, plan_of
from dreambooth.memory.settings import MemoryPreset, MemorySettings
from dreambooth.runtime.precision import PrecisionPolicy, choose_precision, has_bfloat16
from dreambooth.training.state_formats import check_state_format

__all__ = ["ChosenPlan", "choose_plan"]


@dataclass(frozen=True)
class ChosenPlan:
    """A plan, the preset that it came from, and the arithmetic that follows from it."""

    preset: MemoryPreset
    plan: MemoryPlan
    policy: PrecisionPolicy


def choose_plan(settings: MemorySettings, device: torch.device) -> ChosenPlan:
    """The plan that the settings ask for.

    Raises SettingsError when choices contradict each other, the device cannot calculate so, or a library is missing.
    """
    preset = settings.memory_preset
    if preset == "auto":
        preset = "24gb" if device.type == "cuda" else "cpu"
    plan = plan_of(preset, settings, has_bfloat16=has_bfloat16(device))
    check_state_format(plan.optimizer_states)
    return ChosenPlan(preset, plan, choose_precision(plan.precision, device))
