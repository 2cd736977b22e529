"""Sampling against what the original program computed with the miniature checkpoint's last (not averaged) weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.families.components import Components
from dreambooth.sampling.sampler import decode, denoise, guided_prediction
from dreambooth.sampling.solvers import make_solver
from dreambooth.weights.read import read_model


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def ddim(components: Components, golden_expected: Mapping[str, Tensor], steps: int, scale: float) -> Tensor:
    text = components.family.encode_text(components.parts, golden_expected["input_ids"])
    prompts = Conditioning.stack([text.index(0), text.index(2)])
    predict = guided_prediction(components, prompts, text.index(slice(3, 4)), scale=scale, dtype=torch.float32)
    solver = make_solver("ddim", components.family.schedule, steps)
    states = list(denoise(solver, solver.start(golden_expected["x_T"]), predict, lambda index: []))
    assert len(states) == steps
    return states[-1].x_BCHW


@pytest.fixture(scope="module")
def raw(golden_checkpoint: Path) -> Components:
    return read_model(str(golden_checkpoint), weights="raw").build(dtype=torch.float32)


def test_ddim_gives_the_latents_and_pictures_of_the_original(raw: Components, golden_expected: Mapping[str, Tensor]) -> None:
    """Of 20 steps. This random network amplifies the rounding of more; `test_originals` holds those of a better one."""
    latents = ddim(raw, golden_expected, 20, 7.5)
    assert relative_error(latents, golden_expected["ddim_20_7.5"]) < 1e-4
    assert relative_error(decode(raw, latents), golden_expected["ddim_20_7.5_image"]) < 1e-4


def test_the_recorded_pictures_are_not_of_the_averaged_weights(
    golden_checkpoint: Path, golden_expected: Mapping[str, Tensor]
) -> None:
    ema = read_model(str(golden_checkpoint), weights="ema").build(dtype=torch.float32)
    assert relative_error(ddim(ema, golden_expected, 20, 7.5), golden_expected["ddim_20_7.5"]) > 1e-2
