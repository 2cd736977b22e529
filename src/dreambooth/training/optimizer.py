"""Chooses the optimizer for a memory plan."""

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
    """Updates a trainee's parameters from their gradients. A step calls `collect`, `gradient_norm`, `stop_unless`, `step`."""

    def learning_rates(self, step: int) -> dict[str, float]:
        """Learning rate of every group at `step` (1-based)."""
        ...

    def collect(self, scale: float) -> None:
        """Sum the gradients over all processes and divide them by the loss scale."""
        ...

    def gradient_norm(self) -> Tensor:
        """Global norm of all gradients before clipping, a float32 scalar on the device."""
        ...

    def stop_unless(self, is_finite: Tensor) -> None:
        """Once the boolean scalar is false, no later step changes anything; decided on the device."""
        ...

    def step(self, step: int, backward_again: Callable[[], None]) -> None:
        """Update the weights; `backward_again` recomputes gradients that were not kept. Drops the gradients."""
        ...

    def drop_gradients(self) -> None:
        """Discard the gradients and free their memory."""
        ...

    def state(self) -> dict[str, Tensor]:
        """State to save in a checkpoint; empty before the first step."""
        ...

    def load_state(self, state: Mapping[str, Tensor], *, step: int) -> None:
        """Load what `state` returned after `step`."""
        ...


def works_by_tensor(optimizer: OptimizerName, plan: MemoryPlan) -> bool:
    """Whether the optimizer is the tensor-wise one, which requires tensors in the usual memory layout."""
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
    """The fused AdamW of torch if everything is float32 and on the device; otherwise the tensor-wise optimizer.

    `seed` determines the rounding of bfloat16 weights.
    """
    if not works_by_tensor(settings.optimizer, plan):
        return FusedAdamW(trainee, settings, total_steps=total_steps, processes=processes)
    choices = TensorwiseChoices(
        plan.optimizer_states,
        on_host=plan.states_on_host,
        in_backward=plan.step_in_backward,
        is_streamed=plan.stream_blocks,
    )
    return Tensorwise(trainee, settings, choices, total_steps=total_steps, processes=processes, seed=seed)
