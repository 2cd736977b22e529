"""AdamW, its learning rate as a function of the step, and its state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dreambooth.trainees.full import FullTrainee
from dreambooth.training.settings import OptimizerSettings

__all__ = ["Optimizer", "learning_rate_factor"]

_STATE_NAMES = ("exp_avg", "exp_avg_sq", "step")


def learning_rate_factor(step: int, settings: OptimizerSettings, total_steps: int) -> float:
    """What the learning rate of `step` (1-based) is multiplied with, in [0, 1].

    It rises along a line to 1 at the last warm-up step, then stays, or falls along a line or half a cosine, reaching zero
    just after the last step, so that every step moves the weights.
    """
    if step <= settings.warmup_steps:
        return step / settings.warmup_steps
    done = (step - 1 - settings.warmup_steps) / (total_steps - settings.warmup_steps)
    if settings.learning_rate_schedule == "linear":
        return 1 - done
    if settings.learning_rate_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1.0


class Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) over a trainee's groups, in float32."""

    def __init__(self, trainee: FullTrainee, settings: OptimizerSettings, *, total_steps: int) -> None:
        self._trainee = trainee
        self._settings = settings
        self._total_steps = total_steps
        devices = {parameter.device.type for parameter in trainee.parameters.values()}
        self._adamw = torch.optim.AdamW(
            [{"params": list(group.parameters.values()), "lr": group.learning_rate} for group in trainee.groups],
            betas=(settings.adam_beta1, settings.adam_beta2),
            eps=settings.adam_epsilon,
            weight_decay=settings.weight_decay,
            fused=devices <= {"cuda", "cpu"},
        )

    def learning_rates(self, step: int) -> dict[str, float]:
        """Learning rate of every group at `step` (1-based)."""
        factor = learning_rate_factor(step, self._settings, self._total_steps)
        return {group.name: group.learning_rate * factor for group in self._trainee.groups}

    def unscale(self, scale: float) -> None:
        """Divide all gradients by the scale of the loss that made them."""
        if scale != 1:
            gradients = [parameter.grad for parameter in self._trainee.parameters.values() if parameter.grad is not None]
            torch._foreach_div_(gradients, scale)

    def gradient_norm(self) -> Tensor:
        """Global norm of all gradients; they are scaled down to the largest norm allowed when one is set. A scalar, float32."""
        limit = math.inf if self._settings.max_gradient_norm is None else self._settings.max_gradient_norm
        return torch.nn.utils.clip_grad_norm_(self._trainee.parameters.values(), limit)

    def step(self, step: int) -> None:
        """Move the weights by the gradients that stand, then drop the gradients."""
        for group, rate in zip(self._adamw.param_groups, self.learning_rates(step).values(), strict=True):
            group["lr"] = rate
        self._adamw.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget the gradients and free their memory."""
        self._adamw.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Both moments and the step count of every parameter, as "exp_avg/unet.conv_in.weight"; empty before the first step."""
        return {
            f"{key}/{name}": self._adamw.state[parameter][key]
            for name, parameter in self._trainee.parameters.items()
            if parameter in self._adamw.state
            for key in _STATE_NAMES
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave; the tensors are copied to the parameters' devices."""
        for name, parameter in self._trainee.parameters.items():
            if f"step/{name}" in state:
                self._adamw.state[parameter] = {
                    key: state[f"{key}/{name}"].to(parameter.device, copy=True) for key in _STATE_NAMES
                }
