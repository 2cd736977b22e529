"""A validation loss that is comparable between steps and between runs.

The training loss varies with each step's timesteps and noise. This one is measured on views that training never uses, on the
mean of the posterior, with fixed noise and a fixed grid of timesteps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dreambooth.data.records import Role
from dreambooth.diffusion.conditioning import Text, stack_texts
from dreambooth.diffusion.objective import squared_error
from dreambooth.diffusion.prediction import training_target
from dreambooth.diffusion.randomness import normal
from dreambooth.diffusion.schedule import add_noise
from dreambooth.training.denoiser import Denoiser

__all__ = ["VALIDATION_TIMESTEPS", "ValidationItem", "validation_losses", "with_predicted_targets"]

VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)
_SEED = 0  # the same noise in every run, so that runs are comparable


@dataclass(frozen=True)
class ValidationItem:
    """One held-out view: its role, latent (C, H, W), text (token ids (L,) or conditioning), and its targets."""

    role: Role
    x_0: Tensor
    text: Text
    target_TCHW: Tensor | None = None
    """One target for each of VALIDATION_TIMESTEPS; None: the noise is the target."""
    sizes_6: Tensor | None = None
    """Sizes of the picture, for families that take them."""


@torch.no_grad()
def validation_losses(items: Sequence[ValidationItem], denoiser: Denoiser, *, device: torch.device) -> dict[str, float]:
    """Mean squared error of the prediction, over items and timesteps, for each role that has items."""
    losses: dict[str, list[Tensor]] = {}
    for index, item in enumerate(items):
        output, target = _output_and_target(item, index, denoiser, device)
        losses.setdefault(item.role, []).append(squared_error(output, target).mean())
    return {role: float(torch.stack(values).mean()) for role, values in losses.items()}


@torch.no_grad()
def with_predicted_targets(
    items: Sequence[ValidationItem], denoiser: Denoiser, *, device: torch.device
) -> tuple[ValidationItem, ...]:
    """The items, with `denoiser`'s own predictions as the targets of class examples."""
    outputs = [_output_and_target(item, index, denoiser, device)[0] for index, item in enumerate(items) if item.role == "prior"]
    predicted = iter(output.float().cpu() for output in outputs)
    return tuple(replace(item, target_TCHW=next(predicted)) if item.role == "prior" else item for item in items)


def _output_and_target(item: ValidationItem, index: int, denoiser: Denoiser, device: torch.device) -> tuple[Tensor, Tensor]:
    """The prediction for item number `index` at every timestep, and its target, (T, C, H, W) each."""
    family = denoiser.components.family
    t_B = torch.tensor(VALIDATION_TIMESTEPS, device=device)
    eps = torch.stack([normal(item.x_0.shape, _SEED, "validation", index, t) for t in VALIDATION_TIMESTEPS]).to(device)
    x_0 = item.x_0.to(device).expand_as(eps)
    text = stack_texts([item.text] * len(t_B)).to(device)
    sizes_B6 = None if item.sizes_6 is None else item.sizes_6.to(device).expand(len(t_B), -1)
    output = denoiser(add_noise(family.schedule, x_0, eps, t_B), t_B, text, sizes_B6)
    if item.target_TCHW is not None:
        return output, item.target_TCHW.to(device)
    return output, training_target(family.prediction, family.schedule, x_0, eps, t_B)
