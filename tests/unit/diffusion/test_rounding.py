"""Rounding to bfloat16 by chance: exact in the mean, counted, and blind to how a tensor is cut."""

from __future__ import annotations

import pytest
import torch

from dreambooth.diffusion.rounding import round_to_bfloat16, rounding_key


def key(*parts: str | int) -> torch.Tensor:
    return torch.tensor(rounding_key(7, *parts), dtype=torch.int32)


def test_every_number_goes_to_one_of_its_two_neighbours() -> None:
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 3
    rounded = round_to_bfloat16(x, key("a")).float()
    spacing = torch.exp2(torch.floor(torch.log2(x.abs()))) * 2.0**-7
    assert ((rounded - x).abs() < spacing).all()
    assert ((rounded - x) < 0).any()
    assert ((rounded - x) > 0).any()


@pytest.mark.parametrize("value", [1.001, -0.1003, 3e-5])
def test_the_mean_is_the_number_itself(value: float) -> None:
    x = torch.full((200_000,), value)
    rounded = round_to_bfloat16(x, key("mean", 1)).double()
    low, high = sorted(set(rounded.tolist()))
    deviation = (high - low) / 2 / 200_000**0.5  # at most, of the mean of as many coins
    assert float(rounded.mean()) == pytest.approx(float(x[0]), abs=5 * deviation)


def test_what_bfloat16_has_stays_as_it_is() -> None:
    x = torch.tensor([0.0, -0.0, 1.0, -2.5, 2.0**-120, float("inf"), float("-inf")])
    assert torch.equal(round_to_bfloat16(x, key("exact")).float(), x)
    assert round_to_bfloat16(torch.tensor([float("nan")]), key("exact")).isnan().all()


def test_the_bits_depend_on_the_key_and_the_place_alone() -> None:
    x = torch.full((1000,), 1.001)
    whole = round_to_bfloat16(x, key("step", 3))
    parts = [round_to_bfloat16(x[start : start + 300], key("step", 3), start=start) for start in range(0, 1000, 300)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(round_to_bfloat16(x, key("step", 4)), whole)
    assert rounding_key(1, "a", 1) != rounding_key(1, "a1")


def test_neighbours_and_steps_are_not_alike() -> None:
    """Rounding up 0.25 of the time: neighbouring places and neighbouring steps must agree as often as strangers do."""
    x = torch.full((100_000,), 1.0 + 2.0**-9)
    ups = [round_to_bfloat16(x, key("step", step)).float() > 1 for step in (1, 2)]
    both = 0.25**2
    assert float((ups[0] & ups[1]).float().mean()) == pytest.approx(both, abs=0.005)
    assert float((ups[0][1:] & ups[0][:-1]).float().mean()) == pytest.approx(both, abs=0.005)
    assert float(ups[0].float().mean()) == pytest.approx(0.25, abs=0.01)


def test_a_thousand_small_updates_arrive_that_the_nearest_would_lose() -> None:
    chance = nearest = torch.full((4096,), 0.1, dtype=torch.bfloat16)
    start = float(chance[0])
    for step in range(1000):
        chance = round_to_bfloat16(chance.float() - 1e-6, key("update", step))
        nearest = (nearest.float() - 1e-6).to(torch.bfloat16)
    assert float(nearest.float().mean()) == start
    assert float(chance.float().mean()) == pytest.approx(start - 1e-3, rel=2e-3)
