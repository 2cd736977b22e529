from __future__ import annotations

from dataclasses import replace

import torch

from dreambooth.weights.model_weights import ModelWeights


def test_digest_depends_on_names_formats_shapes_and_bytes_alone(tiny: ModelWeights) -> None:
    unet = dict(tiny.unet)
    bias = unet["conv_in.bias"]
    flipped = bias.clone()
    flipped[3] = -flipped[3]
    same = replace(tiny, unet=dict(reversed(unet.items())), metadata={"a": "b"})
    others = [
        replace(tiny, unet={**unet, "conv_in.bias": flipped}),
        replace(tiny, unet={**unet, "conv_in.bias": bias.view(torch.int32)}),
        replace(tiny, unet={**unet, "conv_in.bias": bias.reshape(1, -1)}),
        replace(tiny, unet={**unet, "conv_in.bias": unet["conv_out.bias"], "conv_out.bias": bias}),
        replace(tiny, unet=unet, vae={}),
        replace(tiny, unet={}, vae=unet),
    ]
    assert same.digest() == tiny.digest()
    assert len({tiny.digest(), *(other.digest() for other in others)}) == 7
    assert len(tiny.digest()) == 64
    assert tiny.digest() is tiny.digest()  # computed once


def test_digest_takes_every_layout_and_number_format(tiny: ModelWeights) -> None:
    transposed = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T
    strange = replace(tiny, unet={"a": transposed, "b": torch.zeros(0), "c": torch.tensor(1)})
    assert strange.digest() == replace(strange, unet={**strange.unet, "a": transposed.contiguous()}).digest()


def test_build_gives_the_modules(tiny: ModelWeights) -> None:
    components = tiny.build(dtype=torch.float32)
    assert components.family == tiny.family
    assert torch.equal(components.vae.state_dict()["quant_conv.weight"], tiny.vae["quant_conv.weight"])
