from __future__ import annotations

import pytest
import torch

from dreambooth.diffusion.latents import LatentMoments


def test_a_sample_is_mean_and_deviation_times_noise() -> None:
    moments = LatentMoments(torch.full((4, 2, 2), 3.0), torch.full((4, 2, 2), 0.5))
    eps = torch.arange(16.0).reshape(4, 2, 2)
    assert torch.equal(moments.sample(eps), 3 + 0.5 * eps)
    assert torch.equal(moments.sample(torch.zeros(4, 2, 2)), moments.mean)


def test_mean_and_deviation_have_one_shape() -> None:
    with pytest.raises(AssertionError):
        LatentMoments(torch.zeros(4, 2, 2), torch.zeros(4, 2))
