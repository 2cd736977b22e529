from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from dreambooth.diffusion.randomness import normal
from dreambooth.errors import TrainingError
from dreambooth.training.weight_average import NoAverage, WeightAverage
from experiments.toybox.stages import Plan, Stage

PLAN = Plan(steps=11, batch_size=4, learning_rate=0.05, weight_decay=0.1, warmup=3)


class Work:
    """A network of two layers that learns random numbers, its average, and how far it is."""

    def __init__(self, path: Path, plan: Plan = PLAN, *, averages: bool = True) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        self.parameters = dict(self.network.named_parameters())
        self.average: Any = WeightAverage(self.parameters, 0.9) if averages else NoAverage()
        self.stage = Stage(path, self.parameters, self.average, plan)

    def loss_at(self, step: int) -> Tensor:
        inputs, targets = normal((4, 3), 1, "inputs", step), normal((4, 2), 1, "targets", step)
        return (self.network(inputs) - targets).square().mean()

    def go(self, num: int | None = None) -> list[float]:
        losses = []
        for loss in self.stage.run(self.loss_at, save_every=3):
            losses.append(loss.item())
            if len(losses) == num:
                break
        return losses

    def state(self) -> dict[str, Tensor]:
        return {**self.parameters, **{f"average.{name}": value for name, value in self.average.state().items()}}


def test_a_stage_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = Work(tmp_path / "whole")
    losses = whole.go()
    assert len(set(losses)) == 11
    assert Work(tmp_path / "parts").go(2) == losses[:2]  # stopped before the first save
    again = Work(tmp_path / "parts")
    assert again.stage.step == 0
    assert again.go(4) == losses[:4]  # saved at 3
    third = Work(tmp_path / "parts")
    assert third.stage.step == 3
    assert third.go(6) == losses[3:9]  # saved at 9
    last = Work(tmp_path / "parts")
    assert last.go() == losses[9:]
    for name, value in whole.state().items():
        assert torch.equal(value, last.state()[name]), name
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()


def test_a_finished_stage_has_nothing_left_to_do(tmp_path: Path) -> None:
    first = Work(tmp_path / "state")
    first.go()
    second = Work(tmp_path / "state")
    assert second.go() == [] and second.stage.step == 11
    for name, value in first.state().items():
        assert torch.equal(value, second.state()[name]), name


def test_a_stage_without_an_average_goes_on_too(tmp_path: Path) -> None:
    losses = Work(tmp_path / "whole", averages=False).go()
    Work(tmp_path / "parts", averages=False).go(7)
    assert Work(tmp_path / "parts", averages=False).go() == losses[6:]


def test_the_state_file_says_its_step_and_holds_everything(tmp_path: Path) -> None:
    work = Work(tmp_path / "state")
    work.go(6)
    with safe_open(tmp_path / "state", framework="pt") as file:
        assert file.metadata() == {"step": "6"}
    tensors = load_file(tmp_path / "state")
    names = set(work.parameters)
    kinds = ("weight", "optimizer.step", "optimizer.exp_avg", "optimizer.exp_avg_sq", "average")
    assert set(tensors) == {f"{kind}.{name}" for kind in kinds for name in names} | {"average.num_updates"}
    assert int(tensors["average.num_updates"]) == 6
    for name, parameter in work.parameters.items():
        assert torch.equal(tensors[f"weight.{name}"], parameter)
        assert torch.equal(tensors[f"average.{name}"], work.average.state()[name])
        assert not torch.equal(tensors[f"average.{name}"], parameter)


def test_losses_do_not_hold_their_graph(tmp_path: Path) -> None:
    work = Work(tmp_path / "state")
    assert [loss.requires_grad for loss in work.stage.run(work.loss_at, save_every=99)] == [False] * 11


