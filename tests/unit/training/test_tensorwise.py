"""The optimizer that works by tensors: the numbers of other implementations, and of itself under every lever."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from dreambooth.memory.plan import MemoryPlan
from dreambooth.runtime.processes import OneProcess
from dreambooth.trainees.full import FullTrainee, full_trainee
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.training import tensor_updates, tensorwise
from dreambooth.training.batches import Batch
from dreambooth.training.fused_adamw import FusedAdamW
from dreambooth.training.loop import training_steps
from dreambooth.training.optimizer import Optimizer, make_optimizer
from dreambooth.training.settings import OptimizerSettings
from dreambooth.training.tensorwise import Tensorwise

MakeTiny = Callable[..., Any]
ALONE = OneProcess()
PLAIN = MemoryPlan("fp32", states_on_host=True)  # float32 means, tensor by tensor


def model(unet: nn.Module, text: nn.Module) -> Any:
    return SimpleNamespace(
        family=SimpleNamespace(denoiser="unet", text_encoders=("text_encoder",), idle_parameters=lambda part: ()),
        parts={"unet": unet, "text_encoder": text},
    )


def trainee(dtype: torch.dtype = torch.float32, *, rate: float = 1e-3) -> FullTrainee:
    torch.manual_seed(0)
    unet = nn.Sequential(nn.Linear(128, 64), nn.Conv2d(4, 8, 3)).to(dtype)
    return full_trainee(
        model(unet, nn.Linear(2, 2).to(dtype)), TraineeSettings(text_encoder_learning_rate=2e-3), learning_rate=rate
    )


def run(trained: FullTrainee, optimizer: Optimizer | torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in trained.parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        if isinstance(optimizer, torch.optim.Optimizer):
            optimizer.step()
        else:
            optimizer.gradient_norm()
            optimizer.step(step, lambda: None)


def make(trained: FullTrainee, plan: MemoryPlan, **settings: Any) -> Optimizer:
    values = {"learning_rate": 1e-3, "adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6, "weight_decay": 0.1}
    if settings.get("optimizer") == "adafactor":
        values = {"learning_rate": 1e-3, "weight_decay": 0.1}
    return make_optimizer(
        trained, OptimizerSettings.model_validate(values | settings), plan, total_steps=50, processes=ALONE, seed=3
    )


def weights(trained: FullTrainee) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().float().clone() for name, parameter in trained.parameters.items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_in_float32_it_is_the_adamw_of_torch() -> None:
    one, other = trainee(), trainee()
    run(one, make(one, PLAIN), range(1, 11))
    run(other, make(other, MemoryPlan("fp32")), range(1, 11))
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(other)[name], rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore")  # torchao's own, while it is loaded
@pytest.mark.parametrize(("states", "name"), [("8bit", "AdamW8bit"), ("4bit", "AdamW4bit")])
def test_few_bits_give_the_numbers_of_torchao(states: Any, name: str) -> None:
    import torchao.optim

    one, other = trainee(), trainee()
    theirs = getattr(torchao.optim, name)(
        [{"params": list(group.parameters.values()), "lr": torch.tensor(group.learning_rate)} for group in other.groups],
        betas=(0.8, 0.95),
        eps=1e-6,
        weight_decay=0.1,
    )
    torch.compiler.set_stance("force_eager")
    try:
        run(other, theirs, range(1, 21))
    finally:
        torch.compiler.set_stance("default")
    run(one, make(one, MemoryPlan("fp32", optimizer_states=states)), range(1, 21))
    for key, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(other)[key], rtol=1e-5, atol=1e-6)
    exact = trainee()
    run(exact, make(exact, PLAIN), range(1, 21))
    assert not torch.equal(weights(one)["unet.0.weight"], weights(exact)["unet.0.weight"])
    assert torch.equal(weights(one)["unet.0.bias"], weights(exact)["unet.0.bias"])  # too small to be coded


def test_adafactor_gives_the_numbers_of_torch() -> None:
    torch.manual_seed(0)
    one, other = (
        full_trainee(model(nn.Linear(128, 64), nn.Linear(2, 2)), TraineeSettings(), learning_rate=1e-2) for _ in range(2)
    )
    for ours, theirs in zip(one.parameters.values(), other.parameters.values(), strict=True):
        theirs.data.copy_(ours)
    run(other, torch.optim.Adafactor(other.parameters.values(), lr=1e-2, weight_decay=0.1, foreach=False), range(1, 21))
    run(one, make(one, MemoryPlan("fp32"), optimizer="adafactor"), range(1, 21))
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(other)[name], rtol=1e-5, atol=1e-6)


LEVERS = [
    PLAIN,
    MemoryPlan("fp32", optimizer_states="8bit"),
    MemoryPlan("fp32", optimizer_states="4bit"),
    MemoryPlan("bf16", optimizer_states="8bit"),
]


@pytest.mark.parametrize("plan", LEVERS, ids=str)
def test_pieces_do_not_change_a_number(plan: MemoryPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = torch.bfloat16 if plan.precision == "bf16" else torch.float32
    whole, cut = trainee(dtype), trainee(dtype)
    run(whole, make(whole, plan), range(1, 6))
    monkeypatch.setattr(tensorwise, "numbers_at_once", lambda *_, **__: 512)
    run(cut, make(cut, plan), range(1, 6))
    assert_equal(weights(whole), weights(cut))


@pytest.mark.parametrize("plan", LEVERS, ids=str)
def test_a_device_that_decides_by_itself_gets_the_same_numbers(plan: MemoryPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = torch.bfloat16 if plan.precision == "bf16" else torch.float32
    one, other = trainee(dtype), trainee(dtype)
    run(one, make(one, plan), range(1, 6))
    monkeypatch.setattr(tensor_updates, "can_read_without_waiting", lambda _: False)
    run(other, make(other, plan), range(1, 6))
    assert_equal(weights(one), weights(other))


@pytest.mark.parametrize("plan", LEVERS, ids=str)
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_the_state_taken_over_goes_on_bit_for_bit(plan: MemoryPlan, optimizer: str) -> None:
    dtype = torch.bfloat16 if plan.precision == "bf16" else torch.float32
    straight, stopped = trainee(dtype), trainee(dtype)
    run(straight, make(straight, plan, optimizer=optimizer), range(1, 7))
    first = make(stopped, plan, optimizer=optimizer)
    assert first.state() == {}
    run(stopped, first, range(1, 4))
    resumed = make(stopped, plan, optimizer=optimizer)
    resumed.load_state({}, step=0)
    assert resumed.state() == {}
    resumed.load_state({name: tensor.clone() for name, tensor in first.state().items()}, step=3)
    run(stopped, resumed, range(4, 7))
    assert_equal(weights(straight), weights(stopped))


@pytest.mark.parametrize("later", [MemoryPlan("fp32"), PLAIN], ids=["fused", "by tensors"])
def test_means_in_float32_go_from_one_optimizer_to_the_other(later: MemoryPlan) -> None:
    straight, changed = trainee(), trainee()
    run(straight, make(straight, MemoryPlan("fp32")), range(1, 7))
    first = make(changed, PLAIN if later == MemoryPlan("fp32") else MemoryPlan("fp32"))
    run(changed, first, range(1, 4))
    second = make(changed, later)
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()}, step=3)
    run(changed, second, range(4, 7))
    for name, tensor in weights(changed).items():
        torch.testing.assert_close(tensor, weights(straight)[name], rtol=1e-6, atol=1e-7)


def test_bfloat16_weights_follow_float32_ones_though_each_update_is_too_small_for_them() -> None:
    one, other = trainee(torch.bfloat16, rate=1e-6), trainee(rate=1e-6)
    for ours, theirs in zip(one.parameters.values(), other.parameters.values(), strict=True):
        theirs.data.copy_(ours)
    before = weights(other)["unet.0.weight"]
    for trained in (one, other):
        plan = MemoryPlan("bf16") if trained is one else PLAIN
        optimizer = make(trained, plan)
        for step in range(1, 51):
            for number, parameter in enumerate(trained.parameters.values()):  # the same direction in every step
                gradient = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
                parameter.grad = gradient.to(torch.bfloat16).to(parameter.dtype)
            optimizer.step(step, lambda: None)
    moved, followed = (weights(trained)["unet.0.weight"] - before for trained in (other, one))
    assert float((followed * moved).sum() / moved.square().sum()) == pytest.approx(1, abs=0.1)
    # 50 coins, each with the chance 1e-6 / spacing and worth a spacing; the same coin 50 times would go 7 times as far
    spacing = 2.0**-11
    assert float((followed - moved).std()) < (50 * 1e-6 * spacing) ** 0.5


@pytest.mark.parametrize("limit", [None, 0.05])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_in_the_backward_pass_is_the_same_step(tiny: MakeTiny, precision: Any, limit: float | None) -> None:
    settings = OptimizerSettings(learning_rate=0.01, max_gradient_norm=limit)
    after = MemoryPlan(precision, optimizer_states="8bit")
    one, other = tiny(settings, plan=after), tiny(settings, plan=replace(after, step_in_backward=True))
    norms = []
    for tested in (one, other):
        assert isinstance(tested.state.optimizer, Tensorwise)
        norms.append([result.gradient_norm for result in training_steps(tested.state, tested.batches_at, last_step=4)])
    assert norms[0] == norms[1]
    if limit is not None:
        assert min(norms[0]) > limit
    for name, tensor in one.trainee.parameters.items():
        assert torch.equal(tensor, other.trainee.parameters[name]), name
        assert other.trainee.parameters[name].grad is None


STREAMED = MemoryPlan("fp32", step_in_backward=True, gradient_checkpointing="all", stream_blocks=True)


@pytest.mark.parametrize(
    ("plan", "optimizer"), [(replace(STREAMED, stream_blocks=False), "adamw"), (PLAIN, "adafactor"), (STREAMED, "adamw")]
)
def test_no_more_gradients_wait_than_fill_a_batch(plan: MemoryPlan, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """None waits for others where updates are by tensor, or where the weights leave the device."""
    monkeypatch.setattr(tensorwise, "numbers_at_once", lambda *_, **__: 512)
    in_backward, together = trainee(), trainee()
    optimizers = [
        make(in_backward, replace(plan, step_in_backward=True), optimizer=optimizer),
        make(together, PLAIN, optimizer=optimizer),
    ]
    largest = max(parameter.numel() for parameter in in_backward.parameters.values())
    most = 0

    def backward() -> None:
        nonlocal most
        for name, parameter in in_backward.parameters.items():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            optimizers[0].gradient_is_made(name, parameter)
            most = max(most, sum(p.numel() for p in in_backward.parameters.values() if p.grad is not None))

    for step in range(1, 4):
        backward()
        for parameter in together.parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
        assert torch.equal(*(each.gradient_norm() for each in optimizers))
        assert all(parameter.grad is None for parameter in in_backward.parameters.values())
        for each in optimizers:
            each.step(step, backward)
    assert_equal(weights(in_backward), weights(together))
    assert 0 < most < 512 + largest if plan == replace(STREAMED, stream_blocks=False) else most == 0


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
@pytest.mark.parametrize("is_limited", [False, True])
@pytest.mark.parametrize(
    "plan",
    [
        MemoryPlan("fp32"),
        MemoryPlan("fp32", states_on_host=True),
        MemoryPlan("bf16", optimizer_states="8bit"),
        MemoryPlan("fp32", step_in_backward=True),
    ],
    ids=["fused", "by tensors", "bf16 8bit", "in backward"],
)
def test_from_a_gradient_that_is_not_finite_on_nothing_moves(
    tiny: MakeTiny, plan: MemoryPlan, is_limited: bool, optimizer: Any
) -> None:
    """The tensor whose gradient is made last breaks, when a careless optimizer has moved the others already."""
    limit = 1.0 if is_limited else None
    run = tiny(OptimizerSettings(optimizer=optimizer, learning_rate=0.01, max_gradient_norm=limit), plan=plan)
    list(training_steps(run.state, run.batches_at, last_step=2))
    before = weights(run.trainee)
    state = {name: tensor.clone() for name, tensor in run.state.optimizer.state().items()}
    handle = run.trainee.parameters["text_encoder.weight"].register_hook(lambda gradient: gradient * float("inf"))
    broken = next(training_steps(run.state, run.batches_at, last_step=3))
    handle.remove()
    next(training_steps(run.state, run.batches_at, last_step=4))  # the host has not looked yet
    with pytest.raises(Exception, match="step 3: the gradient's norm is"):
        broken.check()
    assert_equal(before, weights(run.trainee))
    for name, tensor in run.state.optimizer.state().items():
        assert torch.equal(tensor, state[name]), name


def test_a_limit_scales_the_update_and_not_only_the_report(tiny: MakeTiny) -> None:
    """AdamW hardly feels a constant factor; a factor that changes from step to step it does."""
    settings = OptimizerSettings(learning_rate=0.01, max_gradient_norm=0.05)
    by_tensors, fused = tiny(settings, plan=PLAIN), tiny(settings)
    assert isinstance(fused.state.optimizer, FusedAdamW)

    def louder(batches_at: Callable[[int], Iterator[Batch]]) -> Callable[[int], Iterator[Batch]]:
        return lambda step: (replace(batch, coefficient_B=batch.coefficient_B * step) for batch in batches_at(step))

    for tested in (by_tensors, fused):
        list(training_steps(tested.state, louder(tested.batches_at), last_step=4))
    for name, tensor in weights(by_tensors.trainee).items():
        torch.testing.assert_close(tensor, weights(fused.trainee)[name], rtol=1e-5, atol=1e-6)


def test_the_hooks_do_not_keep_a_run_in_memory(tiny: MakeTiny) -> None:
    run = tiny(plan=MemoryPlan("fp32", step_in_backward=True))
    next(training_steps(run.state, run.batches_at, last_step=1))
    optimizer, parameter = weakref.ref(run.state.optimizer), weakref.ref(run.trainee.parameters["unet.weight"])
    del run
    gc.collect()
    assert optimizer() is None
    assert parameter() is None
