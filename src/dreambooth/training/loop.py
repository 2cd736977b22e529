"""The training loop: a generator that makes one optimiser update for each result it yields."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dreambooth.diffusion.objective import min_snr_weights, squared_error
from dreambooth.diffusion.schedule import NoiseSchedule, add_noise
from dreambooth.errors import TrainingError
from dreambooth.training.batches import Batch
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.loss_scale import FixedLossScale, LossScale
from dreambooth.training.optimizer import Optimizer
from dreambooth.training.weight_average import NoAverage, WeightAverage

__all__ = ["StepResult", "TrainingState", "training_steps"]


@dataclass(frozen=True)
class StepResult:
    """What one update did."""

    step: int
    """1-based number of the update."""
    loss: float
    """instance_loss + prior_weight * prior_loss."""
    instance_loss: float
    """Mean loss of the update's photos."""
    prior_loss: float | None
    """Mean loss of the update's class images, without the prior weight; None when there were none."""
    gradient_norm: float
    """Global norm of the gradient before it was limited."""
    learning_rates: dict[str, float]
    """Learning rate of every group."""
    num_images: int
    """Photos and class images seen."""


@dataclass
class TrainingState:
    """Everything that changes from step to step."""

    denoiser: Denoiser
    optimizer: Optimizer
    average: WeightAverage | NoAverage
    loss_scale: LossScale | FixedLossScale
    step: int = 0


def training_steps(
    state: TrainingState, batches_at: Callable[[int], Iterable[Batch]], *, last_step: int, min_snr_gamma: float | None = None
) -> Iterator[StepResult]:
    """Update the weights once per result, from the step after `state.step` to `last_step`.

    `batches_at(step)` gives the micro-batches of a step and may be asked for the same step twice. Raises TrainingError
    before the weights move when a loss or a gradient is not finite.
    """
    while state.step < last_step:
        result = _update(state, batches_at, state.step + 1, min_snr_gamma)
        state.step = result.step
        yield result


def _update(
    state: TrainingState, batches_at: Callable[[int], Iterable[Batch]], step: int, min_snr_gamma: float | None
) -> StepResult:
    while True:
        seen = [_backward(state, batch, min_snr_gamma) for batch in batches_at(step)]
        state.optimizer.unscale(state.loss_scale.value)
        losses_N = torch.cat([batch_losses.loss_B for batch_losses in seen])
        is_prior_N = torch.cat([batch_losses.batch.is_prior_B for batch_losses in seen])
        total = torch.stack([batch_losses.total for batch_losses in seen]).sum()
        instance_loss, prior_loss, loss, gradient_norm = torch.stack(
            [losses_N[~is_prior_N].mean(), losses_N[is_prior_N].mean(), total, state.optimizer.gradient_norm().float()]
        ).tolist()  # the one wait for the device in a step
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            break
        state.optimizer.drop_gradients()
        if not (math.isfinite(loss) and state.loss_scale.overflowed()):
            raise _not_finite(step, loss, gradient_norm, [batch_losses.batch for batch_losses in seen])
    state.optimizer.step(step)
    state.average.update()
    state.loss_scale.succeeded()
    return StepResult(
        step=step,
        loss=loss,
        instance_loss=instance_loss,
        prior_loss=None if math.isnan(prior_loss) else prior_loss,  # the mean of no class images
        gradient_norm=gradient_norm,
        learning_rates=state.optimizer.learning_rates(step),
        num_images=len(losses_N),
    )


@dataclass(frozen=True)
class _BatchLosses:
    batch: Batch
    loss_B: Tensor
    total: Tensor


def _backward(state: TrainingState, batch: Batch, min_snr_gamma: float | None) -> _BatchLosses:
    schedule: NoiseSchedule = state.denoiser.components.family.schedule
    prediction = state.denoiser(add_noise(schedule, batch.x_0, batch.eps, batch.t_B), batch.t_B, batch.text)
    loss_B = squared_error(prediction, batch.eps)
    if min_snr_gamma is not None:
        loss_B = loss_B * min_snr_weights(schedule, batch.t_B, min_snr_gamma)
    total = (loss_B * batch.coefficient_B).sum()
    (total * state.loss_scale.value).backward()  # type: ignore[no-untyped-call]
    return _BatchLosses(batch, loss_B.detach(), total.detach())


def _not_finite(step: int, loss: float, gradient_norm: float, batches: Sequence[Batch]) -> TrainingError:
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {gradient_norm}"
    timesteps = ", ".join(str(t) for batch in batches for t in batch.t_B.tolist())
    names = ", ".join(name for batch in batches for name in batch.names)
    return TrainingError(
        f"step {step}: {what} (timesteps {timesteps}; images {names}); the weights were not changed",
        hint="A lower --learning-rate, --max-gradient-norm 1, or --precision fp32 usually helps.",
    )
