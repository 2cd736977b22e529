"""Matrices of low rank from a difference and from each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.low_rank import LowRank
from dreambooth.diffusion.low_rank_svd import concatenated, nearest_of_rank, resized


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def _of_rank(rank: int, *shape: int) -> Tensor:
    left, right = _drawn(shape[0], rank), _drawn(rank, *shape[1:])
    return (left @ right.flatten(1)).reshape(shape)


@pytest.mark.parametrize("shape", [(24, 20), (20, 24), (12, 6, 3, 3), (12, 20, 1, 1)])
def test_a_difference_of_low_rank_is_found_exactly(shape: tuple[int, ...]) -> None:
    difference = _of_rank(3, *shape)
    found = nearest_of_rank(difference, 3)
    assert (found.pair.rank, found.pair.alpha) == (3, 3.0)
    torch.testing.assert_close(found.pair.of_shape(difference.shape), difference, rtol=1e-4, atol=1e-4)
    assert found.kept == pytest.approx(found.energy, rel=1e-5)
    assert found.energy == pytest.approx(float(difference.square().sum()), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_it_is_the_nearest_product_of_its_rank_also_where_few_singular_values_are_sought(rank: int) -> None:
    values = 2.0 ** -torch.arange(100)
    left, right = (torch.linalg.qr(_drawn(120, 100, seed=seed))[0] for seed in (0, 1))
    difference = left * values @ right.mT
    found = nearest_of_rank(difference, rank)
    best = float(values[rank:].square().sum())
    assert float((difference - found.pair.of_shape(difference.shape)).square().sum()) == pytest.approx(best, rel=1e-3)
    assert found.kept == pytest.approx(float(values[:rank].square().sum()), rel=1e-4)
    state = torch.random.get_rng_state()
    assert torch.equal(nearest_of_rank(difference, rank).pair.down, found.pair.down)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.75, 1), (0.76, 2), (0.9374, 2), (0.94, 3), (1.0, 8)])
def test_the_smallest_rank_that_keeps_a_share_of_the_energy(energy: float, rank: int) -> None:
    values = 2.0 ** -torch.arange(8)  # three quarters of the energy in the first, and again of the rest
    left, right = (torch.linalg.qr(_drawn(10, 8, seed=seed))[0] for seed in (0, 1))
    found = nearest_of_rank(left * values @ right.mT, None, energy=energy)
    assert found.pair.rank == rank


def test_a_rank_beyond_the_layer_is_that_of_the_layer() -> None:
    assert nearest_of_rank(_drawn(4, 6), 32).pair.rank == 4


def test_both_matrices_have_the_same_size() -> None:
    pair = nearest_of_rank(1e-6 * _drawn(24, 20), 4).pair
    assert float(pair.up.norm()) == pytest.approx(float(pair.down.norm()), rel=1e-4)


@pytest.mark.parametrize(("down", "up"), [((8, 20), (24, 8)), ((8, 6, 3, 3), (12, 8, 1, 1)), ((8, 20), (6, 8))])
def test_a_resized_pair_is_the_nearest_to_its_product(down: tuple[int, ...], up: tuple[int, ...]) -> None:
    pair = LowRank(_drawn(*down), _drawn(*up), alpha=4.0)
    shape = torch.Size([up[0], *down[1:]])
    expected, found = nearest_of_rank(pair.of_shape(shape), 2), resized(pair, 2)
    torch.testing.assert_close(found.pair.of_shape(shape), expected.pair.of_shape(shape), rtol=1e-3, atol=1e-4)
    assert (found.kept, found.energy) == pytest.approx((expected.kept, expected.energy), rel=1e-4)
    whole = resized(pair, 8).pair
    torch.testing.assert_close(whole.of_shape(shape), pair.of_shape(shape), rtol=1e-4, atol=1e-4)


def test_concatenated_pairs_are_their_weighted_sum_and_not_their_mean() -> None:
    first, second = (LowRank(_drawn(rank, 20), _drawn(24, rank), alpha=3.0) for rank in (2, 5))
    found, shape = concatenated([(first, 0.5), (second, -1.5)]), torch.Size([24, 20])
    assert (found.rank, found.alpha) == (7, 7.0)
    torch.testing.assert_close(found.of_shape(shape), 0.5 * first.of_shape(shape) - 1.5 * second.of_shape(shape))


def test_pairs_of_other_layers_do_not_add_up() -> None:
    pairs = [(LowRank(_drawn(2, width), _drawn(24, 2), alpha=2.0), 1.0) for width in (20, 30)]
    with pytest.raises(ValueError, match="do not add up"):
        concatenated(pairs)
