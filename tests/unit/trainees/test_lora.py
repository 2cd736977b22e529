"""LoRA as a trainee: the model itself stays as it is, bit for bit, and what is learned is a difference of its weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreambooth.cli.main import main
from dreambooth.config import effective_values, parse_settings
from dreambooth.diffusion.low_rank import Change
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.components import Components
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.memory.recompute import recompute_activations
from dreambooth.memory.settings import Checkpointing
from dreambooth.memory.streaming import StreamedBlocks
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainees.choice import make_trainee
from dreambooth.trainees.full import FullTrainee
from dreambooth.trainees.lora import LoraTrainee
from dreambooth.trainees.parts import what_learns
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.weights.lora_apply import ScaledLora, with_loras
from dreambooth.weights.lora_describe import describe_lora
from dreambooth.weights.lora_file import read_lora_file
from dreambooth.weights.lora_keys import num_lora_parameters
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.products import WholeModel
from tests.random_weights import random_model

KINDS: list[dict[str, Any]] = [
    {},
    {"dora": True},
    {"lora_kind": "loha"},
    {"lora_kind": "lokr"},
    {"lora_kind": "lokr", "rank": 999},
]


@pytest.fixture(scope="module")
def model(miniature: StableDiffusion1) -> ModelWeights:
    return random_model(miniature, seed=0)


@pytest.fixture
def components(model: ModelWeights) -> Iterator[Components]:
    yield model.build(dtype=torch.float32)


def _trainee(components: Components, seed: int = 0, **settings: Any) -> LoraTrainee:
    asked = TraineeSettings(trainee="lora", **{"rank": 2, **settings})
    trainee = make_trainee(components, asked, learning_rate=1e-3, dtype=torch.float32, seed=seed)
    assert isinstance(trainee, LoraTrainee)
    return trainee


def _learned(trainee: LoraTrainee) -> None:
    """Move the second matrices away from zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in trainee.parameters.items():
            if name.endswith((".up", ".norms", ".w2", ".w2_a", ".w2_b")):
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def _prediction(components: Components, parts: Mapping[str, nn.Module] | None = None) -> Tensor:
    family, parts = components.family, components.parts if parts is None else parts
    ids_BL = family.tokenize(components.tokenizer, ["a sks dog"])
    x_BCHW = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    return family.predict(parts["unet"], x_BCHW, torch.tensor([300]), family.encode_text(parts, ids_BL))


@pytest.mark.parametrize("settings", KINDS)
def test_a_new_one_predicts_what_the_base_model_does_bit_for_bit(settings: dict[str, Any], components: Components) -> None:
    before = _prediction(components).detach()
    _trainee(components, targets="all", **settings)
    assert torch.equal(_prediction(components), before)


def test_detached_it_is_the_base_model_and_attached_again_what_it_has_learned(
    model: ModelWeights, components: Components
) -> None:
    before = _prediction(components).detach()
    trainee = _trainee(components, targets="all")
    _learned(trainee)
    learned = _prediction(components).detach()
    assert (learned - before).norm() > 0.1 * before.norm()
    trainee.detach(WholeModel(model))
    assert torch.equal(_prediction(components), before)
    states = components.family.state_dicts(components.parts)
    for part, tensors in model.parts.items():
        assert {name: tensor.shape for name, tensor in states[part].items()} == {n: t.shape for n, t in tensors.items()}
        assert all(torch.equal(states[part][name], tensor) for name, tensor in tensors.items())
    trainee.attach()
    assert torch.equal(_prediction(components), learned)


