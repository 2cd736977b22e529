"""AdamW, its learning rates and its state."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from dreambooth.runtime.processes import OneProcess
from dreambooth.runtime.shards import distribute, full_tensor, is_sharded, local_part, shard
from dreambooth.trainees.full import FullTrainee, full_trainee
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.training.fused_adamw import FusedAdamW
from dreambooth.training.learning_rate import learning_rate_factor
from dreambooth.training.settings import OptimizerSettings

ALONE = OneProcess()


def model(unet: nn.Module, text: nn.Module) -> Any:
    return SimpleNamespace(
        family=SimpleNamespace(denoiser="unet", text_encoders=("text_encoder",), idle_parameters=lambda part: ()),
        parts={"unet": unet, "text_encoder": text},
    )


def trainee(seed: int = 0) -> FullTrainee:
    torch.manual_seed(seed)
    return full_trainee(
        model(nn.Linear(3, 2), nn.Linear(2, 2)), TraineeSettings(text_encoder_learning_rate=0.25), learning_rate=0.5
    )


def unused() -> None:
    raise AssertionError("all gradients are at hand")


def give_gradients(trained: FullTrainee, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in trained.parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def adamw_by_hand(weight: torch.Tensor, gradients: list[torch.Tensor], rate: float, s: OptimizerSettings) -> torch.Tensor:
    """Algorithm 2 of arXiv 1711.05101, in float64."""
    theta, m, v = weight.double().clone(), 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        g = gradient.double()
        theta = theta - rate * s.weight_decay * theta
        m, v = s.adam_beta1 * m + (1 - s.adam_beta1) * g, s.adam_beta2 * v + (1 - s.adam_beta2) * g * g
        m_hat, v_hat = m / (1 - s.adam_beta1**t), v / (1 - s.adam_beta2**t)
        theta = theta - rate * m_hat / (v_hat.sqrt() + s.adam_epsilon)
    return theta


def test_every_setting_reaches_the_update() -> None:
    """Each value differs from the others, so that a mixed-up one is seen."""
    settings = OptimizerSettings(learning_rate=0.5, adam_beta1=0.7, adam_beta2=0.8, adam_epsilon=1e-3, weight_decay=0.05)
    trained = trainee()
    before = {name: parameter.detach().clone() for name, parameter in trained.parameters.items()}
    optimizer = FusedAdamW(trained, settings, total_steps=3, processes=ALONE)
    gradients: dict[str, list[torch.Tensor]] = {name: [] for name in before}
    for step in (1, 2, 3):
        give_gradients(trained, step)
        for name, parameter in trained.parameters.items():
            assert parameter.grad is not None
            gradients[name].append(parameter.grad.clone())
        optimizer.step(step, unused)
    for name, parameter in trained.parameters.items():
        rate = 0.5 if name.startswith("unet.") else 0.25
        expected = adamw_by_hand(before[name], gradients[name], rate, settings)
        torch.testing.assert_close(parameter.double(), expected, rtol=1e-5, atol=1e-6)
        assert parameter.grad is None


def test_the_state_taken_over_goes_on_bit_for_bit() -> None:
    settings = OptimizerSettings(learning_rate=0.1, warmup_steps=2)
    straight, stopped = trainee(), trainee()
    first, second = (
        FusedAdamW(straight, settings, total_steps=6, processes=ALONE),
        FusedAdamW(stopped, settings, total_steps=6, processes=ALONE),
    )
    assert first.state() == {}
    for step in (1, 2, 3):
        for trained, optimizer in ((straight, first), (stopped, second)):
            give_gradients(trained, step)
            optimizer.step(step, unused)
    resumed = FusedAdamW(stopped, settings, total_steps=6, processes=ALONE)
    resumed.load_state({name: tensor.clone() for name, tensor in second.state().items()}, step=3)
    for step in (4, 5, 6):
        for trained, optimizer in ((straight, first), (stopped, resumed)):
            give_gradients(trained, step)
            optimizer.step(step, unused)
    for name, parameter in straight.parameters.items():
        assert torch.equal(parameter, stopped.parameters[name])


def test_means_taken_over_lie_as_their_weights_do() -> None:
    """The fused kernels go through memory: a resumed run on a GPU, whose weights are channels-last, mixed the means up."""
    settings = OptimizerSettings(learning_rate=0.1)
    straight, stopped = (convolutions() for _ in range(2))
    first, second = (FusedAdamW(trained, settings, total_steps=2, processes=ALONE) for trained in (straight, stopped))
    for trained, optimizer in ((straight, first), (stopped, second)):
        give_gradients(trained, 1)
        optimizer.step(1, unused)
    resumed = FusedAdamW(stopped, settings, total_steps=2, processes=ALONE)
    resumed.load_state({name: tensor.contiguous().clone() for name, tensor in second.state().items()}, step=1)
    for trained, optimizer in ((straight, first), (stopped, resumed)):
        give_gradients(trained, 2)
        optimizer.step(2, unused)
    for name, parameter in straight.parameters.items():
        assert torch.equal(parameter, stopped.parameters[name])


def convolutions() -> FullTrainee:
    torch.manual_seed(0)
    unet, text = (nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2))
    return full_trainee(model(unet, text), TraineeSettings(), learning_rate=0.1)


def spread() -> FullTrainee:
    whole = trainee()
    for module in whole.parts.values():
        shard(module, ALONE, torch.device("cpu"))
    unet, text = whole.parts.values()
    return full_trainee(model(unet, text), TraineeSettings(text_encoder_learning_rate=0.25), learning_rate=0.5)


def give_spread_gradients(trained: FullTrainee, seed: int) -> None:
    like = trainee()
    give_gradients(like, seed)
    for name, parameter in trained.parameters.items():
        gradient = like.parameters[name].grad
        assert gradient is not None
        parameter.grad = distribute(gradient, parameter)


@pytest.mark.usefixtures("group_of_one")
def test_spread_weights_move_as_whole_ones_and_their_state_is_theirs() -> None:
    settings = OptimizerSettings(learning_rate=0.1, max_gradient_norm=0.5)
    whole, parts = trainee(), spread()
    first, second = (FusedAdamW(trained, settings, total_steps=4, processes=ALONE) for trained in (whole, parts))
    for step in (1, 2, 3, 4):
        give_gradients(whole, step)
        give_spread_gradients(parts, step)
        if step == 3:
            taken_over = {name: full_tensor(tensor).clone() for name, tensor in second.state().items()}
            assert all(torch.equal(tensor, taken_over[name]) for name, tensor in first.state().items())
            second = FusedAdamW(parts, settings, total_steps=4, processes=ALONE)
            second.load_state(taken_over, step=2)
        for optimizer in (first, second):
            optimizer.collect(2.0)
        norm = second.gradient_norm()
        assert not is_sharded(norm)
        torch.testing.assert_close(norm, first.gradient_norm(), rtol=1e-6, atol=0)
        for optimizer in (first, second):
            optimizer.stop_unless(torch.tensor(step < 4))  # the last one is not finite and moves nothing
            optimizer.step(step, unused)
    for name, parameter in parts.parameters.items():
        torch.testing.assert_close(full_tensor(parameter), whole.parameters[name].detach(), rtol=1e-6, atol=1e-7)
        assert parameter.grad is None


@pytest.mark.usefixtures("group_of_one")
def test_a_spread_step_that_is_not_finite_moves_nothing() -> None:
    parts = spread()
    optimizer = FusedAdamW(parts, OptimizerSettings(learning_rate=0.1), total_steps=2, processes=ALONE)
    before = {name: full_tensor(parameter).clone() for name, parameter in parts.parameters.items()}
    give_spread_gradients(parts, 1)
    first = next(iter(parts.parameters.values()))
    assert first.grad is not None
    local_part(first.grad).fill_(math.inf)
    optimizer.collect(1.0)
    optimizer.stop_unless(torch.isfinite(optimizer.gradient_norm()))
    optimizer.step(1, unused)
    for name, parameter in parts.parameters.items():
        assert torch.equal(full_tensor(parameter), before[name])


def test_the_gradient_norm_is_global_and_limits_when_asked() -> None:
    trained = trainee()
    give_gradients(trained, 0)
    gradients = [parameter.grad for parameter in trained.parameters.values() if parameter.grad is not None]
    norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
    assert float(FusedAdamW(trained, OptimizerSettings(), total_steps=1, processes=ALONE).gradient_norm()) == pytest.approx(
        norm, rel=1e-6
    )
    limited = FusedAdamW(trained, OptimizerSettings(max_gradient_norm=0.5), total_steps=1, processes=ALONE)
    assert float(limited.gradient_norm()) == pytest.approx(norm, rel=1e-6)
    assert float(limited.gradient_norm()) == pytest.approx(0.5, rel=1e-4)


def test_without_a_limit_gradients_are_not_touched() -> None:
    trained = trainee()
    give_gradients(trained, 0)
    parameter = trained.parameters["unet.weight"]
    assert parameter.grad is not None
    parameter.grad[0, 0] = float("inf")
    before = parameter.grad.clone()
    norm = FusedAdamW(trained, OptimizerSettings(), total_steps=1, processes=ALONE).gradient_norm()
    assert torch.isinf(norm)
    assert torch.equal(parameter.grad, before)


def test_unscaling_divides_every_gradient() -> None:
    trained = trainee()
    give_gradients(trained, 0)
    before = [parameter.grad.clone() for parameter in trained.parameters.values() if parameter.grad is not None]
    FusedAdamW(trained, OptimizerSettings(), total_steps=1, processes=ALONE).collect(4.0)
    for parameter, gradient in zip(trained.parameters.values(), before, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient / 4)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_learning_rate_rises_then_follows_its_schedule(schedule: str) -> None:
    settings = OptimizerSettings.model_validate({"learning_rate_schedule": schedule, "warmup_steps": 4})
    factors = [learning_rate_factor(step, settings, 20) for step in range(1, 21)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert all(factor > 0 for factor in factors)
    if schedule == "constant":
        assert set(factors[4:]) == {1.0}
    elif schedule == "linear":
        assert factors[-1] == pytest.approx(1 / 16)
        assert factors[12] == pytest.approx(0.5)
    else:
        assert factors[12] == pytest.approx(0.5)
        assert factors[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 15 / 16)))


def test_a_frozen_text_encoder_is_no_group() -> None:
    unet, text = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    trained = full_trainee(model(unet, text), TraineeSettings(train_text_encoder=False), learning_rate=1e-6)
    assert [group.name for group in trained.groups] == ["unet"]
    assert not any(parameter.requires_grad for parameter in text.parameters())


def test_train_mode_gives_back_what_it_found() -> None:
    trained = trainee()
    trained.parts["unet"].eval()
    with trained.train_mode():
        assert all(module.training for module in trained.parts.values())
    assert [module.training for module in trained.parts.values()] == [False, True]
