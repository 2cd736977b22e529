from __future__ import annotations

import json

import torch

from dreambooth import __version__
from dreambooth.sampling.metadata import picture_text
from dreambooth.sampling.records import Picture, SamplingOptions

DIGEST = "0123456789abcdef" * 4


def test_both_chunks() -> None:
    options = SamplingOptions(
        sampler="ddim", steps=30, guidance_scale=7.5, height=640, width=512, seed=42, eta=0.25, negative_prompt="blurry, dark"
    )
    text = picture_text(
        Picture("photo of a\nsks Käse 🐶", 3), options, model_digest=DIGEST, device=torch.device("cuda:1"), dtype=torch.float16
    )
    assert text["parameters"] == (
        "photo of a\nsks Käse 🐶\n"
        "Negative prompt: blurry, dark\n"
        "Steps: 30, Sampler: DDIM, CFG scale: 7.5, Seed: 42, Size: 512x640, Model hash: 0123456789, Eta: 0.25, "
        f"Image index: 3, Version: dreambooth {__version__}"
    )
    assert json.loads(text["dreambooth"]) == {
        "prompt": "photo of a\nsks Käse 🐶",
        "negative_prompt": "blurry, dark",
        "index": 3,
        "seed": 42,
        "sampler": "ddim",
        "steps": 30,
        "guidance_scale": 7.5,
        "eta": 0.25,
        "width": 512,
        "height": 640,
        "model_digest": DIGEST,
        "device": "cuda",
        "dtype": "float16",
        "version": __version__,
    }


def test_start_noise_of_another_picture_is_told() -> None:
    options = SamplingOptions(sampler="ddim", steps=1, guidance_scale=1.0, height=64, width=64, seed=0)
    text = picture_text(Picture("x", 5, start=2), options, model_digest=DIGEST, device=torch.device("cpu"), dtype=torch.float32)
    assert "Image index: 5, Start noise index: 2, Version" in text["parameters"]
    assert json.loads(text["dreambooth"])["start_index"] == 2


def test_what_was_not_asked_for_is_left_out() -> None:
    options = SamplingOptions(sampler="euler-a", steps=1, guidance_scale=10.0, height=64, width=64, seed=0)
    text = picture_text(Picture("x", 0), options, model_digest=DIGEST, device=torch.device("cpu"), dtype=torch.float32)
    assert "Negative prompt" not in text["parameters"]
    assert "Eta" not in text["parameters"]
    assert "Sampler: Euler a, CFG scale: 10, Seed: 0" in text["parameters"]