@pytest.mark.parametrize(
    "settings",
    [
        *({}, {"targets": "attention"}, {"targets": "transformer"}, {"alpha": 5.0}, {"rank_stabilized": True, "rank": 3}),
        *({"dora": True}, {"dora": True, "lora_form": "peft"}, {"dora": True, "targets": "attention"}),
        *({"lora_kind": "loha", "alpha": 1.0}, {"lora_kind": "lokr", "alpha": 1.0}, {"lora_kind": "lokr", "rank": 999}),
    ],
)
def test_its_product_applied_to_the_base_model_predicts_the_same(
    settings: dict[str, Any], model: ModelWeights, components: Components, tmp_path: Any
) -> None:
    trainee = _trainee(components, **{"targets": "all", **settings})
    _learned(trainee)
    product = trainee.product(WholeModel(model), gather=lambda tensors: tensors)
    product.write(tmp_path / "rex.safetensors", dtype=torch.float32, metadata={})
    applied = with_loras(model, [ScaledLora(read_lora_file(tmp_path / "rex.safetensors"))])
    expected, found = _prediction(components), _prediction(applied.build(dtype=torch.float32))
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("settings", KINDS)
def test_everything_it_trains_and_nothing_else_gets_a_gradient(settings: dict[str, Any], components: Components) -> None:
    trainee = _trainee(components, targets="all", **settings)
    _learned(trainee)
    _prediction(components).square().sum().backward()  # type: ignore[no-untyped-call]
    unused = {name for name, parameter in trainee.parameters.items() if parameter.grad is None}
    assert unused == set()
    assert all(parameter.grad is None for module in components.parts.values() for parameter in module.parameters())
    assert [group.name for group in trainee.groups] == ["unet", "text_encoder"]
    assert len(trainee.parameters) == sum(len(group.parameters) for group in trainee.groups)


@pytest.mark.parametrize("where", ["outer", "all"])
def test_recomputed_activations_change_no_gradient(where: Checkpointing, model: ModelWeights) -> None:
    gradients = []
    for checkpointing in ("off", where):
        components = model.build(dtype=torch.float32)
        trainee = _trainee(components, targets="all")
        _learned(trainee)
        inner = components.family.inner_blocks(components.denoiser)
        recompute_activations(trainee.parts.values(), checkpointing, inner_blocks=inner)
        with trainee.train_mode():
            _prediction(components).square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append({name: parameter.grad for name, parameter in trainee.parameters.items()})
    for name, expected in gradients[0].items():
        assert expected is not None
        assert torch.equal(gradients[1][name], expected)  # type: ignore[arg-type]


def test_streamed_blocks_change_no_gradient(model: ModelWeights) -> None:
    gradients = []
    for streams in (False, True):
        components = model.build(dtype=torch.float32)
        blocks = components.family.blocks_to_stream(components.denoiser) if streams else ()
        StreamedBlocks(blocks, torch.device("cpu")).attach()
        trainee = _trainee(components, targets="all")
        _learned(trainee)
        recompute_activations(trainee.parts.values(), "all")
        with trainee.train_mode():
            _prediction(components).square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([parameter.grad for parameter in trainee.parameters.values()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))  # type: ignore[arg-type]


def test_bfloat16_weights_take_the_adapters_in_either_format(model: ModelWeights) -> None:
    expected = _prediction(model.build(dtype=torch.float32)).detach()
    for dtype in (torch.float32, torch.bfloat16):
        components = model.build(dtype=torch.bfloat16)
        asked = TraineeSettings(trainee="lora", rank=2)
        make_trainee(components, asked, learning_rate=1e-3, dtype=dtype, seed=0)
        with torch.autocast("cpu", torch.bfloat16):
            found = _prediction(components).float()
        assert (found - expected).norm() < 0.05 * expected.norm()


def test_its_first_matrices_depend_on_the_seed_and_the_layer_alone(model: ModelWeights) -> None:
    few, many, other = (
        _trainee(model.build(dtype=torch.float32), seed, targets=targets).parameters
        for seed, targets in ((0, "attention"), (0, "all"), (1, "attention"))
    )
    assert set(few) < set(many)
    assert all(torch.equal(few[name], many[name]) for name in few)
    assert all(torch.equal(few[name], other[name]) == name.endswith(".up") for name in few)
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.down"
    assert float(few[name].detach().std()) == pytest.approx((1 / (3 * 64)) ** 0.5, rel=0.2)