def test_the_learning_rate_rises_stays_and_falls() -> None:
    plan = Plan(steps=1000, batch_size=1, learning_rate=2.0, warmup=100)
    rates = [plan.rate(step) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(0.02) and rates[49] == pytest.approx(1.0)
    assert rates[99:701] == [2.0] * 602
    assert all(later > earlier for earlier, later in pairwise(rates[:100]))
    assert all(later < earlier for earlier, later in pairwise(rates[701:]))
    assert rates[850] == pytest.approx(1.0)  # halfway down
    assert 0 < rates[-1] < 0.01 * 2.0


def test_a_plan_that_is_shorter_than_its_warmup_still_ends_low() -> None:
    rates = [Plan(steps=20, batch_size=1, learning_rate=1.0, warmup=100).rate(step) for step in range(1, 21)]
    assert max(rates) < 0.2 and rates[0] == pytest.approx(0.01) and rates[-1] <= 1 / 6 + 1e-9


def one_step(path: Path, parameters: dict[str, nn.Parameter], plan: Plan, loss_at: Callable[[int], Tensor]) -> None:
    list(Stage(path, parameters, NoAverage(), plan).run(loss_at, save_every=1))


def test_weight_decay_is_for_matrices_only(tmp_path: Path) -> None:
    parameters = {
        "matrix": nn.Parameter(torch.ones(2, 3)),
        "kernel": nn.Parameter(torch.ones(2, 3, 3, 3)),
        "bias": nn.Parameter(torch.ones(3)),
        "scale": nn.Parameter(torch.ones(())),
    }
    plan = Plan(steps=10, batch_size=1, learning_rate=0.1, weight_decay=0.5, warmup=1)
    one_step(
        tmp_path / "state", parameters, plan, lambda step: sum((0 * p.sum() for p in parameters.values()), torch.zeros(()))
    )
    expected = 1.0
    for step in range(1, 11):
        expected *= 1 - 0.5 * plan.rate(step)
    for name in ("matrix", "kernel"):
        torch.testing.assert_close(parameters[name].detach(), torch.full_like(parameters[name], expected))
    for name in ("bias", "scale"):
        assert torch.equal(parameters[name], torch.ones_like(parameters[name]))


def test_the_first_step_is_that_of_adam_at_the_plan_s_rate(tmp_path: Path) -> None:
    """From a gradient g the first step is rate * sign(g), whatever the size of g; the rate is a third of the full one."""
    bias = nn.Parameter(torch.zeros(3))
    direction = torch.tensor([3.0, -0.5, 0.2])
    stage = Stage(tmp_path / "state", {"bias": bias}, NoAverage(), PLAN)
    next(stage.run(lambda step: (bias * direction).sum(), save_every=99))
    torch.testing.assert_close(bias.detach(), -direction.sign() * 0.05 / 3, rtol=1e-4, atol=1e-7)


def test_gradients_are_cut_to_a_norm_of_one_and_forgotten(tmp_path: Path) -> None:
    """Adam keeps a tenth of the first gradient in its first moment, and a hundredth of its square in the second."""
    one, two = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    stage = Stage(tmp_path / "state", {"one": one, "two": two}, NoAverage(), PLAN)
    next(stage.run(lambda step: 300 * one.sum() - 400 * two.sum(), save_every=1))
    tensors = load_file(tmp_path / "state")
    torch.testing.assert_close(tensors["optimizer.exp_avg.one"], torch.tensor([0.06]))
    torch.testing.assert_close(tensors["optimizer.exp_avg.two"], torch.tensor([-0.08]))
    torch.testing.assert_close(tensors["optimizer.exp_avg_sq.one"], torch.tensor([0.0036]))
    assert one.grad is None and two.grad is None


def test_a_gradient_that_is_not_finite_stops_before_any_weight_moves(tmp_path: Path) -> None:
    work = Work(tmp_path / "state.safetensors")
    work.go(3)
    before = {name: tensor.detach().clone() for name, tensor in work.parameters.items()}

    def broken(step: int) -> Tensor:
        return work.loss_at(step) * torch.tensor(float("nan") if step == 5 else 1.0)

    message = r"step 5: the gradient is not finite \(loss nan\); the weights were not changed"
    with pytest.raises(TrainingError, match=message) as caught:
        for _ in work.stage.run(broken, save_every=100):
            before = {name: tensor.detach().clone() for name, tensor in work.parameters.items()}
    assert all(torch.equal(before[name], tensor) for name, tensor in work.parameters.items())
    assert "The last good state is in" in str(caught.value.hint)
    assert Work(tmp_path / "state.safetensors").stage.step == 3
