"""The five samplers behind one protocol: how x moves from one noise level to the next.

A solver holds the state of one batch (multistep methods remember earlier predictions), so each batch gets a new solver.
Shapes: B images, C latent channels, H and W latent sizes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor

from dreambooth.diffusion.ddim import ddim_move, ddim_sigma, ddim_step
from dreambooth.diffusion.plms import MAX_OLDER, multistep_eps
from dreambooth.diffusion.prediction import Prediction, image_and_noise
from dreambooth.diffusion.schedule import NoiseSchedule
from dreambooth.diffusion.timesteps import denoising_pairs
from dreambooth.sampling.diffusers_solver import DiffusersSolver
from dreambooth.sampling.settings import Sampler

__all__ = ["DdimSolver", "EulerSolver", "PlmsSolver", "Predict", "Solver", "make_solver"]

Predict = Callable[[Tensor, float], Tensor]
"""Maps x_t (B, C, H, W), in the scale of training, and a timestep to the denoiser's prediction, float32."""


_LEAST_SIGNAL = 2**-24
"""alpha_bar of a timestep without signal, so that its noise level is finite; other programs have similar numbers."""


class Solver(Protocol):
    """Moves from noise to an image in `num_steps` steps."""

    num_steps: int

    def start(self, eps_BCHW: Tensor) -> Tensor:
        """The initial x for standard normal noise."""
        ...

    def step(self, index: int, x_BCHW: Tensor, predict: Predict, generators: Sequence[Generator]) -> tuple[Tensor, Tensor]:
        """The next x and the x_0 predicted in this step.

        `generators`, one per image, draw this step's fresh noise if the method uses any.
        """
        ...


class DdimSolver:
    """DDIM; one prediction per step."""

    def __init__(self, schedule: NoiseSchedule, steps: int, *, prediction: Prediction = "epsilon", eta: float = 0.0) -> None:
        self.num_steps = steps
        self._pairs = denoising_pairs(steps, schedule.num_timesteps, is_trailing=schedule.has_zero_terminal_snr)
        self._alpha_bar: list[float] = schedule.alpha_bar_T.tolist()
        self._prediction = prediction
        self._eta = eta

    def start(self, eps_BCHW: Tensor) -> Tensor:
        """Standard normal noise, unchanged."""
        return eps_BCHW

    def step(self, index: int, x_BCHW: Tensor, predict: Predict, generators: Sequence[Generator]) -> tuple[Tensor, Tensor]:
        """Predict once and advance one step."""
        t, previous = self._pairs[index]
        alpha_bar_t, alpha_bar_prev = self._alpha_bar[t], self._alpha_bar[previous]
        sigma = ddim_sigma(alpha_bar_t, alpha_bar_prev, self._eta)
        noise = _draw(x_BCHW, generators) if sigma > 0 else None
        x_0, eps = image_and_noise(self._prediction, predict(x_BCHW, t), x_BCHW, alpha_bar_t)
        return ddim_move(x_0, eps, alpha_bar_prev=alpha_bar_prev, sigma=sigma, noise=noise), x_0


