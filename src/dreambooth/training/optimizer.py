"""Which optimizer serves a memory plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from dreambooth.memory.plan import MemoryPlan
from dreambooth.runtime.processes import Processes
from dreambooth.trainees.trainee import Trainee
from dreambooth.training.fused_adamw import FusedAdamW
from dreambooth.training.settings import OptimizerName, OptimizerSettings
from dreambooth.training.tensorwise import Tensorwise, TensorwiseChoices

__all__ = ["Optimizer", "make_optimizer", "works_by_tensor"]


class Optimizer(Protocol):
    """Moves a trainee's parameters by their gradients. In a step: `collect`, `gradient_norm`, `stop_unless`, `step`."""

    def learning_rates(self, step: int) -> dict[str, float]:
        """Learning rate of every group at `step` (1-based)."""
        ...

    def collect(self, scale: float) -> None:
        """Sum the gradients of all processes, and divide them by the scale of the loss that made them."""
        ...

    def gradient_norm(self) -> Tensor:
        """Global norm of all gradients before they are limited, a scalar in float32 on the device."""
        ...

    def stop_unless(self, is_finite: Tensor) -> None:
        """From the first time that the boolean scalar is false, no step moves anything; decided on the device."""
        ...

    def step(self, step: int, backward_again: Callable[[], None]) -> None:
        """Move the weights; gradients that were not kept are made again by `backward_again`. Drops the gradients."""
        ...

    def drop_gradients(self) -> None:
        """Forget the gradients and free their memory."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; empty before the first step."""
        ...

    def load_state(self, state: Mapping[str, Tensor], *, step: int) -> None:
        """Take over what `state` gave after `step`."""
        ...


def works_by_tensor(optimizer: OptimizerName, plan: MemoryPlan) -> bool:
    """Whether the optimizer takes one tensor after the other, whose numbers must then lie in the usual order."""
    return optimizer == "adafactor" or plan.saves_in_optimizer


def make_optimizer(
    trainee: Trainee,
    settings: OptimizerSettings,
    plan: MemoryPlan,
    *,
    total_steps: int,
    processes: Processes,
    seed: int,
) -> Optimizer:
    """The fused AdamW of torch where everything is float32 and on the device; else the optimizer that works by tensors.

    `seed` decides the rounding of bfloat16 weights.
    """
    if not works_by_tensor(settings.optimizer, plan):
        return FusedAdamW(trainee, settings, total_steps=total_steps, processes=processes)
    choices = TensorwiseChoices(plan.optimizer_states, on_host=plan.states_on_host, in_backward=plan.step_in_backward)
    return Tensorwise(trainee, settings, choices, total_steps=total_steps, processes=processes, seed=seed)
