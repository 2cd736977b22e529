"""What guidance tells Stable Diffusion XL beside the prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreambooth.config import parse_settings
from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.errors import SettingsError
from dreambooth.families.components import Components
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import decode, final_latents
from dreambooth.sampling.settings import SampleSettings

OPTIONS = SamplingOptions("euler", steps=1, guidance_scale=5.0, height=64, width=96, seed=1)


def told(model: Components, options: SamplingOptions, monkeypatch: pytest.MonkeyPatch) -> Conditioning:
    """The conditioning of the only step: unconditional rows first."""
    seen: list[Conditioning] = []

    def predict(self: StableDiffusionXL, unet: nn.Module, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        seen.append(conditioning)
        return x_t

    monkeypatch.setattr(StableDiffusionXL, "predict", predict)
    pictures = [Picture("a sks container", 0), Picture("a dog", 1)]
    final_latents(model, pictures, options, device=torch.device("cpu"), dtype=torch.float32)
    [conditioning] = seen
    return conditioning


def test_both_ends_are_told_the_size_of_the_picture(golden_xl_float32: Components, monkeypatch: pytest.MonkeyPatch) -> None:
    conditioning = told(golden_xl_float32, OPTIONS, monkeypatch)
    assert conditioning.sizes_B6 is not None
    assert conditioning.sizes_B6.tolist() == [[64, 96, 0, 0, 64, 96]] * 4


@pytest.mark.parametrize(("negative", "encodes", "is_zero"), [("", False, True), ("", True, False), ("blurry", False, False)])
def test_without_a_negative_prompt_the_text_is_zero_unless_it_is_to_be_encoded(
    golden_xl_float32: Components, monkeypatch: pytest.MonkeyPatch, negative: str, encodes: bool, is_zero: bool
) -> None:
    options = replace(OPTIONS, negative_prompt=negative, encode_empty_prompt=encodes)
    conditioning = told(golden_xl_float32, options, monkeypatch)
    assert conditioning.pooled_BD is not None
    for tensor in (conditioning.states_BLD, conditioning.pooled_BD):
        assert bool((tensor[:2] == 0).all()) is is_zero
        assert bool((tensor[2:] != 0).any())


@torch.no_grad()
def test_an_autoencoder_that_overflows_in_float16_makes_pictures(golden_xl_float32: Components) -> None:
    """As that of Stable Diffusion XL does: whatever the precision of the model, it works in float32."""
    vae: Any = golden_xl_float32.family.new_module("vae")
    vae.load_state_dict(golden_xl_float32.vae.state_dict())
    vae.decoder.conv_in.weight.mul_(1e5)  # the next layers normalize it
    model = replace(golden_xl_float32, parts={**golden_xl_float32.parts, "vae": vae.half()})
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not torch.isfinite(vae.decode(latents.half()).sample).all()
    pixels = decode(model, latents)
    assert torch.isfinite(pixels).all() and pixels.std() > 0.01
    assert next(vae.parameters()).dtype == torch.float16  # as before


@pytest.mark.parametrize("values", [{"guidance_scale": 1.0}, {"negative_prompt": "blurry"}])
def test_encoding_an_empty_prompt_needs_one(values: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="encode_empty_prompt applies only to guidance without a negative prompt"):
        parse_settings(SampleSettings, {"prompt": ["a dog"], "encode_empty_prompt": True, **values}, where="test")
