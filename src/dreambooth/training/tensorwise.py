"""An optimizer that updates a batch of numbers at a time, for plans that save memory.

Its moments may be stored in few bits or in host memory, its weights in bfloat16, and it can use gradients up while the backward
pass computes the next ones. Arithmetic is always float32. Small tensors are updated together, large ones in pieces, so that
operations are few and float32 copies small; the results are those of each tensor alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from dreambooth.diffusion.rounding import rounding_key
from dreambooth.memory.settings import StateFormat
from dreambooth.runtime.processes import Processes
from dreambooth.trainees.trainee import Trainee
from dreambooth.training.batch_sizes import numbers_at_once
from dreambooth.training.flat import BatchQueue, Piece
from dreambooth.training.learning_rate import LearningRates
from dreambooth.training.settings import OptimizerSettings
from dreambooth.training.tensor_updates import AdafactorUpdate, AdamWUpdate, Change, Moment

__all__ = ["Tensorwise", "TensorwiseChoices"]


@dataclass(frozen=True)
class TensorwiseChoices:
    """The memory plan's choices for the optimizer."""

    states: StateFormat
    on_host: bool
    in_backward: bool
    is_streamed: bool
    """Whether weights leave the device as soon as their gradients are there."""


class Tensorwise:
    """AdamW or Adafactor, over batches of numbers.

    With `in_backward`, a step takes two backward passes: the first measures the gradient of each tensor and discards it, so
    that the global norm and any non-finite number are known before any weight changes; the second recomputes each gradient,
    from the same counter-based noise, and uses it up. Gradients wait until they fill a batch, unless weights are streamed. The
    result equals that of an update with all gradients in memory.
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
        total = sum(parameter.numel() for parameter in self._parameters.values())
        at_once = numbers_at_once(total, self._device, is_streamed=choices.is_streamed)
        self._waits = settings.optimizer == "adamw" and not choices.is_streamed
        self._unmeasured: BatchQueue[tuple[str, nn.Parameter]] = BatchQueue(at_once)
        self._update = (
            AdafactorUpdate(settings, self._device)
            if settings.optimizer == "adafactor"
            else AdamWUpdate(settings, choices.states, self._device, on_host=choices.on_host, at_once=at_once)
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
        if self._in_backward:
            self._measure_waiting()
        else:
            self._measure(self._parameters)
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
        self._update.begin(self._moment)
        try:
            if self._in_backward:
                backward_again()
            else:
                for name, parameter in self._parameters.items():
                    self._move(name, parameter)
            with torch.no_grad():
                self._update.finish()
        finally:
            self._moment = None
            self.drop_gradients()

    def drop_gradients(self) -> None:
        """Discard the gradients and their measurements."""
        self._norms = {}
        for _ in self._unmeasured.rest():
            pass
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
        """Measure and discard, or use up, a gradient, now or together with later ones; called in the backward pass by hooks."""
        self._processes.sum_gradients([parameter])
        if self._moment is not None:
            self._move(name, parameter)
        elif parameter.grad is not None:
            for batch in self._unmeasured.add(None, (name, parameter), parameter.numel()):
                self._measure_and_drop(batch)
            if not self._waits:
                self._measure_waiting()

    @torch.no_grad()
    def _move(self, name: str, parameter: nn.Parameter) -> None:
        assert self._moment is not None
        if parameter.grad is None:
            return
        rate = self._rates.at(self._moment.step)[self._group_of[name]]
        key = rounding_key(self._seed, "rounding", self._moment.step, name)
        self._update.add(Change(name, parameter, rate, key))
        if self._in_backward and not self._waits:
            self._update.finish()

    def _measure_waiting(self) -> None:
        for batch in self._unmeasured.rest():
            self._measure_and_drop(batch)

    def _measure_and_drop(self, batch: Sequence[Piece[tuple[str, nn.Parameter]]]) -> None:
        parameters = dict(piece.item for piece in batch if piece.is_last)
        self._measure(parameters)
        for parameter in parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def _measure(self, parameters: Mapping[str, nn.Parameter]) -> None:
        gradients = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
        if gradients:
            norms = torch._foreach_norm(list(gradients.values()), dtype=torch.float32)
            self._norms.update(zip(gradients, norms, strict=True))


def _tell(optimizer: weakref.ref[Tensorwise], name: str, parameter: nn.Parameter) -> None:
    """A hook with a weak reference: Python's collector sees no cycle through torch's hooks, so both objects would leak."""
    if (alive := optimizer()) is not None:
        alive.gradient_is_made(name, parameter)
