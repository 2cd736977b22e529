"""The samplers on data whose noise is known exactly: pictures drawn from a normal distribution.

For x_0 ~ N(mean, deviation^2) the best prediction of the noise in x_t is a formula, so a sampler must bring standard normal
noise to that distribution, for every number of steps, the closer the more steps it makes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from torch import Tensor

from dreambooth.diffusion.randomness import generator, normal
from dreambooth.diffusion.schedule import scaled_linear_schedule, with_zero_terminal_snr
from dreambooth.sampling.sampler import denoise
from dreambooth.sampling.settings import Sampler
from dreambooth.sampling.solvers import make_solver

SCHEDULE = scaled_linear_schedule()
NO_SIGNAL_LEFT = with_zero_terminal_snr(SCHEDULE)
ALPHA_BAR = SCHEDULE.alpha_bar_T.numpy()
MEAN, DEVIATION = 0.7, 0.3
SAMPLERS = get_args(Sampler)
SPREAD = (1, 2, 3, 9, 30, 50, 75, 101, 333, 999, 1000)


def exact_eps(x_t: Tensor, t: float) -> Tensor:
    alpha_bar = float(np.interp(t, np.arange(1000), ALPHA_BAR))
    variance = alpha_bar * DEVIATION**2 + 1 - alpha_bar
    return (1 - alpha_bar) ** 0.5 * (x_t - alpha_bar**0.5 * MEAN) / variance


def counted(predict: Callable[[Tensor, float], Tensor]) -> tuple[Callable[[Tensor, float], Tensor], list[float]]:
    timesteps: list[float] = []

    def counting(x_t: Tensor, t: float) -> Tensor:
        timesteps.append(t)
        return predict(x_t, t)

    return counting, timesteps


def generators(num_pictures: int) -> Callable[[int], list[torch.Generator]]:
    return lambda index: [generator(5, "step noise", k, index) for k in range(num_pictures)]


def run(sampler: Sampler, steps: int, *, num_pictures: int = 4, eta: float = 0.0) -> tuple[Tensor, list[Tensor], list[float]]:
    predict, timesteps = counted(exact_eps)
    solver = make_solver(sampler, SCHEDULE, steps, eta=eta)
    start = solver.start(normal((num_pictures, 4, 8, 8), 1, "x_T"))
    states = list(denoise(solver, start, predict, generators(num_pictures)))
    assert [state.steps_done for state in states] == list(range(1, steps + 1))
    assert [state.is_final for state in states] == [False] * (steps - 1) + [True]
    return states[-1].x_BCHW, [state.x_0_BCHW for state in states], timesteps


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", SPREAD)
def test_every_number_of_steps_is_made_exactly_and_stays_finite(sampler: Sampler, steps: int) -> None:
    final, x_0s, timesteps = run(sampler, steps, num_pictures=1)
    assert len(timesteps) == (steps + 1 if sampler == "plms" else steps)
    assert all(0 <= t <= 999 for t in timesteps)
    assert torch.isfinite(final).all()
    assert all(torch.isfinite(x_0).all() for x_0 in x_0s)
    if sampler not in ("ddim", "plms"):  # these two start as the original does, a step below the noisiest timestep
        assert timesteps[0] == 999


@pytest.mark.parametrize(
    ("sampler", "eta", "tolerance"),
    [
        ("ddim", 0.0, 0.015),
        ("ddim", 1.0, 0.03),
        ("plms", 0.0, 0.005),
        ("dpm++", 0.0, 0.02),
        ("euler", 0.0, 0.02),
        ("euler-a", 0.0, 0.03),
    ],
)
def test_noise_becomes_the_distribution(sampler: Sampler, eta: float, tolerance: float) -> None:
    start = normal((64, 4, 8, 8), 1, "x_T")  # its own mean and deviation differ from 0 and 1 by about 0.01
    final, x_0s, _ = run(sampler, 150, num_pictures=64, eta=eta)
    has_noise_left = sampler in ("ddim", "plms")  # they end at alpha_bar_0, as the original does
    alpha_bar_0 = float(ALPHA_BAR[0]) if has_noise_left else 1.0
    deviation = (alpha_bar_0 * DEVIATION**2 + 1 - alpha_bar_0) ** 0.5 * float(start.std())
    # A little is missing of the mean: noise has none, while the noisiest timestep still holds 7 % of the picture.
    assert float(final.mean()) == pytest.approx(alpha_bar_0**0.5 * MEAN, abs=0.02)
    assert float(final.std()) == pytest.approx(deviation, abs=tolerance)
    assert float(x_0s[-1].mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(x_0s[0].std()) < 0.05  # from pure noise nothing but the mean can be foreseen


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_more_steps_come_nearer_to_the_distribution(sampler: Sampler) -> None:
    errors = [abs(float(run(sampler, steps, num_pictures=16)[0].std()) - DEVIATION) for steps in (5, 20, 100)]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("steps", [5, 20, 50, 100])
def test_plms_agrees_with_diffusers_where_the_number_divides_1000(steps: int) -> None:
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(steps)

    def predict(x_t: Tensor, t: float) -> Tensor:  # bends, unlike the exact one, so that the order of the method shows
        return torch.tanh(exact_eps(x_t, t) + 0.1 * x_t * x_t.roll(1, 0))

    expected = normal((2, 4, 8, 8), 1, "x_T")
    solver = make_solver("plms", SCHEDULE, steps)
    counting, timesteps = counted(predict)
    *_, final = denoise(solver, expected, counting, generators(2))
    for t in scheduler.timesteps:
        expected = scheduler.step(predict(expected, int(t)), int(t), expected).prev_sample
    assert timesteps == scheduler.timesteps.tolist()
    torch.testing.assert_close(final.x_BCHW, expected, rtol=1e-3, atol=1e-3)  # diffusers keeps alpha_bar in float32


def test_fresh_noise_is_each_pictures_own() -> None:
    for sampler, eta in (("ddim", 1.0), ("euler-a", 0.0)):
        together, _, _ = run(sampler, 7, num_pictures=3, eta=eta)  # type: ignore[arg-type]
        solver = make_solver(sampler, SCHEDULE, 7, eta=eta)  # type: ignore[arg-type]
        start = solver.start(normal((3, 4, 8, 8), 1, "x_T"))[[2, 0]]
        draw = lambda index: [generator(5, "step noise", k, index) for k in (2, 0)]  # noqa: E731
        *_, alone = denoise(solver, start, exact_eps, draw)
        torch.testing.assert_close(alone.x_BCHW, together[[2, 0]], rtol=1e-5, atol=1e-5)


def test_nothing_draws_from_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for sampler in SAMPLERS:
        run(sampler, 4)
    run("ddim", 4, eta=1.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_caller_s_gradient_mode_is_left_alone() -> None:
    solver = make_solver("ddim", SCHEDULE, 4)
    states = denoise(solver, normal((1, 4, 8, 8), 0, "x"), exact_eps, generators(1))
    state = next(states)
    assert torch.is_grad_enabled()
    assert not state.x_BCHW.requires_grad


def exact_v(x_t: Tensor, t: float) -> Tensor:
    assert t == int(t)
    alpha_bar = float(NO_SIGNAL_LEFT.alpha_bar_T[int(t)])
    variance = alpha_bar * DEVIATION**2 + 1 - alpha_bar
    offset = x_t - alpha_bar**0.5 * MEAN
    eps = (1 - alpha_bar) ** 0.5 * offset / variance
    x_0 = MEAN + alpha_bar**0.5 * DEVIATION**2 * offset / variance
    return alpha_bar**0.5 * eps - (1 - alpha_bar) ** 0.5 * x_0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_from_noise_without_any_signal_every_sampler_arrives(sampler: Sampler) -> None:
    for steps in (1, 2, 30, 333, 1000):
        predict, timesteps = counted(exact_v)
        solver = make_solver(sampler, NO_SIGNAL_LEFT, steps, prediction="velocity")
        *_, final = denoise(solver, solver.start(normal((16, 4, 8, 8), 1, "x_T")), predict, generators(16))
        assert timesteps[0] == 999
        assert torch.isfinite(final.x_BCHW).all()
        if steps == 333:  # the noise at the start has no mean, so all of the image's comes from the model
            assert float(final.x_BCHW.mean()) == pytest.approx(MEAN, abs=0.01)
            assert float(final.x_BCHW.std()) == pytest.approx(DEVIATION, abs=0.02)


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddim_without_signal_agrees_with_diffusers(eta: float) -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(20)
    solver = make_solver("ddim", NO_SIGNAL_LEFT, 20, prediction="velocity", eta=eta)
    expected = normal((2, 4, 8, 8), 1, "x_T")
    *_, final = denoise(solver, expected, exact_v, generators(2))
    for index, t in enumerate(scheduler.timesteps):
        noise = torch.stack([torch.randn(4, 8, 8, generator=each) for each in generators(2)(index)]) if eta else None
        expected = scheduler.step(exact_v(expected, int(t)), int(t), expected, eta=eta, variance_noise=noise).prev_sample
    torch.testing.assert_close(final.x_BCHW, expected, rtol=1e-3, atol=1e-3)  # diffusers keeps alpha_bar in float32


def test_noise_cannot_be_predicted_where_no_signal_remains() -> None:
    with pytest.raises(AssertionError):
        make_solver("ddim", NO_SIGNAL_LEFT, 5)
