"""Intervals hold what they promise, and a printed score says whose it is."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.randomness import normal
from dreambooth.measures.intervals import Score, bootstrap_interval, score


def crossed(trial: int, *, prompts: int = 25, seeds: int = 16) -> Tensor:
    """Numbers of mean 0 that have a part for the prompt, one for the seed and one of their own."""
    of_prompt = normal((prompts, 1), trial, "test prompts")
    of_seed = 0.5 * normal((1, seeds), trial, "test seeds")
    return of_prompt + of_seed + 0.5 * normal((prompts, seeds), trial, "test rest")


def test_intervals_of_crossed_normal_numbers_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for trial in range(300):
        low, high = bootstrap_interval(crossed(trial), seed=trial, key="test") or (1.0, -1.0)
        held += low <= 0.0 <= high
    assert 0.91 <= held / 300 <= 0.98


def test_drawing_pictures_one_by_one_would_be_too_sure() -> None:
    """Why both factors are drawn: an interval that takes pictures for independent is less than half as wide."""
    values = crossed(0)
    low, high = bootstrap_interval(values, seed=0, key="test") or (0.0, 0.0)
    as_if_independent = 2 * 1.96 * float(values.std()) / values.numel() ** 0.5
    assert high - low > 2 * as_if_independent


def test_the_interval_is_that_of_a_loop_over_drawn_prompts_and_seeds() -> None:
    values = crossed(1, prompts=6, seeds=5).tolist()
    drawing = random.Random(0)
    means = []
    for _ in range(20_000):
        rows = [drawing.randrange(6) for _ in range(6)]
        columns = [drawing.randrange(5) for _ in range(5)]
        means.append(sum(values[row][column] for row in rows for column in columns) / 30)
    means.sort()
    low, high = bootstrap_interval(torch.tensor(values), seed=0, key="test") or (0.0, 0.0)
    width = means[19_500] - means[500]
    assert low == pytest.approx(means[500], abs=0.05 * width)
    assert high == pytest.approx(means[19_500], abs=0.05 * width)


def test_the_draws_depend_on_seed_and_key_alone() -> None:
    values = crossed(2)
    before = torch.random.get_rng_state()
    first = bootstrap_interval(values, seed=3, key="DINO")
    torch.manual_seed(99)
    assert bootstrap_interval(values, seed=3, key="DINO") == first
    torch.random.set_rng_state(before)
    assert bootstrap_interval(values, seed=4, key="DINO") != first
    assert bootstrap_interval(values, seed=3, key="CLIP-I") != first
    assert torch.equal(torch.random.get_rng_state(), before)


def test_equal_numbers_have_an_interval_of_no_width() -> None:
    low, high = bootstrap_interval(torch.full((4, 3), 0.25), seed=0, key="test") or (0.0, 0.0)
    assert (low, high) == (0.25, 0.25)


def test_one_prompt_varies_by_its_seeds_only() -> None:
    values = crossed(3, prompts=1, seeds=8)
    low, high = bootstrap_interval(values, seed=0, key="test") or (0.0, 0.0)
    assert float(values.min()) <= low < float(values.mean()) < high <= float(values.max())


def test_a_score_is_the_mean_and_is_printed_with_its_encoder() -> None:
    measured = score("DINO", torch.tensor([[0.5, 0.7], [0.6, 0.8]]), encoder="facebook/dino-vits16", seed=0)
    assert measured.value == pytest.approx(0.65)
    assert measured.low is not None and measured.high is not None and measured.low < 0.65 < measured.high
    assert measured.text == f"DINO 0.650 [{measured.low:.3f}, {measured.high:.3f}] by facebook/dino-vits16"


def test_a_single_picture_has_no_interval() -> None:
    assert bootstrap_interval(torch.tensor([[0.4]]), seed=0, key="test") is None
    assert score("PRES", torch.tensor([[0.4]]), encoder="the toybox eye", seed=0) == Score(
        "PRES", pytest.approx(0.4), None, None, "the toybox eye"
    )
    assert Score("drift", -1e-9, -1e-8, 0.0, "e").text == "drift 0.000 [0.000, 0.000] by e", "no minus zero"
    assert Score("PRES", 0.4, None, None, "the toybox eye").text == "PRES 0.400 by the toybox eye (one image: no interval)"
