"""Loss terms against formulas written out by hand."""

from __future__ import annotations

import torch

from dreambooth.diffusion.guidance import guide
from dreambooth.diffusion.objective import example_coefficients, min_snr_weights, squared_error
from dreambooth.diffusion.schedule import scaled_linear_schedule, signal_to_noise, with_zero_terminal_snr


def test_squared_error_is_the_mean_over_each_example() -> None:
    prediction, target = torch.zeros(2, 3, 2, 2), torch.stack([torch.full((3, 2, 2), 2.0), torch.full((3, 2, 2), -3.0)])
    assert squared_error(prediction, target).tolist() == [4.0, 9.0]
    assert squared_error(prediction.bfloat16(), target).dtype == torch.float32


def test_coefficients_make_the_sum_of_two_means() -> None:
    losses = torch.tensor([1.0, 3.0, 10.0, 30.0])
    is_prior = torch.tensor([False, False, True, True])
    coefficients = example_coefficients(is_prior, num_instances=2, num_priors=2, prior_weight=0.5)
    assert float((losses * coefficients).sum()) == 2.0 + 0.5 * 20.0


def test_coefficients_without_class_images() -> None:
    coefficients = example_coefficients(torch.tensor([False, False]), num_instances=4, num_priors=0, prior_weight=1.0)
    assert coefficients.tolist() == [0.25, 0.25]


def test_min_snr_weights_each_example_by_its_own_timestep() -> None:
    schedule = scaled_linear_schedule()
    t_B = torch.tensor([0, 300, 999])
    snr = signal_to_noise(schedule, t_B)
    expected = [min(float(value), 5.0) / float(value) for value in snr]
    torch.testing.assert_close(min_snr_weights(schedule, t_B, 5.0, "epsilon"), torch.tensor(expected))
    alone = torch.cat([min_snr_weights(schedule, t, 5.0, "epsilon") for t in t_B.split(1)])
    assert torch.equal(alone, min_snr_weights(schedule, t_B, 5.0, "epsilon"))
    expected = [min(float(value), 5.0) / (float(value) + 1) for value in snr]
    torch.testing.assert_close(min_snr_weights(schedule, t_B, 5.0, "velocity"), torch.tensor(expected))


def test_min_snr_of_the_velocity_is_finite_where_no_signal_remains() -> None:
    """The same weight on the error of the image (section 3.4): min(SNR, gamma), which is 0 there."""
    schedule = with_zero_terminal_snr(scaled_linear_schedule())
    weights = min_snr_weights(schedule, torch.tensor([0, 500, 999]), 5.0, "velocity")
    snr = float(schedule.alpha_bar_T[500] / (1 - schedule.alpha_bar_T[500]))
    torch.testing.assert_close(weights[1:], torch.tensor([min(snr, 5.0) / (snr + 1), 0.0]))
    assert float(weights[0]) < 0.01


def test_guidance_of_one_is_the_conditional_prediction() -> None:
    unconditional, conditional = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])
    torch.testing.assert_close(guide(unconditional, conditional, 1.0), conditional)
    torch.testing.assert_close(guide(unconditional, conditional, 3.0), torch.tensor([4.0, -4.0]))
