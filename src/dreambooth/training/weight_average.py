"""An exponential moving average of the trained weights, always in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dreambooth.runtime.shards import distribute, is_sharded, local_part, with_local_part

__all__ = ["NoAverage", "WeightAverage"]


class WeightAverage:
    """Exponential moving average with the warm-up of the original's LitEma: decay = min(decay, (1 + n) / (10 + n))."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self._num_updates = 0
        self._average = {name: local_part(p).detach().to(torch.float32, copy=True) for name, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average toward the current weights."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        weights = [local_part(parameter).detach() for parameter in self._parameters.values()]
        if all(weight.dtype == torch.float32 for weight in weights):
            torch._foreach_lerp_(list(self._average.values()), weights, 1 - decay)
        else:  # one at a time: float32 copies of all weights would take twice the memory of the weights
            for average, weight in zip(self._average.values(), weights, strict=True):
                average.lerp_(weight.float(), 1 - decay)

    @contextmanager
    def in_place(self, *, is_exact: bool = False) -> Iterator[None]:
        """Inside, the parameters hold the average; afterwards they are restored bit for bit.

        With `is_exact` they hold it in float32, for writing; otherwise in their own dtype, for computing.
        """
        kept = {name: _kept(parameter) for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                _put(parameter, self._average[name] if is_exact else self._average[name].to(parameter.dtype))
            yield
        finally:
            for name, parameter in self._parameters.items():
                _put(parameter, kept[name])

    def state(self) -> dict[str, Tensor]:
        """The averaged tensors by parameter name, and the number of updates."""
        averages = {name: with_local_part(average, self._parameters[name]) for name, average in self._average.items()}
        return {**averages, "num_updates": torch.tensor(self._num_updates)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `state` returned."""
        self._num_updates = int(state["num_updates"])
        for name, average in self._average.items():
            average.copy_(local_part(distribute(state[name], self._parameters[name])))


def _kept(parameter: nn.Parameter) -> Tensor:
    """The parameter's values, safe from the next `_put`."""
    return local_part(parameter).clone() if is_sharded(parameter) else parameter.data


def _put(parameter: nn.Parameter, values: Tensor) -> None:
    """Replace a parameter's values: the tensor is swapped, or overwritten if sharded, because FSDP refers to its memory."""
    if is_sharded(parameter):
        local_part(parameter).copy_(values)
    else:
        parameter.data = values


class NoAverage:
    """No average: stands in for `WeightAverage` and leaves the weights as they are."""

    def update(self) -> None:
        """Does nothing."""

    @contextmanager
    def in_place(self, *, is_exact: bool = False) -> Iterator[None]:
        """The parameters stay unchanged."""
        yield

    def state(self) -> dict[str, Tensor]:
        """Empty: there is nothing to save."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Does nothing."""
