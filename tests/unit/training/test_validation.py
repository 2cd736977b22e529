"""The validation loss against a value computed apart from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dreambooth.diffusion.randomness import normal
from dreambooth.training.validation import ValidationItem, validation_losses

MakeTiny = Callable[..., Any]


@pytest.mark.parametrize("prediction", ["epsilon", "velocity"])
def test_it_is_the_mean_error_over_items_and_timesteps(tiny: MakeTiny, tiny_velocity: MakeTiny, prediction: str) -> None:
    denoiser = (tiny if prediction == "epsilon" else tiny_velocity)().state.denoiser
    latents = [normal((4, 6, 8), 5, "held out", number) for number in range(3)]
    ids = [torch.tensor([number, 7]) for number in range(3)]
    roles = ("instance", "instance", "prior")
    items = [ValidationItem(role, x_0, text) for role, x_0, text in zip(roles, latents, ids, strict=True)]  # type: ignore[arg-type]
    alpha_bar_T = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0)
    errors: dict[str, list[float]] = {"instance": [], "prior": []}
    for number, role in enumerate(roles):
        for t in (100, 300, 500, 700, 900):
            alpha, sigma = float(alpha_bar_T[t]) ** 0.5, (1 - float(alpha_bar_T[t])) ** 0.5
            eps, x_0 = normal((4, 6, 8), 0, "validation", number, t), latents[number]
            target = eps if prediction == "epsilon" else alpha * eps - sigma * x_0
            with torch.no_grad():
                output = denoiser((alpha * x_0 + sigma * eps).unsqueeze(0), torch.tensor([t]), ids[number].unsqueeze(0))
            errors[role].append(float((output[0] - target).square().mean()))
    found = validation_losses(items, denoiser, device=torch.device("cpu"))
    assert found == {role: pytest.approx(sum(values) / len(values), rel=1e-4) for role, values in errors.items()}
