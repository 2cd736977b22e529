from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import torch

from dreambooth.families.open_clip_keys import LOGIT_SCALE, TEXT_PROJECTION, open_clip_keys, open_clip_names
from dreambooth.weights.key_map import find_tensors, restore_names

PREFIX = "cond_stage_model.model."
WIDTH, LAYERS = 8, 2


def originals() -> dict[str, torch.Tensor]:
    """The tensors of an OpenCLIP text encoder as its own classes name them."""
    tensors = {
        "positional_embedding": torch.randn(5, WIDTH),
        "text_projection": torch.randn(WIDTH, 6),
        "logit_scale": torch.tensor(4.6055),
        "token_embedding.weight": torch.randn(11, WIDTH),
        "ln_final.weight": torch.randn(WIDTH),
        "ln_final.bias": torch.randn(WIDTH),
    }
    for layer in range(LAYERS):
        block = f"transformer.resblocks.{layer}"
        for name, tensor in torch.nn.MultiheadAttention(WIDTH, 2).state_dict().items():
            tensors[f"{block}.attn.{name}"] = tensor
        for leaf, shape in {"ln_1": (WIDTH,), "ln_2": (WIDTH,), "mlp.c_fc": (32, WIDTH), "mlp.c_proj": (WIDTH, 32)}.items():
            tensors[f"{block}.{leaf}.weight"], tensors[f"{block}.{leaf}.bias"] = torch.randn(shape), torch.randn(shape[0])
    return {PREFIX + name: tensor for name, tensor in tensors.items()}


def test_every_tensor_of_open_clip_goes_there_and_back_bit_for_bit() -> None:
    tensors = originals()
    names = open_clip_names(tensors)
    pairs = open_clip_keys(names, PREFIX)
    assert sorted(pair.canonical for pair in pairs) == sorted(names)  # total, and nothing twice
    part = find_tensors("text encoder", Path("model"), tensors, pairs)
    assert part.leftover == ()
    assert set(part.tensors) == set(names) == set(open_clip_names(names))
    back = restore_names(part.tensors, pairs)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


def test_attention_is_split_into_query_key_and_value_in_this_order() -> None:
    tensors = originals()
    found = find_tensors("text encoder", Path("model"), tensors, open_clip_keys(open_clip_names(tensors), PREFIX)).tensors
    whole = tensors[f"{PREFIX}transformer.resblocks.1.attn.in_proj_weight"]
    for index, leaf in enumerate(("q_proj", "k_proj", "v_proj")):
        assert torch.equal(found[f"encoder.layers.1.self_attn.{leaf}.weight"], whole[index * WIDTH : (index + 1) * WIDTH])


def test_the_text_projection_is_transposed() -> None:
    """Some trainers read it as it is, and their pooled vectors are wrong."""
    tensors = originals()
    found = find_tensors("text encoder", Path("model"), tensors, open_clip_keys(open_clip_names(tensors), PREFIX)).tensors
    x = torch.randn(3, WIDTH)
    projected = torch.nn.functional.linear(x, found[TEXT_PROJECTION])
    torch.testing.assert_close(projected, x @ tensors[f"{PREFIX}text_projection"])
    assert found[LOGIT_SCALE] == tensors[f"{PREFIX}logit_scale"]


def test_the_number_of_layers_is_read_from_names_of_both_kinds() -> None:
    names = open_clip_names(f"x.transformer.resblocks.{layer}.ln_1.weight" for layer in (0, 22, 23))
    layers = Counter(found[1] for name in names if (found := re.search(r"layers\.(\d+)\.", name)))
    assert len(layers) == 24 and set(layers.values()) == {16}
