"""An optimizer that updates one tensor at a time, for plans that save memory.

Its moments may be stored in few bits or in host memory, its weights in bfloat16, and it can consume each gradient as soon as
the backward pass has computed it. Arithmetic is always float32; large tensors are processed in pieces, so that no complete
float32 copy of them ever exists.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from dreambooth.diffusion.rounding import rounding_key
from dreambooth.memory.settings import StateFormat
from dreambooth.runtime.processes import Processes
from dreambooth.trainees.trainee import Trainee
from dreambooth.training.learning_rate import LearningRates
from dreambooth.training.settings import OptimizerSettings
from dreambooth.training.tensor_updates import AdafactorUpdate, AdamWUpdate, Moment

__all__ = ["Tensorwise", "TensorwiseChoices"]


@dataclass(frozen=True)
class TensorwiseChoices:
    """The memory plan's choices for the optimizer."""

    states: StateFormat
    on_host: bool
    in_backward: bool


class Tensorwise:
    """AdamW or Adafactor, tensor by tensor.

    With `in_backward`, a step takes two backward passes: the first measures the gradient of each tensor and discards it, so
    that the global norm and any non-finite number are known before any weight changes; the second recomputes each gradient,
    from the same counter-based noise, and consumes it. The result equals that of an update with all gradients in memory.
    """

    def __init__(
        self,
        trainee: Trainee,
        settings: OptimizerSettings,
        choices: TensorwiseChoices,
        *,
        total_steps: int,
        processes: Processes,
        seed: int,
    ) -> None:
        """The trainee must already be on its device, which is read from the first parameter that is not streamed."""
        self._parameters = trainee.parameters
        self._group_of = {name: group.name for group in trainee.groups for name in group.parameters}
        self._rates = LearningRates(trainee, settings, total_steps=total_steps)
        self._limit = settings.max_gradient_norm
        self._seed = seed
        self._processes = processes
        self._device = next(iter(trainee.parameters.values())).device
        self._is_stopped = torch.zeros((), dtype=torch.bool, device=self._device)
        self._gradient_factor = torch.ones((), device=self._device)
        self._in_backward = choices.in_backward
        self._norms: dict[str, Tensor] = {}
        self._moment: Moment | None = None
        self._update = (
            AdafactorUpdate(settings, self._device)
            if settings.optimizer == "adafactor"
            else AdamWUpdate(settings, choices.states, self._device, on_host=choices.on_host)
        )
        if choices.in_backward:
            for name, parameter in self._parameters.items():
                parameter.register_post_accumulate_grad_hook(partial(_tell, weakref.ref(self), name))  # type: ignore[no-untyped-call]

    def learning_rates(self, step: int) -> dict[str, float]:
        """Learning rate of every group at `step` (1-based)."""
        return self._rates.at(step)

    @property
    def is_moving(self) -> bool:
        """Whether weights are being updated; false in the measuring pass."""
        return self._moment is not None

    def collect(self, scale: float) -> None:
        """Sum the gradients over all processes and divide them by the loss scale."""
        if self._in_backward:  # each gradient was summed when it was computed
            return
        self._processes.sum_gradients(list(self._parameters.values()))
        if scale != 1:
            torch._foreach_div_([p.grad for p in self._parameters.values() if p.grad is not None], scale)

    def gradient_norm(self) -> Tensor:
        """Global norm of all gradients, a float32 scalar; `step` clips them to the maximum norm."""
        if not self._in_backward:
            self._norms = {name: _norm(p.grad) for name, p in self._parameters.items() if p.grad is not None}
        norms = [self._norms[name] for name in self._parameters if name in self._norms]
        norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros((), device=self._device)
        self._norms = {}
        if self._limit is not None:
            self._gradient_factor = (self._limit / (norm + 1e-6)).clamp(max=1)
        return norm

    def stop_unless(self, is_finite: Tensor) -> None:
        """Once the boolean scalar is false, no later step changes anything; decided on the device."""
        self._is_stopped = self._is_stopped | ~is_finite

    def step(self, step: int, backward_again: Callable[[], None]) -> None:
        """Update the weights from the gradients; `backward_again` recomputes gradients that were discarded."""
        self._moment = Moment(step, self._is_stopped, self._gradient_factor)
        try:
            if self._in_backward:
                backward_again()
            else:
                for name, parameter in self._parameters.items():
                    self._move(name, parameter)
        finally:
            self._moment = None
            self.drop_gradients()

    def drop_gradients(self) -> None:
        """Discard the gradients and their measurements."""
        self._norms = {}
        for parameter in self._parameters.values():
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Every stored tensor, as "exp_avg/unet.conv_in.weight"; empty before the first step."""
        return self._update.state()

    def load_state(self, state: Mapping[str, Tensor], *, step: int) -> None:
        """Load what `state` returned after `step`."""
        for name, parameter in self._parameters.items():
            self._update.load(name, parameter, state)

    def gradient_is_made(self, name: str, parameter: nn.Parameter) -> None:
        """Measure the gradient and discard it, or consume it; called by each parameter's hook in the backward pass."""
        self._processes.sum_gradients([parameter])
        if self._moment is not None:
            self._move(name, parameter)
        elif parameter.grad is not None:
            self._norms[name] = _norm(parameter.grad)
            parameter.grad = None

    @torch.no_grad()
    def _move(self, name: str, parameter: nn.Parameter) -> None:
        assert self._moment is not None
        if parameter.grad is None:
            return
        rate = self._rates.at(self._moment.step)[self._group_of[name]]
        key = rounding_key(self._seed, "rounding", self._moment.step, name)
        self._update.move(name, parameter, rate, self._moment, key)
        parameter.grad = None


def _tell(optimizer: weakref.ref[Tensorwise], name: str, parameter: nn.Parameter) -> None:
    """A hook with a weak reference: Python's collector sees no cycle through torch's hooks, so both objects would leak."""
    if (alive := optimizer()) is not None:
        alive.gradient_is_made(name, parameter)


def _norm(gradient: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(gradient, dtype=torch.float32)
    return norm
