"""The memory plan of a run: a record of choices, with presets for GPUs of different sizes.

Recomputation, micro-batches, the location of the optimizer states and streamed blocks change results only by rounding.
bf16 and the 8-bit and 4-bit states change them more; `docs/how-to/memory.md` gives the measured differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from dreambooth.errors import SettingsError
from dreambooth.memory.settings import Checkpointing, MemoryPreset, MemorySettings, Precision, StateFormat

__all__ = ["PRESETS", "MemoryPlan", "describe_plan", "levers_left", "plan_of"]


@dataclass(frozen=True)
class MemoryPlan:
    """Choices that save memory; each field is independent."""

    precision: Precision
    optimizer_states: StateFormat = "float32"
    gradient_checkpointing: Checkpointing = "off"
    micro_batch_size: int | None = None
    """Examples in one forward pass; None: the whole batch."""
    step_in_backward: bool = False
    states_on_host: bool = False
    stream_blocks: bool = False
    shard: bool = False
    """Whether weights, gradients and optimizer states are sharded over the processes."""

    @property
    def saves_in_optimizer(self) -> bool:
        """Whether the optimizer must update one tensor at a time, instead of all at once in float32."""
        return self.precision == "bf16" or self.optimizer_states != "float32" or self.step_in_backward or self.states_on_host

    @property
    def weight_bytes(self) -> int:
        """Bytes per trained number."""
        return 2 if self.precision == "bf16" else 4


_SMALL = MemoryPlan("bf16", optimizer_states="8bit", gradient_checkpointing="all", step_in_backward=True)

PRESETS: Mapping[MemoryPreset, MemoryPlan] = {
    "fast": MemoryPlan("bf16-mixed"),
    "24gb": MemoryPlan("bf16-mixed", gradient_checkpointing="all"),
    "12gb": MemoryPlan("bf16-mixed", optimizer_states="8bit"),
    "8gb": MemoryPlan("bf16", optimizer_states="8bit", gradient_checkpointing="outer"),
    "6gb": _SMALL,
    "sdxl-48gb": MemoryPlan("bf16-mixed", gradient_checkpointing="all"),
    "sdxl-40gb": MemoryPlan("bf16-mixed", optimizer_states="8bit"),
    "sdxl-24gb": MemoryPlan("bf16", optimizer_states="8bit", gradient_checkpointing="outer"),
    "sdxl-16gb": _SMALL,
    "sdxl-10gb": replace(_SMALL, states_on_host=True),
    "sdxl-6gb": replace(_SMALL, states_on_host=True, stream_blocks=True),
    "cpu": MemoryPlan("fp32"),
}
"""Those named sdxl are for the UNet of Stable Diffusion XL, which is three times as large as those of the others."""


def plan_of(preset: MemoryPreset, settings: MemorySettings, *, has_bfloat16: bool) -> MemoryPlan:
    """A preset, overridden by the options in `settings`. `preset` is not "auto".

    A device without bfloat16 uses float16 for mixed precision. Raises SettingsError if the options contradict each other.
    """
    plan = PRESETS[preset]
    if plan.precision == "bf16-mixed" and not has_bfloat16:
        plan = replace(plan, precision="fp16-mixed")
    given = {lever.name: getattr(settings, lever.name) for lever in fields(plan)}
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})
    if problems := _contradictions(plan):
        raise SettingsError(problems)
    return plan


def describe_plan(plan: MemoryPlan) -> str:
    """The plan in words."""
    recomputed = {"off": "kept", "outer": "recomputed on the two outer levels", "all": "recomputed"}
    choices = {
        f"optimizer states in {plan.optimizer_states}": True,
        f"activations {recomputed[plan.gradient_checkpointing]}": True,
        f"{plan.micro_batch_size} examples at a time": plan.micro_batch_size is not None,
        "updates inside the backward pass": plan.step_in_backward,
        "optimizer states in host memory": plan.states_on_host,
        "streamed blocks": plan.stream_blocks,
    }
    return ", ".join([plan.precision, *(words for words, is_so in choices.items() if is_so)])


def levers_left(plan: MemoryPlan) -> tuple[str, ...]:
    """The flags that would save more memory without changing the result, cheapest first."""
    levers = {
        "--gradient-checkpointing all": plan.gradient_checkpointing != "all",
        "--micro-batch-size 1": plan.micro_batch_size != 1 and not plan.step_in_backward,
        "--states-on-host": not plan.states_on_host and not plan.shard,
        "--step-in-backward": not plan.step_in_backward
        and not plan.shard
        and plan.micro_batch_size is None
        and plan.precision != "fp16-mixed",
        "--stream-blocks": plan.step_in_backward and not plan.stream_blocks,
    }
    return tuple(flag for flag, saves in levers.items() if saves)


def _works_by_tensor(plan: MemoryPlan) -> list[str]:
    """The choices of a plan that require updates of one tensor at a time, in words."""
    choices = {
        "precision bf16": plan.precision == "bf16",
        f"optimizer_states {plan.optimizer_states}": plan.optimizer_states != "float32",
        "step_in_backward": plan.step_in_backward,
        "states_on_host": plan.states_on_host,
        "stream_blocks": plan.stream_blocks,
    }
    return [words for words, is_chosen in choices.items() if is_chosen]


def _contradictions(plan: MemoryPlan) -> list[str]:
    problems = []
    if plan.step_in_backward and plan.micro_batch_size is not None:
        problems.append(
            "step_in_backward, which preset 6gb turns on too, uses a gradient up when it is made, so it cannot be summed over "
            "micro-batches; use --no-step-in-backward, or omit --micro-batch-size"
        )
    if plan.step_in_backward and plan.precision == "fp16-mixed":
        problems.append("step_in_backward needs a precision without a loss scale; use --precision bf16, bf16-mixed or fp32")
    if plan.stream_blocks and not (plan.step_in_backward and plan.gradient_checkpointing == "all"):
        problems.append(
            "stream_blocks needs --step-in-backward and --gradient-checkpointing all: "
            "blocks that left the device can hold neither gradients nor activations"
        )
    if plan.shard and (others := _works_by_tensor(plan)):
        problems.append(
            f"shard updates all tensors at once, which does not combine with {', '.join(others)}; "
            "use --memory-preset fast or 24gb without these, or --no-shard"
        )
    return problems
