"""The perceptual distances against the formula written out, pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from dreambooth.diffusion.randomness import normal, seeded
from dreambooth.errors import ModelFileError
from dreambooth.measures.perceptual import judge_distance, level_distances, lpips_alexnet
from dreambooth.toybox.judge import Judge

CPU = torch.device("cpu")


def pictures(num: int, side: int) -> Tensor:
    return torch.rand((num, 3, side, side), generator=torch.Generator().manual_seed(0))


def alexnet() -> nn.Sequential:
    """The layers as torchvision lists them in `features`, with random weights."""
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(),
        )


def network_tensors() -> dict[str, Tensor]:
    tensors = {f"features.{name}": tensor for name, tensor in alexnet().state_dict().items()}
    return {**tensors, "classifier.6.bias": torch.zeros(1000)}


def channel_weights() -> dict[str, Tensor]:
    widths = (64, 192, 384, 256, 256)
    return {
        f"lin{level}.model.1.weight": normal((1, width, 1, 1), level, "test weights").abs()
        for level, width in enumerate(widths)
    }


@torch.no_grad()
def by_definition(one: Tensor, other: Tensor) -> float:
    """LPIPS of two pictures in [0, 1], place by place."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    states = []
    for pixels in (one, other):
        hidden = ((2 * pixels - 1) - shift.view(3, 1, 1)) / scale.view(3, 1, 1)
        of_picture = []
        for layer in alexnet():
            hidden = layer(hidden)
            if isinstance(layer, nn.ReLU):
                of_picture.append(hidden.double())
        states.append(of_picture)
    total = 0.0
    for level, (a, b) in enumerate(zip(*states, strict=True)):
        weights = channel_weights()[f"lin{level}.model.1.weight"].flatten().double()
        places = []
        for row in range(a.shape[1]):
            for column in range(a.shape[2]):
                u, v = a[:, row, column], b[:, row, column]
                apart = u / (u.square().sum().sqrt() + 1e-10) - v / (v.square().sum().sqrt() + 1e-10)
                places.append(float((weights * apart * apart).sum()))
        total += math.fsum(places) / len(places)
    return total


def test_lpips_is_the_formula_on_alexnet() -> None:
    distance = lpips_alexnet(network_tensors(), channel_weights(), device=CPU)
    seen = pictures(3, 63)
    found = distance.between(seen)
    assert found.shape == (3, 3) and found.dtype == torch.float64
    for one, other in ((0, 1), (0, 2), (1, 2)):
        expected = by_definition(seen[one], seen[other])
        assert float(found[one, other]) == pytest.approx(expected, rel=1e-4)
        assert float(found[other, one]) == float(found[one, other])
    assert found.diagonal().tolist() == [0.0, 0.0, 0.0]
    assert distance.name == "LPIPS (AlexNet, v0.1)"


def test_lpips_says_every_tensor_that_is_missing_or_of_another_shape() -> None:
    network, weights = network_tensors(), channel_weights()
    del network["features.6.bias"]
    weights["lin2.model.1.weight"] = torch.zeros(1, 5, 1, 1)
    with pytest.raises(ModelFileError) as caught:
        lpips_alexnet(network, weights, device=CPU)
    assert caught.value.problems == (
        "missing tensor features.6.bias; expected shape (384,)",
        "lin2.model.1.weight has the shape (1, 5, 1, 1); expected (1, 384, 1, 1)",
    )


def test_distances_add_up_over_levels_and_are_weighted_by_channel() -> None:
    levels = [normal((3, 2, 4, 4), 0, "test level"), normal((3, 5, 2, 2), 1, "test level")]
    weights = [torch.tensor([1.0, 3.0]), torch.arange(5.0)]
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for level, weight in zip(levels, weights, strict=True):
        for i in range(3):
            for j in range(3):
                squared = (level[i] - level[j]).double().square()
                expected[i, j] += (weight.double().view(-1, 1, 1) * squared).sum() / (level.shape[2] * level.shape[3])
    torch.testing.assert_close(level_distances(levels, weights), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_the_judges_distance_is_the_formula_on_its_levels() -> None:
    with seeded(0):
        judge = Judge()
    states: list[Tensor] = []
    hooks = [level.register_forward_hook(lambda _module, _inputs, output: states.append(output)) for level in judge.levels]
    seen = pictures(2, 64)
    judge(seen * 2 - 1)
    for hook in hooks:
        hook.remove()
    assert len(states) == 4
    expected = 0.0
    for level in states:
        unit = level / level.norm(dim=1, keepdim=True)
        expected += float((unit[0] - unit[1]).square().sum(dim=0).mean())
    distance = judge_distance(judge, device=CPU)
    assert float(distance.between(seen)[0, 1]) == pytest.approx(expected, rel=1e-5)
    assert "not LPIPS" in distance.name