def test_parts_have_their_learning_rates_and_a_text_encoder_may_stay_out(components: Components) -> None:
    both = _trainee(components, text_encoder_learning_rate=1e-5)
    assert {group.name: group.learning_rate for group in both.groups} == {"unet": 1e-3, "text_encoder": 1e-5}
    alone = _trainee(components, train_text_encoder=False)
    assert [*alone.parts] == ["unet"]
    assert all(name.startswith("unet.") for name in alone.parameters)


def test_the_second_matrices_may_learn_faster(components: Components) -> None:
    trainee = _trainee(components, lora_plus_ratio=16.0, train_text_encoder=False)
    assert {group.name: group.learning_rate for group in trainee.groups} == {"unet": 1e-3, "unet second": 16e-3}
    assert all(name.endswith(".up") for name in trainee.groups[1].parameters)
    assert len(trainee.parameters) == 2 * len(trainee.groups[1].parameters)


@dataclass(frozen=True)
class Examples:
    keys: tuple[tuple[str | int, ...], ...]


def test_an_example_does_without_the_same_ranks_however_the_batch_is_cut(components: Components) -> None:
    trainee = _trainee(components, rank=4, targets="all", lora_dropout=0.5)
    _learned(trainee)
    assert trainee.dropout is not None
    family, keys = components.family, ((3, "instance", 0), (3, "prior", 1), (4, "prior", 1))
    x_BCHW, t_B = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([300, 20, 20])
    ids_BL = family.tokenize(components.tokenizer, ["a sks dog", "a dog", "a dog"])

    def predicted(rows: list[int]) -> Tensor:
        return family.predict(
            components.denoiser, x_BCHW[rows], t_B[rows], family.encode_text(components.parts, ids_BL[rows])
        ).detach()

    def dropped(rows: list[int]) -> Tensor:
        assert trainee.dropout is not None
        [found] = [predicted(rows) for _ in trainee.dropout.during([Examples(tuple(keys[row] for row in rows))])]
        return found

    together, whole = dropped([0, 1, 2]), predicted([0, 1, 2])
    for row in range(3):
        torch.testing.assert_close(dropped([row])[0], together[row], rtol=1e-4, atol=1e-5)
    assert (together - whole).norm() > 0.01 * whole.norm(), "ranks are missing"
    factors = trainee.dropout._drawn(keys[0])
    assert set(factors.unique().tolist()) == {0.0, 2.0} and not torch.equal(factors, trainee.dropout._drawn(keys[1]))
    assert not torch.equal(trainee.dropout._drawn(keys[1]), trainee.dropout._drawn(keys[2]))


def test_a_model_with_two_text_encoders_is_trained_whole(miniature_xl: StableDiffusionXL, tmp_path: Any) -> None:
    base = random_model(miniature_xl, seed=0)
    components = base.build(dtype=torch.float32)
    trainee = _trainee(components, targets="all", text_encoder_learning_rate=1e-4, text_encoder_2_learning_rate=1e-5)
    rates = {"unet": 1e-3, "text_encoder": 1e-4, "text_encoder_2": 1e-5}
    assert {group.name: group.learning_rate for group in trainee.groups} == rates
    _learned(trainee)

    def predicted(components: Components) -> Tensor:
        family, x_BCHW = components.family, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        conditioning = family.encode_text(components.parts, family.tokenize(components.tokenizer, ["a sks dog"]))
        sizes_B6 = torch.tensor([[64.0, 64, 0, 0, 64, 64]])
        return family.predict(components.denoiser, x_BCHW, torch.tensor([300]), conditioning.with_sizes(sizes_B6))

    expected = predicted(components)
    expected.square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in trainee.parameters.values())
    trainee.product(WholeModel(base), gather=dict).write(tmp_path / "a.safetensors", dtype=torch.float32, metadata={})
    file = read_lora_file(tmp_path / "a.safetensors")
    assert {layer[:9] for layer in file.layers} == {"lora_unet", "lora_te1_", "lora_te2_"}
    assert file.metadata["ss_base_model_version"] == "sdxl_base_v1-0"
    found = predicted(with_loras(base, [ScaledLora(file)]).build(dtype=torch.float32))
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_stabilized_ranks_are_written_with_the_alpha_that_means_the_same_elsewhere(
    model: ModelWeights, components: Components, tmp_path: Any
) -> None:
    trainee = _trainee(components, rank=4, alpha=2.0, rank_stabilized=True)
    trainee.product(WholeModel(model), gather=dict).write(tmp_path / "a.safetensors", dtype=torch.float16, metadata={})
    alphas = {float(fields["alpha"]) for fields in read_lora_file(tmp_path / "a.safetensors").layers.values()}
    assert alphas == {2.0 * 4**0.5}


