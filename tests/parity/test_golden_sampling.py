"""Sampling against what the original program computed with the miniature checkpoint's last (not averaged) weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreambooth.families.components import Components
from dreambooth.sampling.sampler import decode, denoise, guided_noise
from dreambooth.sampling.solvers import make_solver
from dreambooth.weights.read import read_model


@pytest.fixture(scope="module")
def components(golden_checkpoint: Path) -> Components:
    weights = read_model(str(golden_checkpoint), weights="raw")
    return weights.family.build(weights.unet, weights.vae, weights.text_encoder, dtype=torch.float32)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("steps", "scale", "tolerance"),
    [(20, 7.5, 1e-4), (50, 10.0, 1e-3), (100, 10.0, 3e-3)],
)
def test_ddim_gives_the_latents_and_pictures_of_the_original(
    components: Components, golden_expected: Mapping[str, Tensor], steps: int, scale: float, tolerance: float
) -> None:
    text_BLD = golden_expected["text_embeddings"]
    predict = guided_noise(components, text_BLD[[0, 2]], text_BLD[[3]], scale=scale, dtype=torch.float32)
    solver = make_solver("ddim", components.family.schedule, steps)
    states = list(denoise(solver, solver.start(golden_expected["x_T"]), predict, lambda index: []))
    assert len(states) == steps
    assert relative_error(states[-1].x_BCHW, golden_expected[f"ddim_{steps}_{scale}"]) < tolerance
    assert relative_error(decode(components, states[-1].x_BCHW), golden_expected[f"ddim_{steps}_{scale}_image"]) < tolerance
