"""One step of DDIM (Song, Meng, Ermon, arXiv 2010.02502); the paper's alpha is alpha_bar here.

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["ddim_move", "ddim_sigma", "ddim_step", "predicted_x_0"]


def predicted_x_0(x_t: Tensor, eps: Tensor, alpha_bar_t: float) -> Tensor:
    """x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t) (eq. 9), not clipped; alpha_bar_t is above 0."""
    assert alpha_bar_t > 0, "the noise alone says nothing about the image where x_t holds no signal"
    x_0: Tensor = (x_t - (1 - alpha_bar_t) ** 0.5 * eps) / alpha_bar_t**0.5
    return x_0


def ddim_sigma(alpha_bar_t: float, alpha_bar_prev: float, eta: float) -> float:
    """Standard deviation of a step's fresh noise (eq. 16): 0 at eta = 0, that of an ancestral step at eta = 1."""
    return float(eta * ((1 - alpha_bar_prev) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_prev)) ** 0.5)


def ddim_step(
    x_t: Tensor, eps: Tensor, *, alpha_bar_t: float, alpha_bar_prev: float, sigma: float = 0.0, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(x_prev, x_0) for a noise prediction `eps` of x_t (eq. 12), all (B, C, H, W); alpha_bar_t is above 0.

    `noise` is standard normal and required only if sigma is above 0.
    """
    x_0 = predicted_x_0(x_t, eps, alpha_bar_t)
    return ddim_move(x_0, eps, alpha_bar_prev=alpha_bar_prev, sigma=sigma, noise=noise), x_0


def ddim_move(x_0: Tensor, eps: Tensor, *, alpha_bar_prev: float, sigma: float = 0.0, noise: Tensor | None = None) -> Tensor:
    """x_prev for predictions of the image and of the noise in x_t (eq. 12), for any x_t, also one without signal."""
    direction = max(0.0, 1 - alpha_bar_prev - sigma**2)  # rounding may take it below 0 where eta is 1
    x_prev: Tensor = alpha_bar_prev**0.5 * x_0 + direction**0.5 * eps
    if sigma > 0:
        assert noise is not None
        x_prev = x_prev + sigma * noise
    return x_prev
