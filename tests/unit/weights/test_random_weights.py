"""Random weights, for measuring and for trying the machinery without a file."""

from __future__ import annotations

import torch

from dreambooth.families.sd1 import StableDiffusion1
from tests.random_weights import random_model


def test_random_weights_depend_on_the_seed_alone_and_keep_signals_finite(miniature: StableDiffusion1) -> None:
    one, again, other = (random_model(miniature, seed=seed) for seed in (1, 1, 2))
    name = "conv_in.weight"
    assert torch.equal(one.parts["unet"][name], again.parts["unet"][name])
    assert not torch.equal(one.parts["unet"][name], other.parts["unet"][name])
    family, components = one.family, one.build(dtype=torch.float32)
    with torch.no_grad():
        text = family.encode_text(components.parts, family.tokenize(components.tokenizer, ["a"]))
        eps = family.predict(components.denoiser, torch.randn(1, 4, 16, 16), torch.tensor([500]), text)
        pixels = family.decode_latents(components.vae, torch.randn(1, 4, 4, 4))
    assert 0.05 < float(eps.std()) < 20
    assert 0.05 < float(pixels.std()) < 20