@pytest.mark.parametrize("settings", KINDS)
def test_its_numbers_are_counted_in_advance(settings: dict[str, Any], components: Components) -> None:
    asked = TraineeSettings(trainee="lora", **{"rank": 2, "targets": "all", **settings})
    trainee = _trainee(components, targets="all", **settings)
    counted = sum(parameter.numel() for parameter in trainee.parameters.values())
    assert num_lora_parameters(components.family, asked) == counted


def test_the_modes_of_the_parts_come_back(components: Components) -> None:
    trainee = _trainee(components)
    components.denoiser.train()
    with trainee.train_mode():
        assert all(module.training for module in trainee.parts.values())
    assert components.denoiser.training
    assert not components.parts["text_encoder"].training


def test_the_full_trainee_is_still_the_default(components: Components) -> None:
    trainee = make_trainee(components, TraineeSettings(), learning_rate=1e-6, dtype=torch.float32, seed=0)
    assert isinstance(trainee, FullTrainee)


VALUES = {"rank": 4, "alpha": 1.0, "targets": "all", "dora": True, "rank_stabilized": True}
VALUES |= {"lora_kind": "loha", "lora_plus_ratio": 16.0, "lora_dropout": 0.5, "lora_form": "peft"}


@pytest.mark.parametrize("name", VALUES)
def test_settings_of_a_lora_have_no_effect_on_full_training(name: str) -> None:
    with pytest.raises(SettingsError, match=f"trainee is full, so {name} would have no effect"):
        parse_settings(TraineeSettings, {name: VALUES[name]}, where="test")
    assert getattr(parse_settings(TraineeSettings, {"trainee": "lora", name: VALUES[name]}, where="test"), name) == VALUES[name]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"lora_kind": "OFT"}, "OFT is not trained here: it turns a layer's outputs"),
        ({"lora_kind": "boft"}, "boft is not trained here: it turns a layer's outputs"),
        ({"lora_kind": "hra"}, "hra is not trained here: no program but PEFT reads its files"),
        ({"lora_kind": "vera"}, "vera is not trained here: no program but PEFT reads its files"),
        *(({"lora_kind": kind}, f"{kind} is not trained here: it takes a part out") for kind in ("pissa", "olora", "eva")),
        ({"lora_kind": "dora"}, "use --dora"),
        ({"lora_kind": "locon"}, "use --targets all"),
        ({"lora_kind": "loha", "dora": True}, "dora: only for lora_kind lora, since loha has no pair of two matrices"),
        ({"lora_kind": "lokr", "lora_form": "peft"}, "lora_form: only for lora_kind lora"),
        ({"lora_kind": "lokr", "lora_plus_ratio": 4.0}, "lora_plus_ratio: only for lora_kind lora"),
    ],
)
def test_kinds_that_are_not_trained_are_refused_by_name(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(problem)):
        parse_settings(TraineeSettings, {"trainee": "lora", **settings}, where="test")


