"""One stage of pretraining: parameters, a loss that is a function of the step, and a state file for resuming."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from dreambooth.errors import TrainingError
from dreambooth.runtime.tensor_files import write_tensors

__all__ = ["Average", "Plan", "Stage"]

_COOLDOWN = 0.3
_LARGEST_NORM = 1.0


class Average(Protocol):
    """A moving average of the parameters; an implementation may keep none."""

    def update(self) -> None:
        """Update the average with the current parameters."""
        ...

    def in_place(self) -> AbstractContextManager[None]:
        """A context in which the parameters hold the average."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The state as named tensors."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        ...


@dataclass(frozen=True)
class Plan:
    """Length and learning rate: it rises over `warmup` steps, stays constant, and falls to 0 over the last 30%."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 200

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1."""
        left = (self.steps - step + 1) / (_COOLDOWN * self.steps)
        return self.learning_rate * min(1.0, step / self.warmup, left)


class Stage:
    """AdamW on `parameters`, resumable: the result is the same however often it was stopped."""

    def __init__(self, path: Path, parameters: Mapping[str, nn.Parameter], average: Average, plan: Plan) -> None:
        self.step = 0
        self.plan = plan
        self.average = average
        self._path = path
        self._parameters = dict(parameters)
        shrinking = [p for p in self._parameters.values() if p.ndim > 1]
        free = [p for p in self._parameters.values() if p.ndim <= 1]
        groups = [{"params": shrinking, "weight_decay": plan.weight_decay}, {"params": free, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.99), fused=_can_fuse(self._parameters))
        if path.exists():
            self._load()

    def run(self, loss_at: Callable[[int], Tensor], *, save_every: int) -> Iterator[Tensor]:
        """Run the remaining steps and yield the loss of each as a tensor, without synchronizing with the device.

        Raises TrainingError, before the weights change, when a gradient is not finite; the state file holds an earlier step.
        """
        while self.step < self.plan.steps:
            self.step += 1
            for group in self._optimizer.param_groups:
                group["lr"] = self.plan.rate(self.step)
            loss = loss_at(self.step)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(self._parameters.values(), _LARGEST_NORM)
            if not torch.isfinite(norm):
                raise TrainingError(
                    f"step {self.step}: the gradient is not finite (loss {float(loss.detach())}); the weights were not changed",
                    hint=f"The last good state is in {self._path}.",
                )
            self._optimizer.step()
            self._optimizer.zero_grad()
            self.average.update()
            if self.step % save_every == 0 or self.step == self.plan.steps:
                self.save()
            yield loss.detach()

    def save(self) -> None:
        """Write the parameters, the optimizer states and the average."""
        tensors: dict[str, Tensor] = {f"weight.{name}": parameter for name, parameter in self._parameters.items()}
        for name, parameter in self._parameters.items():
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state().items()}
        write_tensors(self._path, tensors, metadata={"step": str(self.step)})

    @torch.no_grad()
    def _load(self) -> None:
        tensors = load_file(self._path)
        with safe_open(self._path, "pt") as file:
            self.step = int(file.metadata()["step"])
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[f"weight.{name}"])
            state = {key: tensors[f"optimizer.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            self._optimizer.state[parameter] = {key: value.to(parameter.device, copy=True) for key, value in state.items()}
        self.average.load_state({k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")})


def _can_fuse(parameters: Mapping[str, nn.Parameter]) -> bool:
    return all(parameter.device.type in ("cpu", "cuda") for parameter in parameters.values())
