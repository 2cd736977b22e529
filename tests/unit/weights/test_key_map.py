from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.families.blueprints import unet_blueprint, vae_blueprint
from dreambooth.families.key_pairs import KeyPair, Transform, packed
from dreambooth.families.unet_keys import UNetLayout, average_keys, unet_keys, unet_layout
from dreambooth.families.vae_keys import VaeLayout, canonical_attention, original_attention, vae_keys, vae_layout
from dreambooth.weights.key_map import check_parts, find_tensors, restore_names
from dreambooth.weights.model_weights import ModelWeights

FILE = Path("model.ckpt")
PAIRS = (KeyPair("a.q.weight", "b.to_q.weight", "convolution to linear"), KeyPair("a.bias", "b.bias"))


def prefixed(tensors: dict[str, Tensor], prefix: str) -> set[str]:
    return {name for name in tensors if name.startswith(prefix)}


def test_tensors_go_there_and_back_bit_for_bit() -> None:
    originals = {"a.q.weight": torch.randn(6, 4, 1, 1), "a.bias": torch.tensor([float("nan"), -0.0])}
    part = find_tensors("part", FILE, originals, PAIRS)
    assert part.tensors["b.to_q.weight"].shape == (6, 4)
    assert part.names == {"b.to_q.weight": "a.q.weight", "b.bias": "a.bias"}
    back = restore_names(part.tensors, PAIRS)
    assert back.keys() == originals.keys()
    for name, tensor in originals.items():
        assert torch.equal(back[name].view(torch.int32), tensor.view(torch.int32))
        assert back[name].data_ptr() == tensor.data_ptr()  # a view: nothing was copied


@pytest.mark.parametrize("seed", range(30))
def test_any_table_goes_there_and_back_in_both_directions(seed: int) -> None:
    draw = random.Random(seed)
    pairs: list[KeyPair] = []
    originals: dict[str, Tensor] = {}
    blueprint: dict[str, tuple[int, ...]] = {}
    for number in range(draw.randint(1, 12)):
        rows, columns, kind = (
            draw.randint(1, 5),
            draw.randint(1, 5),
            draw.choice(["same", "convolution", "transpose", "packed"]),
        )
        name = f"module.{number}.weight"
        if kind == "packed":
            canonical = [f"ours.{number}.{leaf}" for leaf in range(draw.randint(2, 4))]
            pairs += draw.sample(packed(name, canonical), len(canonical))  # the order of the table decides nothing
            shape: tuple[int, ...] = draw.choice([(rows,), (rows, columns)])
            originals[name] = torch.randn(rows * len(canonical), *shape[1:])
            blueprint |= dict.fromkeys(canonical, shape)
            continue
        transform: Transform = "convolution to linear" if kind == "convolution" else kind  # type: ignore[assignment]
        pairs.append(KeyPair(name, f"ours.{number}", transform))
        originals[name] = torch.randn(rows, columns, 1, 1) if kind == "convolution" else torch.randn(rows, columns)
        blueprint[f"ours.{number}"] = (columns, rows) if kind == "transpose" else (rows, columns)
    draw.shuffle(pairs)
    part = find_tensors("part", FILE, originals, pairs)
    check_parts([(part, blueprint)], hint="")
    assert part.leftover == ()
    back = restore_names(part.tensors, pairs)
    assert back.keys() == originals.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in originals.items())
    again = find_tensors("part", FILE, back, pairs).tensors
    assert again.keys() == part.tensors.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in part.tensors.items())


def test_a_packed_projection_becomes_the_three_of_which_it_was_made() -> None:
    attention = torch.nn.MultiheadAttention(8, 2)
    names = ("q_proj.weight", "k_proj.weight", "v_proj.weight")
    part = find_tensors("text encoder", FILE, dict(attention.named_parameters()), packed("in_proj_weight", names))
    assert part.names == dict.fromkeys(names, "in_proj_weight")
    assert part.leftover == ("in_proj_bias", "out_proj.weight", "out_proj.bias")
    x = torch.randn(5, 8)
    together = torch.nn.functional.linear(x, attention.in_proj_weight)
    apart = [torch.nn.functional.linear(x, part.tensors[name]) for name in names]
    torch.testing.assert_close(torch.cat(apart, dim=1), together)
    assert part.tensors["q_proj.weight"].data_ptr() == attention.in_proj_weight.data_ptr()


def test_pieces_that_are_missing_or_uneven_are_reported() -> None:
    pairs = packed("in_proj_bias", ("q", "k", "v"))
    with pytest.raises(ModelFileError) as caught:
        restore_names({"q": torch.zeros(2), "v": torch.zeros(2)}, pairs)
    assert caught.value.problems == ("k is missing, but in_proj_bias of the original format needs it too",)
    with pytest.raises(ModelFileError, match=r"in_proj_bias has shape \(3,\), expected \(2,\)"):
        check_parts(
            [(find_tensors("part", FILE, {"in_proj_bias": torch.zeros(7)}, pairs), dict.fromkeys("qkv", (2,)))], hint=""
        )
    with pytest.raises(ModelFileError, match=r"in_proj_bias has shape \(\), expected"):
        check_parts([(find_tensors("part", FILE, {"in_proj_bias": torch.zeros(())}, pairs), {"q": (2,)})], hint="")
    absent = find_tensors("part", FILE, {}, pairs)
    with pytest.raises(ModelFileError, match="in_proj_bias is missing"):
        check_parts([(absent, dict.fromkeys("qkv", (2,)))], hint="")


