"""One pass through every part of the miniature checkpoint, against what the original code computed with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.schedule import add_noise
from dreambooth.families.components import Components
from dreambooth.weights.read import read_model
from dreambooth.weights.settings import WeightsChoice

Expected = Mapping[str, Tensor]

TOLERANCE = 1e-4  # largest difference over largest value


@pytest.fixture(scope="module")
def raw(golden_checkpoint: Path) -> Components:
    return read_model(str(golden_checkpoint), weights="raw").build(dtype=torch.float32)


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def test_text_states(raw: Components, golden_expected: Expected) -> None:
    states = raw.family.encode_text(raw.parts, golden_expected["input_ids"]).states_BLD
    assert relative_error(states, golden_expected["text_embeddings"]) < TOLERANCE


@torch.no_grad()
def test_posterior(raw: Components, golden_expected: Expected) -> None:
    moments = raw.family.encode_pixels(raw.vae, golden_expected["image"])
    assert relative_error(moments.mean, golden_expected["vae_mean"]) < TOLERANCE
    assert relative_error(2 * moments.deviation.log(), golden_expected["vae_logvar"].clamp(-30, 20)) < TOLERANCE
    latents = raw.family.sample_latents(moments, torch.zeros_like(moments.mean))
    assert relative_error(latents, golden_expected["latent"]) < TOLERANCE


@torch.no_grad()
def test_reconstruction(raw: Components, golden_expected: Expected) -> None:
    pixels = raw.family.decode_latents(raw.vae, golden_expected["latent"])
    assert relative_error(pixels, golden_expected["recon"]) < TOLERANCE


def test_noising(raw: Components, golden_expected: Expected) -> None:
    schedule = raw.family.schedule
    assert relative_error(schedule.alpha_bar_T.float(), golden_expected["alphas_cumprod"]) < TOLERANCE
    x_t = add_noise(schedule, golden_expected["latent"], golden_expected["noise"], golden_expected["t"])
    assert relative_error(x_t, golden_expected["z_t"]) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize(("weights", "name"), [("raw", "eps"), ("ema", "eps_ema")])
def test_noise_prediction(
    golden_checkpoint: Path, golden_expected: Expected, weights: WeightsChoice, name: Literal["eps", "eps_ema"]
) -> None:
    """The random UNet amplifies rounding: the recorded float32 results are 8e-5 away from the same formula in float64.

    Our own float32 rounding depends on the processor and the number of threads and is as large. Each is held below the
    tolerance by itself, so that the test says the same on every machine.
    """
    read = read_model(str(golden_checkpoint), weights=weights)
    exact = predict(read.build(dtype=torch.float64), golden_expected, torch.float64)
    assert relative_error(exact, golden_expected[name]) < TOLERANCE
    rounded = predict(read.build(dtype=torch.float32), golden_expected, torch.float32)
    assert relative_error(rounded, exact) < TOLERANCE
    other = golden_expected["eps" if name == "eps_ema" else "eps_ema"]
    assert relative_error(rounded, other) > 100 * TOLERANCE  # the two sets of weights are not alike


def predict(components: Components, expected: Expected, dtype: torch.dtype) -> Tensor:
    z_t, t, text = expected["z_t"], expected["t"], expected["text_embeddings"]
    return components.family.predict(components.denoiser, z_t.to(dtype), t, Conditioning(text[: len(t)].to(dtype)))
