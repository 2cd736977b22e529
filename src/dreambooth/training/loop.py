"""The training loop: a generator that runs one optimizer update per result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dreambooth.diffusion.objective import min_snr_weights, squared_error
from dreambooth.diffusion.prediction import training_target
from dreambooth.diffusion.schedule import add_noise
from dreambooth.errors import TrainingError
from dreambooth.runtime.processes import Processes
from dreambooth.training.batches import Batch
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.loss_scale import FixedLossScale, LossScale
from dreambooth.training.optimizer import Optimizer
from dreambooth.training.weight_average import NoAverage, WeightAverage

__all__ = ["NotFiniteError", "StepResult", "TrainingState", "training_steps"]


class NotFiniteError(TrainingError):
    """The loss or the gradient of a step was not finite."""

    def __init__(self, problem: str, *, step: int) -> None:
        super().__init__(problem)
        self.step = step


@dataclass(frozen=True)
class StepResult:
    """Result of one update. Losses stay on the device until they are read, which makes the host wait."""

    step: int
    """1-based number of the update."""
    on_device: Tensor
    """Total loss, loss of the photos, loss of the class images, and gradient norm, (4,) float32."""
    learning_rates: dict[str, float]
    """Learning rate of every group."""
    num_images: int
    """Photos and class images processed by this process."""
    seen: tuple[tuple[str, ...], tuple[Tensor, ...]]
    """File names, and timesteps on the device, used in messages."""

    @cached_property
    def numbers(self) -> tuple[float, float, float, float]:
        """The four numbers of `on_device`."""
        loss, instance_loss, prior_loss, gradient_norm = self.on_device.tolist()
        return loss, instance_loss, prior_loss, gradient_norm

    @property
    def loss(self) -> float:
        """instance_loss + prior_weight * prior_loss."""
        return self.numbers[0]

    @property
    def instance_loss(self) -> float:
        """Mean loss of the update's photos."""
        return self.numbers[1]

    @property
    def prior_loss(self) -> float | None:
        """Mean loss of the update's class images, without the prior weight; None if there were none."""
        return None if math.isnan(self.numbers[2]) else self.numbers[2]

    @property
    def gradient_norm(self) -> float:
        """Global norm of the gradient before clipping."""
        return self.numbers[3]

    def check(self) -> None:
        """Raise NotFiniteError if the loss or gradient was not finite; then no weight changed in this step or later."""
        if math.isfinite(self.loss) and math.isfinite(self.gradient_norm):
            return
        is_loss = not math.isfinite(self.loss)
        what = f"the loss is {self.loss}" if is_loss else f"the gradient's norm is {self.gradient_norm}"
        names, timesteps = ", ".join(self.seen[0]), ", ".join(str(t) for t_B in self.seen[1] for t in t_B.tolist())
        raise NotFiniteError(
            f"step {self.step}: {what} (timesteps {timesteps}; images {names}); the weights were not changed", step=self.step
        )


@dataclass
class TrainingState:
    """Everything that changes from step to step."""

    denoiser: Denoiser
    optimizer: Optimizer
    average: WeightAverage | NoAverage
    loss_scale: LossScale | FixedLossScale
    processes: Processes
    step: int = 0


def training_steps(
    state: TrainingState, batches_at: Callable[[int], Iterable[Batch]], *, last_step: int, min_snr_gamma: float | None = None
) -> Iterator[StepResult]:
    """Update the weights once per result, from the step after `state.step` to `last_step`.

    `batches_at(step)` gives the micro-batches of a step and may be called twice for the same step. If a step's loss or gradient
    is not finite, neither it nor any later step changes the weights; the device enforces this, so that the host need not wait
    at every step. Callers must call `check` on each result, at the latest before saving anything.
    """
    while state.step < last_step:
        result = _update(state, batches_at, state.step + 1, min_snr_gamma)
        state.step = result.step
        yield result


def _update(
    state: TrainingState, batches_at: Callable[[int], Iterable[Batch]], step: int, min_snr_gamma: float | None
) -> StepResult:
    while True:
        batches = [_backward(state, batch, min_snr_gamma) for batch in batches_at(step)]
        state.optimizer.collect(state.loss_scale.value)
        on_device = _numbers(batches, state.optimizer.gradient_norm(), state.processes)
        if not state.loss_scale.can_overflow or math.isfinite(float(on_device[3])):
            break
        if not math.isfinite(float(on_device[0])) or not state.loss_scale.overflowed():
            break
        state.optimizer.drop_gradients()

    def backward_again() -> None:
        for batch in batches_at(step):
            _backward(state, batch, min_snr_gamma)

    state.optimizer.stop_unless(torch.isfinite(on_device[0]) & torch.isfinite(on_device[3]))
    state.optimizer.step(step, backward_again)
    state.average.update()
    state.loss_scale.succeeded()
    return StepResult(
        step=step,
        on_device=on_device,
        learning_rates=state.optimizer.learning_rates(step),
        num_images=sum(len(losses.loss_B) for losses in batches),
        seen=(tuple(name for losses in batches for name in losses.batch.names), tuple(losses.batch.t_B for losses in batches)),
    )


@dataclass(frozen=True)
class _BatchLosses:
    batch: Batch
    loss_B: Tensor
    total: Tensor


def _backward(state: TrainingState, batch: Batch, min_snr_gamma: float | None) -> _BatchLosses:
    family = state.denoiser.components.family
    schedule, prediction = family.schedule, family.prediction
    output = state.denoiser(add_noise(schedule, batch.x_0, batch.eps, batch.t_B), batch.t_B, batch.text, batch.sizes_B6)
    target = training_target(prediction, schedule, batch.x_0, batch.eps, batch.t_B)
    if batch.prior_target is not None:
        target = torch.where(batch.is_prior_B[:, None, None, None], batch.prior_target, target)
    loss_B = squared_error(output, target, batch.weight_BHW)
    if min_snr_gamma is not None:
        loss_B = loss_B * min_snr_weights(schedule, batch.t_B, min_snr_gamma, prediction)
    total = (loss_B * batch.coefficient_B).sum()
    (total * state.loss_scale.value).backward()  # type: ignore[no-untyped-call]
    return _BatchLosses(batch, loss_B.detach(), total.detach())


def _numbers(batches: Sequence[_BatchLosses], gradient_norm: Tensor, processes: Processes) -> Tensor:
    """The four numbers of a step's result over all processes, without blocking; the mean of no class images is nan."""
    losses_N = torch.cat([losses.loss_B for losses in batches])
    is_prior_N = torch.cat([losses.batch.is_prior_B for losses in batches])
    sums = [torch.stack([losses.total for losses in batches]).sum()]
    for chosen_N in (~is_prior_N, is_prior_N):
        sums += [torch.where(chosen_N, losses_N, 0).sum(), chosen_N.sum().to(losses_N)]
    loss, instance_sum, num_instances, prior_sum, num_priors = processes.sum(torch.stack(sums))
    return torch.stack([loss, instance_sum / num_instances, prior_sum / num_priors, gradient_norm.to(loss)])