def test_a_projection_that_is_linear_already_stays_as_it_is() -> None:
    part = find_tensors("part", FILE, {"a.q.weight": torch.zeros(6, 4)}, PAIRS)
    assert part.tensors["b.to_q.weight"].shape == (6, 4)


def test_what_belongs_to_no_pair_is_left_over() -> None:
    tensors = {"a.bias": torch.zeros(1), "A.BIAS": torch.ones(1), "c": torch.zeros(1)}
    part = find_tensors("part", FILE, tensors, PAIRS, spelling=str.lower)
    assert part.leftover == ("A.BIAS", "c")
    assert part.tensors["b.bias"] == 0


def test_a_canonical_name_without_a_pair_cannot_be_written() -> None:
    with pytest.raises(ModelFileError, match=r"b\.scale has no name in the original format"):
        restore_names({"b.scale": torch.zeros(1), "b.bias": torch.zeros(1)}, PAIRS)


def test_all_missing_and_wrong_tensors_are_listed_under_the_files_names() -> None:
    part = find_tensors("UNet", FILE, {"A.bias": torch.zeros(3)}, PAIRS, spelling=str.lower)
    with pytest.raises(ModelFileError) as caught:
        check_parts([(part, {"b.to_q.weight": (6, 4), "b.bias": (2,)})], hint="Try again.")
    assert caught.value.problems == (
        "model.ckpt: a.q.weight is missing (UNet, expected shape (6, 4))",
        "model.ckpt: A.bias has shape (3,), expected (2,) (UNet)",
    )
    assert caught.value.hint == "Try again."


def test_long_lists_are_shortened_with_a_count() -> None:
    part = find_tensors("UNet", FILE, {}, [])
    with pytest.raises(ModelFileError) as caught:
        check_parts([(part, {f"weight.{index}": (1,) for index in range(40)})], hint="Try again.")
    assert len(caught.value.problems) == 13
    assert caught.value.problems[-1] == "... and 28 more"


def test_tables_name_every_tensor_of_the_golden_checkpoint(golden_state_dict: dict[str, Tensor]) -> None:
    unet_pairs = unet_keys(unet_layout(golden_state_dict))
    vae_pairs = vae_keys(vae_layout(golden_state_dict))
    unet = find_tensors("UNet", FILE, golden_state_dict, unet_pairs)
    vae = find_tensors("VAE", FILE, golden_state_dict, vae_pairs)
    average = find_tensors("UNet", FILE, golden_state_dict, average_keys(unet_pairs))
    assert {unet.names[name] for name in unet.tensors} == prefixed(golden_state_dict, "model.diffusion_model.")
    assert {vae.names[name] for name in vae.tensors} == prefixed(golden_state_dict, "first_stage_model.")
    assert {average.names[name] for name in average.tensors} == prefixed(golden_state_dict, "model_ema.diffusion_model")
    assert average.tensors.keys() == unet.tensors.keys()


def test_tables_name_every_tensor_of_a_blueprint(tiny: ModelWeights) -> None:
    unet, vae = tiny.family.unet, tiny.family.vae
    assert set(unet_blueprint(unet)) <= {pair.canonical for pair in unet_keys(UNetLayout.of(unet))}
    assert set(vae_blueprint(vae)) <= {pair.canonical for pair in vae_keys(VaeLayout.of(vae))}


@pytest.mark.parametrize(
    "layout",
    [UNetLayout(2, (1, 1, 1, 0), 1), UNetLayout(1, (0, 1, 1), 1), UNetLayout(3, (2,), 4), UNetLayout(2, (0, 2, 10), 10)],
)
def test_a_unets_layout_is_read_from_its_names(layout: UNetLayout) -> None:
    pairs = unet_keys(layout)
    assert unet_layout(pair.original for pair in pairs) == layout
    assert len({pair.original for pair in pairs}) == len({pair.canonical for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("layout", [VaeLayout(4, 2), VaeLayout(3, 1), VaeLayout(1, 3)])
def test_a_vaes_layout_is_read_from_its_names(layout: VaeLayout) -> None:
    pairs = vae_keys(layout)
    assert vae_layout(pair.original for pair in pairs) == layout
    assert len({pair.original for pair in pairs}) == len({pair.canonical for pair in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("leaf", "original", "canonical"),
    [
        ("query", "q", "to_q"),
        ("key", "k", "to_k"),
        ("value", "v", "to_v"),
        ("proj_attn", "proj_out", "to_out.0"),
        ("to_out.0", "proj_out", "to_out.0"),
        ("q", "q", "to_q"),
        ("group_norm", "norm", "group_norm"),
        ("norm", "norm", "group_norm"),
    ],
)
def test_every_spelling_of_the_vaes_attention_is_understood(leaf: str, original: str, canonical: str) -> None:
    theirs = original_attention(f"first_stage_model.encoder.mid.attn_1.{leaf}.weight")
    assert theirs == f"first_stage_model.encoder.mid.attn_1.{original}.weight"
    ours = canonical_attention(f"decoder.mid_block.attentions.0.{leaf}.bias")
    assert ours == f"decoder.mid_block.attentions.0.{canonical}.bias"
    assert original_attention("first_stage_model.encoder.norm_out.weight") == "first_stage_model.encoder.norm_out.weight"
