"""The loop: one update a result, the same update however it is cut, and nothing moved by a number that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from dreambooth.diffusion.schedule import add_noise, scaled_linear_schedule, signal_to_noise, with_zero_terminal_snr
from dreambooth.training.batches import Batch
from dreambooth.training.loop import NotFiniteError, training_steps

MakeTiny = Callable[..., Any]


def weights(tiny: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in tiny.trainee.parameters.items()}


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], **tolerance: float) -> None:
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], msg=name, **tolerance)


def test_the_loss_is_the_sum_of_two_means_and_both_are_reported(tiny: MakeTiny) -> None:
    run = tiny()
    [batch] = run.batches_at(1)
    with torch.no_grad():
        x_t = add_noise(run.state.denoiser.components.family.schedule, batch.x_0, batch.eps, batch.t_B)
        errors = (run.state.denoiser(x_t, batch.t_B, batch.text) - batch.eps).square().mean(dim=(1, 2, 3))
    result = next(training_steps(run.state, run.batches_at, last_step=10))
    assert result.instance_loss == pytest.approx(float(errors[:4].mean()), rel=1e-5)
    assert result.prior_loss == pytest.approx(float(errors[4:].mean()), rel=1e-5)
    assert result.loss == pytest.approx(float(errors[:4].mean() + 0.7 * errors[4:].mean()), rel=1e-5)
    assert (result.step, run.state.step, result.num_images) == (1, 1, 8)
    assert result.learning_rates == {"unet": pytest.approx(0.01 / 3), "text_encoder": pytest.approx(0.01 / 3)}


def test_min_snr_weighs_photos_and_class_images_each_by_its_own_timestep(tiny: MakeTiny) -> None:
    run = tiny()
    [batch] = run.batches_at(1)
    schedule = run.state.denoiser.components.family.schedule
    with torch.no_grad():
        x_t = add_noise(schedule, batch.x_0, batch.eps, batch.t_B)
        errors = (run.state.denoiser(x_t, batch.t_B, batch.text) - batch.eps).square().mean(dim=(1, 2, 3))
        snr = signal_to_noise(schedule, batch.t_B)
        weighted = errors * snr.clamp(max=5.0) / snr
    result = next(training_steps(run.state, run.batches_at, last_step=10, min_snr_gamma=5.0))
    assert result.instance_loss == pytest.approx(float(weighted[:4].mean()), rel=1e-5)
    assert result.prior_loss == pytest.approx(float(weighted[4:].mean()), rel=1e-5)


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_a_family_that_predicts_velocity_is_trained_on_it(tiny_velocity: MakeTiny, gamma: float | None) -> None:
    run = tiny_velocity()
    [batch] = run.batches_at(1)
    alpha_bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0)
    alpha_bar_B = alpha_bar[batch.t_B].float().reshape(-1, 1, 1, 1)
    alpha, sigma = alpha_bar_B.sqrt(), (1 - alpha_bar_B).sqrt()
    with torch.no_grad():
        output = run.state.denoiser(alpha * batch.x_0 + sigma * batch.eps, batch.t_B, batch.text)
        errors = (output - (alpha * batch.eps - sigma * batch.x_0)).square().mean(dim=(1, 2, 3))
        if gamma is not None:
            snr_B = (alpha_bar_B / (1 - alpha_bar_B)).flatten()
            errors = errors * snr_B.clamp(max=gamma) / (snr_B + 1)
    result = next(training_steps(run.state, run.batches_at, last_step=10, min_snr_gamma=gamma))
    assert result.instance_loss == pytest.approx(float(errors[:4].mean()), rel=1e-4)
    assert result.prior_loss == pytest.approx(float(errors[4:].mean()), rel=1e-4)


@pytest.mark.parametrize(("gamma", "weight"), [(None, 1.0), (5.0, 0.0)])
def test_at_a_last_timestep_without_signal_the_velocity_is_the_image_alone(
    tiny_velocity: MakeTiny, monkeypatch: pytest.MonkeyPatch, gamma: float | None, weight: float
) -> None:
    """The UNet sees noise and must answer with the image, negated; min-SNR counts that as nothing, and stays finite."""
    run = tiny_velocity()
    monkeypatch.setattr(type(run.family), "schedule", with_zero_terminal_snr(scaled_linear_schedule()))

    def last(step: int) -> Iterator[Batch]:
        for batch in run.batches_at(step):
            yield replace(batch, t_B=torch.full_like(batch.t_B, 999))

    [batch] = last(1)
    with torch.no_grad():
        errors = (run.state.denoiser(batch.eps, batch.t_B, batch.text) + batch.x_0).square().mean(dim=(1, 2, 3))
    result = next(training_steps(run.state, last, last_step=10, min_snr_gamma=gamma))
    assert result.instance_loss == pytest.approx(weight * float(errors[:4].mean()), rel=1e-5)
    assert result.prior_loss == pytest.approx(weight * float(errors[4:].mean()), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_micro_batches_make_the_same_update(tiny: MakeTiny, batch_size: int) -> None:
    whole, cut = tiny(), tiny(batch_size=batch_size)
    for one, other in zip(
        training_steps(whole.state, whole.batches_at, last_step=5),
        training_steps(cut.state, cut.batches_at, last_step=5),
        strict=True,
    ):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
    assert_close(weights(whole), weights(cut), rtol=1e-5, atol=1e-6)


def test_prior_weight_zero_equals_no_class_images(tiny: MakeTiny) -> None:
    without, zero = tiny(num_priors=0), tiny(prior_weight=0.0)
    results = list(training_steps(without.state, without.batches_at, last_step=3))
    assert [result.prior_loss for result in results] == [None] * 3
    list(training_steps(zero.state, zero.batches_at, last_step=3))
    without_text = {name: value for name, value in weights(without).items() if name.startswith("unet.")}
    assert_close(without_text, weights(zero), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_number_that_is_not_finite_stops_before_the_weights_move(tiny: MakeTiny, where: str) -> None:
    run = tiny()
    list(training_steps(run.state, run.batches_at, last_step=2))
    before = weights(run)
    if where == "gradient":
        run.trainee.parameters["unet.weight"].register_hook(lambda gradient: gradient * float("inf"))

    def broken(step: int) -> Iterator[Batch]:
        for batch in run.batches_at(step):
            yield replace(batch, eps=batch.eps * float("nan")) if where == "loss" else batch

    expected = (
        r"step 3: the (loss is nan|gradient's norm is (nan|inf)) \(timesteps \d+.*; images instance-0.jpg, .*prior-3.jpg\)"
    )
    results = list(training_steps(run.state, broken, last_step=5))
    with pytest.raises(NotFiniteError, match=expected) as caught:
        results[0].check()
    assert "the weights were not changed" in str(caught.value)
    assert caught.value.step == 3
    for name, value in before.items():
        assert torch.equal(value, run.trainee.parameters[name])


def test_each_step_moves_the_average_and_counts_for_the_loss_scale(tiny: MakeTiny) -> None:
    run = tiny(precision="fp16-mixed")
    before = {name: value.clone() for name, value in run.state.average.state().items()}
    list(training_steps(run.state, run.batches_at, last_step=3))
    after = run.state.average.state()
    assert int(after["num_updates"]) == 3
    assert not torch.equal(after["unet.weight"], before["unet.weight"])
    assert not torch.equal(after["unet.weight"], run.trainee.parameters["unet.weight"])
    assert run.state.loss_scale.state()["good_steps"] == 3


def test_bfloat16_trains_close_to_float32(tiny: MakeTiny) -> None:
    full, mixed = tiny(), tiny(precision="bf16-mixed")
    one = [result.loss for result in training_steps(full.state, full.batches_at, last_step=5)]
    other = [result.loss for result in training_steps(mixed.state, mixed.batches_at, last_step=5)]
    assert other == pytest.approx(one, rel=2e-2)
    assert all(parameter.dtype == torch.float32 for parameter in mixed.trainee.parameters.values())


def test_float16_tries_an_overflowing_step_again_with_a_smaller_scale(tiny: MakeTiny) -> None:
    full, mixed = tiny(), tiny(precision="fp16-mixed")
    mixed.state.loss_scale.value = 2.0**40  # overflows float16 at once
    one = [result.loss for result in training_steps(full.state, full.batches_at, last_step=3)]
    other = [result.loss for result in training_steps(mixed.state, mixed.batches_at, last_step=3)]
    assert mixed.state.step == 3
    assert mixed.state.loss_scale.value < 2.0**40
    assert other == pytest.approx(one, rel=1e-2)
    assert_close(weights(full), weights(mixed), rtol=0.05, atol=2e-3)