@pytest.mark.parametrize(("kind", "module"), [("loha", "LoHa"), ("lokr", "LoKr")])
def test_a_file_of_lycoris_says_so_and_is_converted_as_it_is(
    kind: str, module: str, model: ModelWeights, components: Components, tmp_path: Any
) -> None:
    trainee = _trainee(components, lora_kind=kind, targets="all")
    _learned(trainee)
    trainee.product(WholeModel(model), gather=dict).write(tmp_path / "a.safetensors", dtype=torch.float32, metadata={})
    file = read_lora_file(tmp_path / "a.safetensors")
    assert json.loads(file.metadata["ss_network_args"]) == {"algo": kind}
    described = describe_lora(file)
    assert described.kinds == (module,)
    assert all(part.ranks == (2,) and part.alphas == (2.0,) and part.norm > 0 for part in described.parts)
    assert (
        main(["lora", "convert", str(file.path), str(tmp_path / "b.safetensors"), "--form", "kohya", "--dtype", "float32"]) == 0
    )
    again = read_lora_file(tmp_path / "b.safetensors")
    for layer, fields in file.layers.items():
        assert all(torch.equal(again.layers[layer][name], tensor) for name, tensor in fields.items())
    with pytest.raises(ModelFileError, match="for which PEFT's form has no names"):
        product = WholeModel(model).with_changes({"unet": dict(_changes(trainee, "unet"))}, "peft")
        product.write(tmp_path / "c.safetensors", dtype=torch.float32, metadata={})


def _changes(trainee: LoraTrainee, part: str) -> Iterator[tuple[str, Change]]:
    [layer, *_] = trainee._pairs[part].items()
    yield layer[0], layer[1].change


def test_norms_and_streamed_blocks_exclude_each_other() -> None:
    lora, memory = {"trainee": "lora", "dora": True}, {"stream_blocks": True}
    with pytest.raises(SettingsError, match="dora measures the weights of each layer, which stream_blocks moves away"):
        parse_settings(TrainSettings, {**REQUIRED, "trainee": lora, "memory": memory}, where="test")


def test_a_lora_has_no_token_table() -> None:
    with pytest.raises(SettingsError, match="trainee is lora, so train_token_table would have no effect"):
        parse_settings(TraineeSettings, {"trainee": "lora", "train_token_table": False}, where="test")


REQUIRED = {"base": {"model": "toybox"}, "subject": {"photos": "photos", "class_word": "dog"}}


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"output": {"file_layout": "xavierxiao"}}, "a LoRA is a .safetensors file"),
        ({"memory": {"shard": True}}, "those of a LoRA are few"),
        ({"prior": {"keep_predictions": False}}, "keep_predictions would have no effect with trainee lora"),
    ],
)
def test_what_a_lora_cannot_use_is_refused(sections: dict[str, Any], problem: str) -> None:
    parse_settings(TrainSettings, {**REQUIRED, **sections}, where="test")
    with pytest.raises(SettingsError, match=re.escape(problem)):
        parse_settings(TrainSettings, {**REQUIRED, **sections, "trainee": {"trainee": "lora"}}, where="test")


def test_the_written_settings_of_a_lora_are_read_again() -> None:
    settings = parse_settings(TrainSettings, {**REQUIRED, "trainee": {"trainee": "lora", "rank": 4}}, where="test")
    assert parse_settings(TrainSettings, effective_values(settings), where="test") == settings


def test_messages_name_rank_and_alpha() -> None:
    lora = TraineeSettings(trainee="lora", rank=8)
    assert what_learns(lora, "UNet") == "a LoRA of rank 8 for UNet"
    assert what_learns(lora.model_copy(update={"alpha": 1.0}), "UNet") == "a LoRA of rank 8, alpha 1 for UNet"
    assert what_learns(lora.model_copy(update={"dora": True}), "UNet") == "a DoRA of rank 8 for UNet"
    assert what_learns(TraineeSettings(), "UNet") == "UNet"
