from __future__ import annotations

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from dreambooth.diffusion.ddim import ddim_sigma, ddim_step, predicted_x_0
from dreambooth.diffusion.randomness import normal
from dreambooth.diffusion.schedule import add_noise, ddpm_buffers, scaled_linear_schedule
from dreambooth.diffusion.timesteps import denoising_pairs

SCHEDULE = scaled_linear_schedule()
SHAPE = (2, 4, 8, 8)


def diffusers_ddim(steps: int) -> DDIMScheduler:
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("steps", [10, 50, 100, 500])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_steps_agree_with_diffusers_where_the_number_divides_1000(steps: int, eta: float) -> None:
    scheduler = diffusers_ddim(steps)
    pairs = denoising_pairs(steps, 1000)
    assert scheduler.timesteps.tolist() == [t for t, _ in pairs]
    for index in (0, 1, steps // 2, steps - 1):
        t, previous = pairs[index]
        x_t, eps, noise = (normal(SHAPE, 3, name, index) for name in ("x", "eps", "noise"))
        expected = scheduler.step(eps, t, x_t, eta=eta, variance_noise=noise if eta > 0 else None)
        alpha_bar_t, alpha_bar_prev = float(SCHEDULE.alpha_bar_T[t]), float(SCHEDULE.alpha_bar_T[previous])
        sigma = ddim_sigma(alpha_bar_t, alpha_bar_prev, eta)
        x_prev, x_0 = ddim_step(x_t, eps, alpha_bar_t=alpha_bar_t, alpha_bar_prev=alpha_bar_prev, sigma=sigma, noise=noise)
        # diffusers keeps alpha_bar in float32: 1 - alpha_bar has few digits left near the end of the way.
        torch.testing.assert_close(x_prev, expected.prev_sample, rtol=2e-4, atol=2e-4)
        torch.testing.assert_close(x_0, expected.pred_original_sample, rtol=2e-4, atol=2e-4)


def test_the_true_noise_leads_to_the_true_picture_from_anywhere() -> None:
    x_0, eps = normal(SHAPE, 0, "x_0"), normal(SHAPE, 0, "eps")
    for t, previous in ((999, 500), (500, 1), (1, 0)):
        x_t = add_noise(SCHEDULE, x_0, eps, torch.tensor([t, t]))
        alpha_bar_t, alpha_bar_prev = float(SCHEDULE.alpha_bar_T[t]), float(SCHEDULE.alpha_bar_T[previous])
        torch.testing.assert_close(predicted_x_0(x_t, eps, alpha_bar_t), x_0, rtol=1e-4, atol=1e-4)
        x_prev, _ = ddim_step(x_t, eps, alpha_bar_t=alpha_bar_t, alpha_bar_prev=alpha_bar_prev)
        torch.testing.assert_close(
            x_prev, add_noise(SCHEDULE, x_0, eps, torch.tensor([previous, previous])), rtol=1e-4, atol=1e-4
        )


def test_eta_one_between_neighbours_is_the_variance_of_an_ancestral_step() -> None:
    variance = ddpm_buffers(SCHEDULE)["posterior_variance"]
    for t in (1, 2, 500, 999):
        sigma = ddim_sigma(float(SCHEDULE.alpha_bar_T[t]), float(SCHEDULE.alpha_bar_T[t - 1]), 1.0)
        assert sigma**2 == pytest.approx(float(variance[t]), rel=1e-5)
    assert ddim_sigma(0.5, 0.9, 0.0) == 0.0


def test_inputs_are_not_changed() -> None:
    x_t, eps = normal(SHAPE, 1, "x"), normal(SHAPE, 1, "eps")
    before = x_t.clone(), eps.clone()
    ddim_step(x_t, eps, alpha_bar_t=0.1, alpha_bar_prev=0.2, sigma=0.1, noise=normal(SHAPE, 1, "z"))
    assert torch.equal(x_t, before[0])
    assert torch.equal(eps, before[1])
