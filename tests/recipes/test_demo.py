"""The demo, shortened, through the installed command; and the random miniature it trains."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import torch

from dreambooth.recipes.demo import miniature
from dreambooth.weights.random_weights import random_model

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_demo_says_that_its_pictures_are_noise_and_does_the_whole_job(dreambooth: Command, tmp_path: Path) -> None:
    (tmp_path / "runs" / "demo").mkdir(parents=True)  # an earlier demo does not stand in the way
    done = dreambooth("demo", "--steps", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the pictures are noise" in done.stdout
    run = tmp_path / "runs" / "demo-2"
    assert (run / "model.safetensors").is_file()
    names = sorted(path.name for path in (run / "pictures").iterdir())
    assert len([name for name in names if "grid" not in name]) == 6, names
    assert "dreambooth train --model sd-v1-4.ckpt --photos FOLDER" in done.stdout
    assert "Traceback" not in done.stderr


def test_random_weights_depend_on_the_seed_alone_and_keep_signals_finite() -> None:
    one, again, other = (random_model(miniature(), seed=seed) for seed in (1, 1, 2))
    name = "conv_in.weight"
    assert torch.equal(one.unet[name], again.unet[name])
    assert not torch.equal(one.unet[name], other.unet[name])
    family, components = one.family, one.build(dtype=torch.float32)
    with torch.no_grad():
        text = family.encode_text(components.text_encoder, family.tokenize(components.tokenizer, ["a"]))
        eps = family.predict_noise(components.unet, torch.randn(1, 4, 16, 16), torch.tensor([500]), text)
        pixels = family.decode_latents(components.vae, torch.randn(1, 4, 4, 4))
    assert 0.05 < float(eps.std()) < 20
    assert 0.05 < float(pixels.std()) < 20
