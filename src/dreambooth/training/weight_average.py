"""A running average of the trained weights, in float32 whatever they are in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["NoAverage", "WeightAverage"]


class WeightAverage:
    """Exponential moving average with the warm-up of the original's LitEma: decay = min(decay, (1 + n) / (10 + n))."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self._num_updates = 0
        self._average = {name: parameter.detach().to(torch.float32, copy=True) for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights as they are now."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        torch._foreach_lerp_(list(self._average.values()), [p.detach().float() for p in self._parameters.values()], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the parameters hold the average; afterwards they are bit for bit what they were."""
        kept = {name: parameter.data for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                parameter.data = self._average[name].to(parameter.dtype)
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = kept[name]

    def state(self) -> dict[str, Tensor]:
        """The averaged tensors by parameter name, and the number of updates."""
        return {**self._average, "num_updates": torch.tensor(self._num_updates)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self._num_updates = int(state["num_updates"])
        for name, average in self._average.items():
            average.copy_(state[name])


class NoAverage:
    """Stands where no average is kept: the weights are their own average."""

    def update(self) -> None:
        """Nothing to do."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters stay as they are."""
        yield

    def state(self) -> dict[str, Tensor]:
        """Nothing to keep."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to take over."""