class PlmsSolver:
    """PLMS; one prediction per step, plus one in the first step, which averages both ends (pseudo improved Euler).

    A step from a timestep without signal is one of DDIM, and the method begins after it: there, the noise is x_t itself and
    shows no direction.
    """

    def __init__(self, schedule: NoiseSchedule, steps: int, *, prediction: Prediction = "epsilon") -> None:
        self.num_steps = steps
        self._pairs = denoising_pairs(steps, schedule.num_timesteps, is_trailing=schedule.has_zero_terminal_snr)
        self._alpha_bar: list[float] = schedule.alpha_bar_T.tolist()
        self._prediction = prediction
        self._older: deque[Tensor] = deque(maxlen=MAX_OLDER)

    def start(self, eps_BCHW: Tensor) -> Tensor:
        """Standard normal noise, unchanged."""
        return eps_BCHW

    def step(self, index: int, x_BCHW: Tensor, predict: Predict, generators: Sequence[Generator]) -> tuple[Tensor, Tensor]:
        """Predict, combine with earlier predictions and advance one step; no fresh noise."""
        t, previous = self._pairs[index]
        alpha_bar_t, alpha_bar_prev = self._alpha_bar[t], self._alpha_bar[previous]
        x_0, eps = image_and_noise(self._prediction, predict(x_BCHW, t), x_BCHW, alpha_bar_t)
        if self._older:
            combined = multistep_eps(eps, self._older)
        else:
            guess = ddim_move(x_0, eps, alpha_bar_prev=alpha_bar_prev)
            if alpha_bar_t == 0:
                return guess, x_0
            _, eps_there = image_and_noise(self._prediction, predict(guess, previous), guess, alpha_bar_prev)
            combined = (eps + eps_there) / 2
        self._older.appendleft(eps)
        return ddim_step(x_BCHW, combined, alpha_bar_t=alpha_bar_t, alpha_bar_prev=alpha_bar_prev)


class EulerSolver:
    """Euler's method as in the original program of Stable Diffusion XL (Karras et al., arXiv 2206.00364, algorithm 1).

    It begins at the last timestep and ends without noise. x is the image plus sigma times the noise; sigma is the ratio of the
    noise's to the signal's standard deviation.
    """

    def __init__(self, schedule: NoiseSchedule, steps: int, *, prediction: Prediction = "epsilon") -> None:
        self.num_steps = steps
        last = schedule.num_timesteps - 1
        self._timesteps = [last - -(-last * index // steps) for index in range(steps)]  # floor(last (1 - index / steps))
        alpha_bar: list[float] = schedule.alpha_bar_T.tolist()
        self._alpha_bar = [max(alpha_bar[t], _LEAST_SIGNAL) for t in self._timesteps]
        self._sigmas: list[float] = [*(((1 - a) / a) ** 0.5 for a in self._alpha_bar), 0.0]
        self._prediction = prediction

    def start(self, eps_BCHW: Tensor) -> Tensor:
        """Noise of the variance that an image of unit variance has at the first noise level."""
        scaled: Tensor = eps_BCHW * (1 + self._sigmas[0] ** 2) ** 0.5
        return scaled

    def step(self, index: int, x_BCHW: Tensor, predict: Predict, generators: Sequence[Generator]) -> tuple[Tensor, Tensor]:
        """Predict once and advance one step; no fresh noise."""
        sigma, following = self._sigmas[index : index + 2]
        x_t = x_BCHW / (1 + sigma**2) ** 0.5
        x_0, eps = image_and_noise(self._prediction, predict(x_t, self._timesteps[index]), x_t, self._alpha_bar[index])
        return x_BCHW + (following - sigma) * eps, x_0


def _draw(like_BCHW: Tensor, generators: Sequence[Generator]) -> Tensor:
    """Standard normal noise drawn on the CPU, with one generator per image, moved to the batch's device."""
    return torch.stack([torch.randn(like_BCHW.shape[1:], generator=generator) for generator in generators]).to(like_BCHW.device)


def make_solver(
    sampler: Sampler,
    schedule: NoiseSchedule,
    steps: int,
    *,
    prediction: Prediction = "epsilon",
    eta: float = 0.0,
    begins_last: bool = False,
) -> Solver:
    """A new solver for one batch, to be given predictions of this type. `eta` applies only to DDIM.

    With `begins_last`, the samplers that later programs brought begin at the last timestep; DDIM and PLMS stay as they are.
    """
    assert eta == 0 or sampler == "ddim"
    assert prediction == "velocity" or not schedule.has_zero_terminal_snr
    if sampler == "ddim":
        return DdimSolver(schedule, steps, prediction=prediction, eta=eta)
    if sampler == "plms":
        return PlmsSolver(schedule, steps, prediction=prediction)
    if sampler == "euler" and begins_last:
        return EulerSolver(schedule, steps, prediction=prediction)
    return DiffusersSolver(sampler, schedule, steps, prediction=prediction, begins_last=begins_last)
