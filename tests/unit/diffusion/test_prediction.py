"""Targets, and the image and the noise behind an output, against formulas written out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from dreambooth.diffusion.prediction import image_and_noise, training_target
from dreambooth.diffusion.schedule import add_noise, scaled_linear_schedule, with_zero_terminal_snr

SCHEDULE = scaled_linear_schedule()


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 4, 3, 5, generator=generator), torch.randn(2, 4, 3, 5, generator=generator)


def test_the_target_is_the_noise_or_the_velocity() -> None:
    x_0, eps = pair()
    t_B = torch.tensor([17, 900])
    assert training_target("epsilon", SCHEDULE, x_0, eps, t_B) is eps
    target = training_target("velocity", SCHEDULE, x_0, eps, t_B)
    for row, t in enumerate(t_B.tolist()):
        betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
        alpha_bar = float(torch.prod(1 - betas[: t + 1]))
        expected = math.sqrt(alpha_bar) * eps[row] - math.sqrt(1 - alpha_bar) * x_0[row]
        torch.testing.assert_close(target[row], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("t", [0, 321, 999])
def test_a_true_prediction_shows_the_image_and_the_noise(t: int) -> None:
    x_0, eps = pair()
    t_B = torch.tensor([t, t])
    x_t, alpha_bar = add_noise(SCHEDULE, x_0, eps, t_B), float(SCHEDULE.alpha_bar_T[t])
    image, noise = image_and_noise("epsilon", eps, x_t, alpha_bar)
    assert noise is eps
    torch.testing.assert_close(image, x_0, rtol=1e-4, atol=1e-4)
    image, noise = image_and_noise("velocity", training_target("velocity", SCHEDULE, x_0, eps, t_B), x_t, alpha_bar)
    torch.testing.assert_close(image, x_0, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(noise, eps, rtol=1e-4, atol=1e-5)


def test_where_no_signal_remains_only_the_velocity_shows_the_image() -> None:
    x_0, eps = pair()
    schedule, t_B = with_zero_terminal_snr(SCHEDULE), torch.tensor([999, 999])
    x_t = add_noise(schedule, x_0, eps, t_B)
    assert torch.equal(x_t, eps)
    image, noise = image_and_noise("velocity", training_target("velocity", schedule, x_0, eps, t_B), x_t, 0.0)
    assert torch.equal(image, x_0)
    assert torch.equal(noise, eps)
    with pytest.raises(AssertionError, match="no signal"):
        image_and_noise("epsilon", eps, x_t, 0.0)
