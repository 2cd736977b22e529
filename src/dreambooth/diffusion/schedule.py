"""The noise schedule of Stable Diffusion 1 and 2, always recomputed and never read from a file.

Symbols follow DDPM (Ho et al., arXiv 2006.11239): beta_t is the variance added at timestep t, alpha_t = 1 - beta_t, and
alpha_bar_t is the product of alpha_0 to alpha_t. Shapes: B examples, T timesteps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["NoiseSchedule", "add_noise", "ddpm_buffers", "scaled_linear_schedule", "signal_to_noise", "velocity"]


@dataclass(frozen=True)
class NoiseSchedule:
    """beta_t of every timestep, in float64."""

    beta_T: Tensor
    _tables: dict[tuple[str, torch.dtype, torch.device], Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def num_timesteps(self) -> int:
        """T, 1000 for every Stable Diffusion model."""
        return int(self.beta_T.shape[0])

    @cached_property
    def alpha_bar_T(self) -> Tensor:  # noqa: N802 - the shape suffix
        """The fraction of the signal's variance that remains at each timestep, in (0, 1), float64."""
        return torch.cumprod(1 - self.beta_T, dim=0)

    def alpha_bar_at(self, t: float) -> float:
        """alpha_bar of a timestep in [0, T - 1], which need not be an integer.

        Between two timesteps, the ratio of the noise's to the signal's standard deviation is interpolated linearly, as in
        the Euler samplers (Karras et al., arXiv 2206.00364).
        """
        low = int(t)
        high, share = min(low + 1, self.num_timesteps - 1), t - low
        ratios = [math.sqrt(1 / float(self.alpha_bar_T[index]) - 1) for index in (low, high)]
        return float(1 / (1 + ((1 - share) * ratios[0] + share * ratios[1]) ** 2))

    def table(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A function of alpha_bar for every timestep, (T,): "signal" (its root), "noise" (the root of 1 - alpha_bar) or "snr".

        It is copied to a device once: copying it at every step would make the host wait for the device.
        """
        key = name, dtype, device
        if key not in self._tables:
            values_T = _TABLES[name](self.alpha_bar_T)
            self._tables[key] = values_T.to(dtype).to(device)  # some devices do not support float64
        return self._tables[key]


_TABLES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "signal": torch.sqrt,
    "noise": lambda alpha_bar_T: (1 - alpha_bar_T).sqrt(),
    "snr": lambda alpha_bar_T: alpha_bar_T / (1 - alpha_bar_T),
}


def scaled_linear_schedule(beta_start: float = 0.00085, beta_end: float = 0.012, num_timesteps: int = 1000) -> NoiseSchedule:
    """The schedule with which Stable Diffusion was trained: sqrt(beta_t) increases linearly.

    The original code calls it "linear". alpha_bar_0 = 0.99915, alpha_bar_999 = 0.0046601.
    """
    return NoiseSchedule(torch.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=torch.float64) ** 2)


def _at(name: str, schedule: NoiseSchedule, t_B: Tensor, like: Tensor) -> Tensor:
    values_B = schedule.table(name, like.dtype, like.device)[t_B.to(like.device)]
    return values_B.reshape(-1, *([1] * (like.ndim - 1)))


def add_noise(schedule: NoiseSchedule, x_0: Tensor, eps: Tensor, t_B: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (DDPM eq. 4); shapes (B, ...), (B, ...), (B,)."""
    return _at("signal", schedule, t_B, x_0) * x_0 + _at("noise", schedule, t_B, x_0) * eps


def velocity(schedule: NoiseSchedule, x_0: Tensor, eps: Tensor, t_B: Tensor) -> Tensor:
    """Velocity v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans and Ho, arXiv 2202.00512, section 4)."""
    return _at("signal", schedule, t_B, x_0) * eps - _at("noise", schedule, t_B, x_0) * x_0


def signal_to_noise(schedule: NoiseSchedule, t_B: Tensor) -> Tensor:
    """SNR(t) = alpha_bar_t / (1 - alpha_bar_t) for each example, float32."""
    return schedule.table("snr", torch.float32, t_B.device)[t_B]


def ddpm_buffers(schedule: NoiseSchedule) -> dict[str, Tensor]:
    """The twelve buffers of (T,) float32 that the original code stores in a checkpoint, computed in float64.

    Posterior terms follow DDPM eq. 7. At t = 0 the posterior variance is zero; the original clips its logarithm at 1e-20.
    """
    beta, alpha_bar = schedule.beta_T, schedule.alpha_bar_T
    alpha_bar_prev = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    posterior_variance = beta * (1 - alpha_bar_prev) / (1 - alpha_bar)
    buffers = {
        "betas": beta,
        "alphas_cumprod": alpha_bar,
        "alphas_cumprod_prev": alpha_bar_prev,
        "sqrt_alphas_cumprod": alpha_bar.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - alpha_bar).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - alpha_bar).log(),
        "sqrt_recip_alphas_cumprod": (1 / alpha_bar).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / alpha_bar - 1).sqrt(),
        "posterior_variance": posterior_variance,
        "posterior_log_variance_clipped": posterior_variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": beta * alpha_bar_prev.sqrt() / (1 - alpha_bar),
        "posterior_mean_coef2": (1 - alpha_bar_prev) * (1 - beta).sqrt() / (1 - alpha_bar),
    }
    return {name: values.to(torch.float32) for name, values in buffers.items()}
