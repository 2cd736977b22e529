from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.randomness import generator, normal
from dreambooth.toybox.judge import ATTRIBUTES, UNASKED, Judge
from experiments.toybox.judging import accuracies, judging_loss


def fixed(**answers: Tensor) -> Any:
    """A judge who gives these log-probabilities whatever he is shown."""
    return lambda pixels: answers


def looking(seen: list[Tensor]) -> Any:
    """A judge who notes what he is shown and is sure of nothing."""

    def judge(pixels: Tensor) -> dict[str, Tensor]:
        seen.append(pixels)
        return {"class": torch.full((len(pixels), 4), -math.log(4))}

    return judge


def test_the_loss_is_the_sum_over_attributes_of_the_mean_surprise_where_asked() -> None:
    first, second = normal((4, 3), 1, "a").log_softmax(dim=1), normal((4, 5), 1, "b").log_softmax(dim=1)
    labels = {"first": torch.tensor([2, 0, 1, 1]), "second": torch.tensor([4, UNASKED, UNASKED, 3])}
    loss = judging_loss(fixed(first=first, second=second), torch.zeros(4, 3, 8, 8), labels, generator(1))
    expected = -(first[0, 2] + first[1, 0] + first[2, 1] + first[3, 1]) / 4 - (second[0, 4] + second[3, 3]) / 2
    torch.testing.assert_close(loss, expected)


def test_an_answer_that_nobody_asked_for_costs_nothing() -> None:
    labels = {"class": torch.tensor([1, UNASKED])}
    losses = []
    for wrong in (-0.1, -50.0):
        answers = torch.full((2, 3), wrong)
        answers[0] = torch.tensor([-1.0, -2.0, -3.0])
        losses.append(float(judging_loss(fixed(**{"class": answers}), torch.zeros(2, 3, 8, 8), labels, generator(1))))
    assert losses == [2.0, 2.0]


def test_half_of_the_pictures_are_softened_a_little() -> None:
    """Stripes one pixel wide become their opposite by a third when they are softened wholly; any share of that is as likely."""
    stripes = torch.tensor([-1.0, 1.0]).repeat(16).expand(400, 3, 32, 32)
    seen: list[Tensor] = []
    judging_loss(looking(seen), stripes, {"class": torch.zeros(400, dtype=torch.int64)}, generator(1))
    contrast = (seen[0] * stripes)[..., 1:-1].mean(dim=(1, 2, 3))  # 1 where nothing was softened
    is_soft = contrast < 0.99
    assert float(is_soft.float().mean()) == pytest.approx(0.5, abs=0.08)  # 3 standard deviations
    assert contrast.min() > -1 / 3 - 0.01
    assert float(contrast[is_soft].mean()) == pytest.approx(1 / 3, abs=0.09)  # 3 standard deviations


def test_noise_is_small_and_of_another_strength_in_every_picture() -> None:
    seen: list[Tensor] = []
    judging_loss(
        looking(seen), torch.full((300, 3, 16, 16), 0.25), {"class": torch.zeros(300, dtype=torch.int64)}, generator(2)
    )
    noise = (seen[0] - 0.25).flatten(1)  # a picture of one colour cannot be softened, not even at its border
    assert noise.mean(dim=1).abs().max() < 4 * 0.04 / 768**0.5 + 1e-6
    strengths = noise.std(dim=1)
    assert strengths.max() < 0.043 and strengths.min() < 0.002
    assert float(strengths.mean()) == pytest.approx(0.02, abs=0.003)


def test_the_loss_is_a_function_of_the_generator_and_leaves_the_pictures_alone() -> None:
    pixels, labels = normal((3, 3, 8, 8), 1, "pixels"), {"class": torch.zeros(3, dtype=torch.int64)}
    before, seen = pixels.clone(), []
    for seed in (1, 1, 2):
        judging_loss(looking(seen), pixels, labels, generator(seed))
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert torch.equal(pixels, before)


def test_a_real_judge_learns_from_it() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge = Judge()
    pixels = normal((4, 3, 64, 64), 1, "pixels").clamp(-1, 1)
    labels = {name: torch.arange(4) % len(words) for name, words in ATTRIBUTES.items()}
    optimizer = torch.optim.SGD(judge.parameters(), 0.02)
    losses = []
    for _ in range(4):
        loss = judging_loss(judge, pixels, labels, generator(1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(sum(math.log(len(words)) for words in ATTRIBUTES.values()), rel=0.2)
    assert losses[-1] < losses[0]


def by_brightness(num_choices: int) -> Callable[[Tensor], dict[str, Tensor]]:
    """A judge whose answer is a tenth of the first pixel."""

    def judge(pixels: Tensor) -> dict[str, Tensor]:
        chosen = (pixels[:, 0, 0, 0] * 10).round().long()
        shares = torch.full((len(pixels), num_choices), -5.0)
        shares[torch.arange(len(pixels)), chosen] = -0.1
        return {"class": shares, "accent": shares, "place": shares}

    return judge


def test_accuracies_are_shares_of_right_answers_among_those_asked_for() -> None:
    right = torch.arange(200) % 5
    pixels = (right / 10).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    half = torch.where(torch.arange(200) % 2 == 0, right, (right + 1) % 5)
    asked_rarely = torch.full((200,), UNASKED)
    asked_rarely[[3, 7, 150]] = torch.stack([right[3], right[7], (right[150] + 1) % 5])
    found = accuracies(by_brightness(5), pixels, {"class": right, "place": half, "accent": asked_rarely})
    assert found == {"class": 1.0, "place": 0.5, "accent": pytest.approx(2 / 3)}


def test_a_question_that_no_picture_answers_costs_nothing_and_has_no_share() -> None:
    pixels, labels = torch.zeros(2, 3, 64, 64), {name: torch.tensor([0, 1]) for name in ATTRIBUTES}
    judge = Judge()
    without = {**labels, "accent": torch.full((2,), UNASKED)}
    whole, less = (judging_loss(judge, pixels, one, torch.Generator().manual_seed(1)) for one in (labels, without))
    assert 0 < float(less.detach()) < float(whole.detach())
    assert set(accuracies(judge, pixels, without)) == set(ATTRIBUTES) - {"accent"}
