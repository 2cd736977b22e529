"""Targets and the noise behind an output, against formulas written out by hand and diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from dreambooth.diffusion.prediction import predicted_noise, training_target
from dreambooth.diffusion.schedule import add_noise, scaled_linear_schedule

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
def test_the_noise_behind_a_true_prediction_is_the_noise(t: int) -> None:
    x_0, eps = pair()
    t_B = torch.tensor([t, t])
    x_t = add_noise(SCHEDULE, x_0, eps, t_B)
    assert predicted_noise("epsilon", SCHEDULE, eps, x_t, t) is eps
    v = training_target("velocity", SCHEDULE, x_0, eps, t_B)
    torch.testing.assert_close(predicted_noise("velocity", SCHEDULE, v, x_t, t), eps, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_between_timesteps_the_noise_level_is_that_of_the_euler_samplers() -> None:
    scheduler = EulerDiscreteScheduler(trained_betas=SCHEDULE.beta_T.tolist(), timestep_spacing="linspace")
    scheduler.set_timesteps(7)
    fractional = [(float(t), float(sigma)) for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False)]
    assert any(t != round(t) for t, _ in fractional)
    for t, sigma in fractional:
        assert SCHEDULE.alpha_bar_at(t) == pytest.approx(1 / (1 + sigma**2), rel=1e-4)
