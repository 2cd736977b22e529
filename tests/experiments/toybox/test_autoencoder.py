from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.randomness import normal
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.untrained import untrained_vae
from experiments.toybox.autoencoder import autoencoder_loss, normalise_latents, start_tight

PIXELS = torch.rand((3, 3, 16, 16), generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def vae(miniature: StableDiffusion1) -> Any:
    """An autoencoder whose biases next to the latents are not zero, as after some training."""
    made: Any = untrained_vae(miniature, seed=4)
    with torch.no_grad():
        for convolution in (made.quant_conv, made.post_quant_conv):
            convolution.bias.copy_(0.3 * normal(convolution.bias.shape, 1, "bias"))
    return made


@torch.no_grad()
def test_the_start_is_tight_and_keeps_the_means(miniature: StableDiffusion1, vae: Any) -> None:
    before = miniature.encode_pixels(vae, PIXELS)
    start_tight(vae)
    after = miniature.encode_pixels(vae, PIXELS)
    assert torch.equal(after.mean, before.mean)
    torch.testing.assert_close(after.deviation, torch.full_like(after.deviation, math.exp(-2.5)))


@torch.no_grad()
def test_normalised_latents_have_the_family_s_scale_and_give_the_same_pictures(miniature: StableDiffusion1, vae: Any) -> None:
    eps = normal((3, 4, 4, 4), 1, "eps")
    before = miniature.encode_pixels(vae, PIXELS)
    latents = before.sample(eps)
    spread = float(latents.std())
    decoded = vae.decode(latents).sample

    normalise_latents(vae, spread, miniature.scaling_factor)
    after = miniature.encode_pixels(vae, PIXELS)
    assert float(after.sample(eps).std()) == pytest.approx(1 / 0.18215, rel=1e-4)
    assert float(miniature.sample_latents(after, eps).std()) == pytest.approx(1, rel=1e-4)
    factor = 1 / (0.18215 * spread)
    torch.testing.assert_close(after.mean, factor * before.mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.deviation, factor * before.deviation, rtol=1e-4, atol=0)
    torch.testing.assert_close(vae.decode(after.sample(eps)).sample, decoded, rtol=1e-4, atol=1e-5)


def moments(mean: Tensor, deviation: Tensor) -> Any:
    return SimpleNamespace(encode_pixels=lambda vae, pixels: LatentMoments(mean, deviation))


def decoder(scale: Tensor) -> Any:
    """Pixels from latents of the same size: 0.5 z times `scale`."""
    return SimpleNamespace(decode=lambda latents: SimpleNamespace(sample=0.5 * latents * scale))


def test_the_loss_is_the_error_of_pixels_and_edges_and_a_small_divergence() -> None:
    mean, deviation = 2 * normal((2, 3, 5, 6), 1, "mean"), normal((2, 3, 5, 6), 1, "deviation").abs() + 0.1
    pixels = normal((2, 3, 5, 6), 1, "pixels")
    loss = autoencoder_loss(moments(mean, deviation), decoder(torch.ones(())), pixels, seed=7, step=3)

    decoded = 0.5 * (mean + deviation * normal((2, 3, 5, 6), 7, "autoencoder", 3))
    error = (decoded - pixels).double()
    absolute = error.abs().mean()
    down, across = (error[:, :, 1:] - error[:, :, :-1]).abs().mean(), (error[..., 1:] - error[..., :-1]).abs().mean()
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean.double(), deviation.double()), torch.distributions.Normal(0.0, 1.0)
    ).mean()
    expected = absolute + 0.5 * (down + across) + 2e-4 * divergence
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_every_step_draws_other_latents_and_the_same_ones_again() -> None:
    mean, deviation, pixels = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)

    def loss(seed: int, step: int) -> float:
        return float(autoencoder_loss(moments(mean, deviation), decoder(torch.ones(())), pixels, seed=seed, step=step))

    assert loss(1, 1) == loss(1, 1)
    assert len({loss(1, 1), loss(1, 2), loss(2, 1)}) == 3


def test_gradients_reach_every_parameter_of_a_real_autoencoder(miniature: StableDiffusion1) -> None:
    vae: Any = untrained_vae(miniature, seed=4)
    start_tight(vae)
    autoencoder_loss(miniature, vae, PIXELS, seed=1, step=1).backward()
    assert isinstance(vae, nn.Module)
    assert [name for name, parameter in vae.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []
