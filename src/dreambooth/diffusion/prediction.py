"""Prediction types: the training target of a denoiser, and the noise that follows from its output.

Two predictions are in use: the noise eps itself (Ho et al., arXiv 2006.11239), and the velocity
v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans and Ho, arXiv 2202.00512, section 4, where the roots are called
alpha and sigma). Samplers work only with eps; `predicted_noise` converts the denoiser's output for them.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dreambooth.diffusion.schedule import NoiseSchedule, velocity

__all__ = ["Prediction", "predicted_noise", "training_target"]

Prediction = Literal["epsilon", "velocity"]


def training_target(prediction: Prediction, schedule: NoiseSchedule, x_0: Tensor, eps: Tensor, t_B: Tensor) -> Tensor:
    """The training target for the denoiser's output at x_t, of the same shape as `x_0` and `eps`, (B, ...)."""
    return eps if prediction == "epsilon" else velocity(schedule, x_0, eps, t_B)


def predicted_noise(prediction: Prediction, schedule: NoiseSchedule, output: Tensor, x_t: Tensor, t: float) -> Tensor:
    """The noise in `x_t` from a denoiser's `output`; for velocity, eps = sqrt(alpha_bar_t) v + sqrt(1 - alpha_bar_t) x_t.

    A single `t`, which may lie between two timesteps, applies to the whole batch.
    """
    if prediction == "epsilon":
        return output
    alpha_bar = schedule.alpha_bar_at(t)
    eps: Tensor = alpha_bar**0.5 * output + (1 - alpha_bar) ** 0.5 * x_t
    return eps
