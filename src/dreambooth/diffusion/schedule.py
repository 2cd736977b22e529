"""The noise schedule of Stable Diffusion, always recomputed and never read from a file.

Symbols follow DDPM (Ho et al., arXiv 2006.11239): beta_t is the variance added at timestep t, alpha_t = 1 - beta_t, and
alpha_bar_t is the product of alpha_0 to alpha_t. Shapes: B examples, T timesteps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

__all__ = [
    "NoiseSchedule",
    "add_noise",
    "ddpm_buffers",
    "scaled_linear_schedule",
    "signal_to_noise",
    "velocity",
    "with_zero_terminal_snr",
]


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
        """The fraction of the signal's variance that remains at each timestep, in [0, 1), float64."""
        return torch.cumprod(1 - self.beta_T, dim=0)

    @property
    def has_zero_terminal_snr(self) -> bool:
        """Whether nothing of the signal remains at the last timestep."""
        return float(self.alpha_bar_T[-1]) == 0

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


def with_zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    """The schedule rescaled so that its last timestep holds noise alone (Lin et al., arXiv 2305.08891, algorithm 1).

    sqrt(alpha_bar) is shifted to end at 0 and scaled to keep its first value. Only a model that predicts the velocity can use
    it: at the last timestep, the noise is x_t itself.
    """
    signal_T = schedule.alpha_bar_T.sqrt()
    first, last = signal_T[0], signal_T[-1]
    alpha_bar_T = ((signal_T - last) * first / (first - last)).square()
    before_T = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar_T[:-1]])
    return NoiseSchedule(1 - alpha_bar_T / before_T)


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
