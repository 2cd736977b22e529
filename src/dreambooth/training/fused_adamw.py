"""AdamW over all tensors at once, in float32, with torch's fused kernels.

AdamW is elementwise, so each process updates its own shard of tensors that are sharded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dreambooth.runtime.processes import Processes
from dreambooth.runtime.shards import distribute, is_sharded, local_part, with_local_part
from dreambooth.trainees.trainee import Trainee
from dreambooth.training.learning_rate import LearningRates
from dreambooth.training.settings import OptimizerSettings

__all__ = ["FusedAdamW"]

_STATE_NAMES = ("exp_avg", "exp_avg_sq")


class FusedAdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) over a trainee's groups, in float32.

    Either all parameters are sharded across the processes, or none is.
    """

    def __init__(self, trainee: Trainee, settings: OptimizerSettings, *, total_steps: int, processes: Processes) -> None:
        self._trainee = trainee
        self._processes = processes
        self._rates = LearningRates(trainee, settings, total_steps=total_steps)
        self._limit = settings.max_gradient_norm
        self._parts = {name: local_part(parameter) for name, parameter in trainee.parameters.items()}
        first = next(iter(trainee.parameters.values()))
        self._is_sharded = is_sharded(first)
        self._is_stopped = torch.zeros((), device=first.device)
        self._is_fused = all(part.device.type in ("cuda", "cpu") for part in self._parts.values())
        self._adamw = torch.optim.AdamW(
            [
                {"params": [self._parts[name] for name in group.parameters], "lr": group.learning_rate}
                for group in trainee.groups
            ],
            betas=(settings.adam_beta1, settings.adam_beta2),
            eps=settings.adam_epsilon,
            weight_decay=settings.weight_decay,
            fused=self._is_fused,
        )

    def learning_rates(self, step: int) -> dict[str, float]:
        """Learning rate of every group at `step` (1-based)."""
        return self._rates.at(step)

    def collect(self, scale: float) -> None:
        """Sum the gradients over all processes and divide them by the loss scale."""
        parameters = list(self._trainee.parameters.values())
        self._processes.sum_gradients(parameters)
        if self._is_sharded:  # otherwise the local parts are the parameters themselves
            for parameter, part in zip(parameters, self._parts.values(), strict=True):
                part.grad = None if parameter.grad is None else local_part(parameter.grad)
        if scale != 1:
            torch._foreach_div_(self._gradients(), scale)

    def gradient_norm(self) -> Tensor:
        """Global norm of all gradients, a float32 scalar; clips them to the maximum norm if one is set."""
        norm = torch.nn.utils.get_total_norm(self._gradients())
        if self._is_sharded:
            norm = self._processes.sum(norm.double().square()).sqrt().float()
        if self._limit is not None:  # without a limit, multiplying by 1 would still read and write every gradient
            torch.nn.utils.clip_grads_with_norm_(self._parts.values(), self._limit, norm)
        return norm

    def stop_unless(self, is_finite: Tensor) -> None:
        """Once the boolean scalar is false, no later step changes anything; decided on the device."""
        self._is_stopped = torch.maximum(self._is_stopped, (~is_finite).to(self._is_stopped))

    def step(self, step: int, backward_again: Callable[[], None]) -> None:
        """Update the weights from the current gradients, then drop the gradients, which are not needed again."""
        for group, rate in zip(self._adamw.param_groups, self.learning_rates(step).values(), strict=True):
            group["lr"] = rate
        if self._is_fused:
            self._adamw.found_inf = self._is_stopped  # type: ignore[attr-defined]  # read by the fused kernels
            self._adamw.step()
        elif not bool(self._is_stopped):
            self._adamw.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Discard the gradients and free their memory."""
        self._adamw.zero_grad(set_to_none=True)
        if self._is_sharded:
            for parameter in self._trainee.parameters.values():
                parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Both moments of every parameter, as "exp_avg/unet.conv_in.weight"; empty before the first step."""
        return {
            f"{key}/{name}": with_local_part(self._adamw.state[part][key], self._trainee.parameters[name])
            for name, part in self._parts.items()
            if part in self._adamw.state
            for key in _STATE_NAMES
        }

    def load_state(self, state: Mapping[str, Tensor], *, step: int) -> None:
        """Load what `state` returned after `step`; the tensors are copied to the parameters' devices."""
        for name, part in self._parts.items():
            if f"exp_avg/{name}" in state:
                parameter = self._trainee.parameters[name]
                # The kernels follow memory order, not indices: moments need the same memory layout as their parameter.
                means = {key: torch.empty_like(part) for key in _STATE_NAMES}
                for key, mean in means.items():
                    mean.copy_(local_part(distribute(state[f"{key}/{name}"].reshape(parameter.shape), parameter)))
                count = torch.tensor(float(step), device=part.device if self._is_fused else "cpu")
                self._adamw.state[part] = {**means, "step": count}

    def _gradients(self) -> list[Tensor]:
        return [part.grad for part in self._parts.values() if part.grad is not None]
