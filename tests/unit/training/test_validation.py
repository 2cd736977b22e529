"""The validation loss, against a sum written out here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dreambooth.diffusion.randomness import normal
from dreambooth.training.validation import ValidationItem, validation_losses

TIMESTEPS = (100, 300, 500, 700, 900)


def _items() -> list[ValidationItem]:
    x_0 = [normal((4, 8, 8), 3, "x_0", index) for index in range(3)]
    roles: list[Any] = ["instance", "prior", "instance"]
    return [ValidationItem(role, x_0[index], torch.tensor([index, 2])) for index, role in enumerate(roles)]


@pytest.mark.parametrize("prediction", ["epsilon", "velocity"])
def test_it_is_the_mean_over_items_and_timesteps(
    tiny: Callable[..., Any], tiny_velocity: Callable[..., Any], prediction: str
) -> None:
    model = (tiny if prediction == "epsilon" else tiny_velocity)()
    parts = model.state.denoiser.components.parts
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    errors: dict[str, list[float]] = {"instance": [], "prior": []}
    for index, item in enumerate(_items()):
        for t in TIMESTEPS:
            a, s = float(alpha_bar[t]) ** 0.5, (1 - float(alpha_bar[t])) ** 0.5
            eps = normal((4, 8, 8), 0, "validation", index, t)
            with torch.no_grad():
                text = parts["text_encoder"](item.text).mean()
                output = parts["unet"]((a * item.x_0 + s * eps)[None])[0] + text + t / 1000
            target = eps if prediction == "epsilon" else a * eps - s * item.x_0
            errors[item.role].append(float(((output - target) ** 2).mean()))
    expected = {role: sum(values) / len(values) for role, values in errors.items()}
    assert validation_losses(_items(), model.state.denoiser, device=torch.device("cpu")) == pytest.approx(expected, rel=1e-5)


def test_a_role_without_items_has_no_loss(tiny: Callable[..., Any]) -> None:
    photos = [item for item in _items() if item.role == "instance"]
    assert list(validation_losses(photos, tiny().state.denoiser, device=torch.device("cpu"))) == ["instance"]
