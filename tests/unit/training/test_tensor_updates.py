"""Updates in batches: the numbers of each tensor alone, and few operations."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dreambooth.diffusion.rounding import round_to_bfloat16, rounding_key
from dreambooth.memory.settings import StateFormat
from dreambooth.training import tensor_updates
from dreambooth.training.batch_sizes import numbers_at_once
from dreambooth.training.settings import OptimizerSettings
from dreambooth.training.state_formats import BlockFormat, code_values, format_for
from dreambooth.training.tensor_updates import AdamWUpdate, Change, Moment

CPU, META = torch.device("cpu"), torch.device("meta")
SETTINGS = OptimizerSettings(adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6, weight_decay=0.1)
SHAPES = [(4,), (320,), (640, 4, 3, 3), (7,), (4099,), (100, 101), (64, 64), (40, 256), (5,)]
BITS: dict[StateFormat, int] = {"8bit": 8, "4bit": 4}


def stored_and_read(x_N: Tensor, states: StateFormat, *, is_signed: bool) -> Tensor:
    """A moment as it is in the next step; the nearest value by comparing with all of them, the lower one of two."""
    if not isinstance(format_for(states, x_N.numel()), BlockFormat):
        return x_N
    bits = BITS[states]
    values = code_values(bits, is_signed=is_signed)
    blocks = x_N.view(-1, {8: 256, 4: 128}[bits])
    scale = blocks.abs().amax(1, keepdim=True).clamp(min=1e-12)
    above = torch.searchsorted(values, blocks / scale).clamp(1, len(values) - 1)
    below = above - 1
    is_above = blocks / scale - values[below] >= (values[above] - values[below]) * 0.5
    return (values[torch.where(is_above, above, below)] * scale).view(-1)


def one_step(weight: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], step: int, key: tuple[int, int]) -> Any:
    """Algorithm 2 of arXiv 1711.05101, operation by operation, for one whole tensor."""
    factor, rate = torch.tensor(0.5), torch.tensor(1e-3)
    g, w = gradient.float().view(-1) * factor, weight.float().view(-1)
    m, v = (moment.lerp(x, 1 - beta) for moment, x, beta in zip(moments, (g, g.square()), (0.8, 0.95), strict=True))
    corrections = torch.tensor([1 - 0.8**step, math.sqrt(1 - 0.95**step)])
    new = w - rate * (0.1 * w + (m / corrections[0]) / (v.sqrt() / corrections[1] + 1e-6))
    if weight.dtype == torch.bfloat16:
        new = round_to_bfloat16(new, torch.tensor(key, dtype=torch.int32))
    return new.view(weight.shape), (m, v)


@pytest.mark.parametrize("decides_on_device", [False, True])
@pytest.mark.parametrize("at_once", [4096, 2**16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("states", ["float32", "8bit", "4bit"])
def test_a_batch_has_the_numbers_of_each_tensor_alone(
    states: StateFormat, dtype: torch.dtype, at_once: int, decides_on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_updates, "can_read_without_waiting", lambda _: not decides_on_device)
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]
    plain = [parameter.detach().clone() for parameter in parameters]
    moments = [(torch.zeros(weight.numel()), torch.zeros(weight.numel())) for weight in plain]
    update = AdamWUpdate(SETTINGS, states, CPU, on_host=False, at_once=at_once)
    for step in (1, 2, 3):
        with torch.no_grad():
            update.begin(Moment(step, torch.tensor(False), torch.tensor(0.5)))
            for number, parameter in enumerate(parameters):
                key = rounding_key(3, step, number)
                parameter.grad = torch.randn(parameter.shape, generator=generator).to(dtype) * 1e-3
                plain[number], moments[number] = one_step(plain[number], parameter.grad, moments[number], step, key)
                m, v = moments[number]
                moments[number] = stored_and_read(m, states, is_signed=True), stored_and_read(v, states, is_signed=False)
                update.add(Change(str(number), parameter, 1e-3, key))
            update.finish()
        for parameter, weight in zip(parameters, plain, strict=True):
            assert torch.equal(parameter, weight), (step, parameter.shape)
            assert parameter.grad is None


@pytest.mark.parametrize("decides_on_device", [False, True])
@pytest.mark.parametrize("states", ["float32", "8bit", "4bit"])
def test_nothing_changes_once_training_is_stopped(
    states: StateFormat, decides_on_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a code: coding what a block of codes represents may give it another scale."""
    monkeypatch.setattr(tensor_updates, "can_read_without_waiting", lambda _: not decides_on_device)
    parameters = [nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1))) for shape in SHAPES]
    update = AdamWUpdate(SETTINGS, states, CPU, on_host=False, at_once=2**16)
    seen = []
    for step, number in ((1, 1.0), (2, math.nan)):
        with torch.no_grad():
            update.begin(Moment(step, torch.tensor(step > 1), torch.ones(())))
            for name, parameter in enumerate(parameters):
                parameter.grad = torch.full_like(parameter, number).cumsum(-1).sub_(3)
                update.add(Change(str(name), parameter, 1e-3, (0, 0)))
            update.finish()
        assert all(parameter.grad is None for parameter in parameters)
        seen.append([tensor.detach().clone() for tensor in (*parameters, *update.state().values())])
    assert all(torch.equal(before, after) for before, after in zip(*seen, strict=True))


class CountOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations other than those that only give views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aliases = [result.alias_info for result in func._schema.returns]
        if not any(alias is not None and not alias.is_write for alias in aliases):
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operations_of(states: StateFormat, dtype: torch.dtype, num_batches: int) -> int:
    at_once, each = 2**16, 2**15
    parameters = [nn.Parameter(torch.empty(each, dtype=dtype, device=META)) for _ in range(num_batches * at_once // each)]
    update = AdamWUpdate(SETTINGS, states, META, on_host=False, at_once=at_once)
    with torch.no_grad():
        for mode in (nullcontext(), count := CountOperations()):  # the first time the states are created
            for parameter in parameters:
                parameter.grad = torch.empty_like(parameter)
            with mode:
                update.begin(Moment(1, torch.zeros((), dtype=torch.bool, device=META), torch.ones((), device=META)))
                for name, parameter in enumerate(parameters):
                    update.add(Change(str(name), parameter, 1e-3, (0, 0)))
                update.finish()
    return count.counts.total()


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 2500), (torch.bfloat16, 5000)], ids=str)
def test_operations_of_a_step_at_full_size(dtype: torch.dtype, most: int) -> None:
    """The presets 12gb, and 8gb and 6gb, on Stable Diffusion 1 with its text encoder: 983 million numbers, 882 tensors."""
    one, two = (operations_of("8bit", dtype, num_batches) for num_batches in (1, 2))
    total = 982_581_444
    num_batches = math.ceil(total / numbers_at_once(total, META, is_streamed=False)) + 1  # and one of the small tensors
    assert num_batches == 60
    norms = 70 * (dtype == torch.bfloat16)  # in the backward pass, one operation for each batch
    assert one + (num_batches - 1) * (two - one) + norms <= most
