"""The running average of weights and the loss scale."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dreambooth.runtime.processes import OneProcess
from dreambooth.runtime.shards import full_tensor, local_part, shard
from dreambooth.training.loss_scale import FixedLossScale, LossScale
from dreambooth.training.weight_average import NoAverage, WeightAverage


def test_the_average_follows_the_originals_formula() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    average = WeightAverage({"w": parameter}, 0.9)
    expected = parameter.detach().double().clone()
    for n in range(1, 200):
        parameter.data.add_(0.1)
        average.update()
        decay = min(0.9, (1 + n) / (10 + n))
        expected -= (1 - decay) * (expected - parameter.detach().double())
        if n == 1:  # the warm-up: 9/11 of the new weights at once
            torch.testing.assert_close(average.state()["w"].double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(average.state()["w"].double(), expected, rtol=1e-5, atol=1e-5)


def test_in_place_gives_the_weights_back_bit_for_bit() -> None:
    parameter = nn.Parameter(torch.randn(5))
    average = WeightAverage({"w": parameter}, 0.99)
    before = parameter.detach().clone()
    parameter.data.mul_(2)
    now = parameter.detach().clone()
    with pytest.raises(RuntimeError), average.in_place():
        assert torch.equal(parameter, before)
        raise RuntimeError
    assert torch.equal(parameter, now)


def test_of_short_weights_the_average_is_written_in_full_and_calculates_as_they_do() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.bfloat16))
    average = WeightAverage({"w": parameter}, 0.5)
    parameter.data.mul_(1.5)
    average.update()
    exact = average.state()["w"]
    assert exact.dtype == torch.float32
    with average.in_place(is_exact=True):
        assert torch.equal(parameter.data, exact)
        assert not torch.equal(exact.to(torch.bfloat16).float(), exact)
    with average.in_place():
        assert torch.equal(parameter.data, exact.to(torch.bfloat16))
    assert parameter.dtype == torch.bfloat16


@pytest.mark.usefixtures("group_of_one")
def test_spread_weights_are_averaged_where_the_forward_pass_reads_them() -> None:
    module, whole = nn.Linear(3, 2), nn.Linear(3, 2)
    whole.load_state_dict(module.state_dict())
    shard(module, OneProcess(), torch.device("cpu"))
    averages = [WeightAverage(dict(one.named_parameters()), 0.9) for one in (module, whole)]
    for one, average in zip((module, whole), averages, strict=True):
        for parameter in one.parameters():
            local_part(parameter).data.mul_(3)
        average.update()
    mine, theirs = ({name: full_tensor(tensor) for name, tensor in average.state().items()} for average in averages)
    assert all(torch.equal(mine[name], tensor) for name, tensor in theirs.items())
    x_BC = torch.ones(1, 3)
    with torch.no_grad(), averages[0].in_place(), averages[1].in_place():
        averaged = module(x_BC)
        assert torch.equal(averaged, whole(x_BC))
    with torch.no_grad():
        assert torch.equal(module(x_BC), whole(x_BC))
        assert not torch.equal(module(x_BC), averaged)
        averages[0].load_state({name: tensor.clone() + 1 for name, tensor in theirs.items()})
        assert torch.equal(full_tensor(averages[0].state()["weight"]), theirs["weight"] + 1)


def test_the_state_taken_over_goes_on_bit_for_bit() -> None:
    one, two = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    first, second = WeightAverage({"w": one}, 0.9), WeightAverage({"w": two}, 0.9)
    for parameter, average in ((one, first), (two, second)):
        parameter.data.mul_(3)
        average.update()
    third = WeightAverage({"w": two}, 0.9)
    third.load_state({name: value.clone() for name, value in second.state().items()})
    for parameter, average in ((one, first), (two, third)):
        parameter.data.mul_(3)
        average.update()
    assert torch.equal(first.state()["w"], third.state()["w"])


def test_no_average_changes_nothing() -> None:
    nothing = NoAverage()
    nothing.update()
    with nothing.in_place():
        assert nothing.state() == {}
    nothing.load_state({})


def test_the_loss_scale_halves_on_overflow_and_grows_after_two_thousand_good_steps() -> None:
    scale = LossScale()
    assert scale.value == 65536
    assert scale.overflowed()
    assert scale.value == 32768
    for _ in range(2000):
        scale.succeeded()
    assert scale.value == 65536
    other = LossScale()
    scale.succeeded()
    other.load_state(scale.state())
    assert other.state() == scale.state() == {"value": 65536, "good_steps": 1}
    assert sum(scale.overflowed() for _ in range(40)) == 16


def test_a_fixed_scale_never_tries_again() -> None:
    fixed = FixedLossScale()
    fixed.succeeded()
    fixed.load_state(fixed.state())
    assert fixed.value == 1
    assert not fixed.overflowed()
