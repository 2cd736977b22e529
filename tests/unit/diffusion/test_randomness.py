"""Counted randomness: a pure function of seed and key, and well mixed."""

from __future__ import annotations

import torch

from dreambooth.diffusion.randomness import normal, permutation, seeded, uniform, uniform_integer


def test_the_same_key_gives_the_same_numbers_whatever_came_before() -> None:
    first = normal((4, 8, 8), 23, "noise", 1, "instance", 0)
    torch.manual_seed(5)
    normal((1000,), 23, "other")
    assert torch.equal(first, normal((4, 8, 8), 23, "noise", 1, "instance", 0))


def test_it_neither_reads_nor_moves_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    normal((10,), 1, "a"), uniform(1, "a"), uniform_integer(10, 1, "a"), permutation(10, 1, "a")
    assert torch.equal(before, torch.get_rng_state())


def test_keys_are_told_apart_by_type_and_by_cut() -> None:
    keys: list[tuple[str | int, ...]] = [("a", 1), ("a", "1"), ("a1",), (1, "a"), ("a", 1, 0), ()]
    draws = {tuple(normal((4,), 7, *key).tolist()) for key in keys}
    assert len(draws) == len(keys)
    assert not torch.equal(normal((4,), 7, "a"), normal((4,), 8, "a"))


def test_streams_of_neighbouring_steps_are_unrelated_and_standard_normal() -> None:
    numbers = torch.stack([normal((64,), 0, "noise", step) for step in range(2000)])
    assert abs(float(numbers.mean())) < 0.01
    assert abs(float(numbers.std()) - 1) < 0.01
    correlation = torch.corrcoef(numbers[:, :8].T) - torch.eye(8)
    assert float(correlation.abs().max()) < 0.1
    neighbours = (numbers[1:] * numbers[:-1]).mean()
    assert abs(float(neighbours)) < 0.01


def test_integers_are_uniform_and_permutations_complete() -> None:
    counts = torch.bincount(torch.tensor([uniform_integer(10, 3, "t", step) for step in range(5000)]), minlength=10)
    assert int(counts.min()) > 400
    assert int(counts.max()) < 600
    assert sorted(permutation(50, 1, "order", 0)) == list(range(50))
    assert permutation(50, 1, "order", 0) != permutation(50, 1, "order", 1)
    assert 0 <= uniform(1, "flip") < 1


def test_inside_seeded_a_library_draws_the_same_and_outside_nothing_has_happened() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    drawn = []
    for _ in range(2):
        with seeded(7):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(drawn[0], torch.rand(3, generator=torch.Generator().manual_seed(7)))
