from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights


def changed(model: ModelWeights, **parts: dict[str, torch.Tensor]) -> ModelWeights:
    return replace(model, parts={**model.parts, **parts})


def test_digest_depends_on_names_formats_shapes_and_bytes_alone(tiny: ModelWeights) -> None:
    unet = dict(tiny.parts["unet"])
    bias = unet["conv_in.bias"]
    flipped = bias.clone()
    flipped[3] = -flipped[3]
    same = replace(changed(tiny, unet=dict(reversed(unet.items()))), metadata={"a": "b"})
    others = [
        changed(tiny, unet={**unet, "conv_in.bias": flipped}),
        changed(tiny, unet={**unet, "conv_in.bias": bias.view(torch.int32)}),
        changed(tiny, unet={**unet, "conv_in.bias": bias.reshape(1, -1)}),
        changed(tiny, unet={**unet, "conv_in.bias": unet["conv_out.bias"], "conv_out.bias": bias}),
        changed(tiny, unet=unet, vae={}),
        changed(tiny, unet={}, vae=unet),
    ]
    assert same.digest() == tiny.digest()
    assert len({tiny.digest(), *(other.digest() for other in others)}) == 7
    assert len(tiny.digest()) == 64
    assert tiny.digest() is tiny.digest()  # computed once


def test_digest_takes_every_layout_and_number_format(tiny: ModelWeights) -> None:
    transposed = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T
    strange = changed(tiny, unet={"a": transposed, "b": torch.zeros(0), "c": torch.tensor(1)})
    assert strange.digest() == changed(strange, unet={**strange.parts["unet"], "a": transposed.contiguous()}).digest()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_with_values_that_are_not_finite_is_not_built(tiny: ModelWeights, value: float) -> None:
    unet = dict(tiny.parts["unet"])
    unet["conv_in.bias"] = unet["conv_in.bias"].clone()
    unet["conv_in.bias"][2] = value
    with pytest.raises(ModelFileError, match=r"1 tensor with values that are not finite \(unet\.conv_in\.bias\)"):
        changed(tiny, unet=unet).build(dtype=torch.float32)
    unet["conv_in.bias"][2] = 3e38
    assert changed(tiny, unet=unet).not_finite() == []


def test_build_gives_the_modules(tiny: ModelWeights) -> None:
    components = tiny.build(dtype=torch.float32)
    assert components.family == tiny.family
    assert torch.equal(components.vae.state_dict()["quant_conv.weight"], tiny.parts["vae"]["quant_conv.weight"])
