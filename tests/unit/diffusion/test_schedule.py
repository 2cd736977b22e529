"""The schedule against the published numbers, diffusers, and the original's recorded buffer."""

from __future__ import annotations

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from dreambooth.diffusion.schedule import (
    add_noise,
    ddpm_buffers,
    scaled_linear_schedule,
    signal_to_noise,
    velocity,
    with_zero_terminal_snr,
)

SCHEDULE = scaled_linear_schedule()
ORACLE = DDPMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def test_alpha_bar_has_the_published_values() -> None:
    published = {0: 0.99915, 1: 0.998296, 499: 0.27767, 981: 0.0057755, 999: 0.0046601}
    for t, value in published.items():
        assert float(SCHEDULE.alpha_bar_T[t]) == pytest.approx(value, rel=2e-5)


def test_alpha_bar_equals_diffusers() -> None:
    torch.testing.assert_close(SCHEDULE.alpha_bar_T.float(), ORACLE.alphas_cumprod, rtol=2e-5, atol=0)


def test_alpha_bar_equals_the_recorded_buffer(golden_expected: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(SCHEDULE.alpha_bar_T.float(), golden_expected["alphas_cumprod"], rtol=1e-6, atol=0)


def test_all_twelve_buffers_equal_the_checkpoints(golden_state_dict: dict[str, torch.Tensor]) -> None:
    buffers = ddpm_buffers(SCHEDULE)
    assert set(buffers) == {name for name in golden_state_dict if "." not in name}
    for name, values in buffers.items():
        torch.testing.assert_close(values, golden_state_dict[name], rtol=1e-5, atol=1e-9, msg=name)


def test_add_noise_and_velocity_equal_diffusers() -> None:
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(4, 4, 8, 8, generator=generator), torch.randn(4, 4, 8, 8, generator=generator)
    t_B = torch.tensor([0, 17, 500, 999])
    torch.testing.assert_close(add_noise(SCHEDULE, x_0, eps, t_B), ORACLE.add_noise(x_0, eps, t_B), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(velocity(SCHEDULE, x_0, eps, t_B), ORACLE.get_velocity(x_0, eps, t_B), rtol=1e-4, atol=1e-5)


def test_a_table_goes_to_a_device_once() -> None:
    schedule = scaled_linear_schedule()
    x_0, t_B = torch.ones(2, 3), torch.tensor([10, 500])
    add_noise(schedule, x_0, x_0, t_B)
    table = schedule.table("signal", torch.float32, x_0.device)
    add_noise(schedule, x_0, x_0, t_B)
    assert schedule.table("signal", torch.float32, x_0.device) is table
    assert schedule.table("signal", torch.float64, x_0.device) is not table
    torch.testing.assert_close(table.double(), schedule.alpha_bar_T.sqrt(), rtol=1e-7, atol=0)


def test_signal_to_noise_falls_from_a_thousand_to_nearly_nothing() -> None:
    snr = signal_to_noise(SCHEDULE, torch.arange(1000))
    assert bool((snr.diff() < 0).all())
    assert float(snr[0]) == pytest.approx(0.99915 / 0.00085, rel=1e-4)
    assert float(snr[999]) == pytest.approx(0.0046601 / (1 - 0.0046601), rel=1e-4)


def test_zero_terminal_snr_ends_at_noise_alone_and_keeps_the_beginning() -> None:
    schedule = with_zero_terminal_snr(SCHEDULE)
    assert not SCHEDULE.has_zero_terminal_snr
    assert schedule.has_zero_terminal_snr
    assert float(schedule.alpha_bar_T[0]) == pytest.approx(float(SCHEDULE.alpha_bar_T[0]), rel=1e-12)
    oracle = torch.cumprod(1 - rescale_zero_terminal_snr(SCHEDULE.beta_T.float()), dim=0)
    torch.testing.assert_close(schedule.alpha_bar_T.float(), oracle, rtol=1e-3, atol=1e-7)  # diffusers computes in float32
    torch.testing.assert_close(with_zero_terminal_snr(schedule).alpha_bar_T, schedule.alpha_bar_T, rtol=1e-9, atol=1e-15)
