"""Prediction types: the training target of a denoiser, and the image and the noise that follow from its output.

Two predictions are in use: the noise eps itself (Ho et al., arXiv 2006.11239), and the velocity
v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans and Ho, arXiv 2202.00512, section 4, where the roots are called
alpha and sigma).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from dreambooth.diffusion.ddim import predicted_x_0
from dreambooth.diffusion.schedule import NoiseSchedule, velocity

__all__ = ["Prediction", "image_and_noise", "training_target"]

Prediction = Literal["epsilon", "velocity"]


def training_target(prediction: Prediction, schedule: NoiseSchedule, x_0: Tensor, eps: Tensor, t_B: Tensor) -> Tensor:
    """The training target for the denoiser's output at x_t, of the same shape as `x_0` and `eps`, (B, ...)."""
    return eps if prediction == "epsilon" else velocity(schedule, x_0, eps, t_B)


def image_and_noise(prediction: Prediction, output: Tensor, x_t: Tensor, alpha_bar_t: float) -> tuple[Tensor, Tensor]:
    """x_0 and eps in `x_t` as a denoiser's `output` predicts them, each of the shape of `x_t`.

    For velocity, with a = alpha_bar_t, x_0 = sqrt(a) x_t - sqrt(1 - a) v and eps = sqrt(a) v + sqrt(1 - a) x_t:
    nothing is divided, so a may be 0. For epsilon it must be above 0.
    """
    if prediction == "epsilon":
        return predicted_x_0(x_t, output, alpha_bar_t), output
    signal, noise = alpha_bar_t**0.5, (1 - alpha_bar_t) ** 0.5
    return signal * x_t - noise * output, signal * output + noise * x_t
