"""LoRA files: their names, reading, applying, writing and describing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.family import Family
from dreambooth.families.full_size import full_size_stable_diffusion_1, full_size_stable_diffusion_xl
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.trainees.settings import LoraForm
from dreambooth.weights.lora_apply import APPLIED, ScaledLora, applied_loras, changes_of, with_loras
from dreambooth.weights.lora_choice import read_loras
from dreambooth.weights.lora_describe import describe_lora, trigger_words
from dreambooth.weights.lora_file import PEFT_CONFIG, is_lora, is_lora_file, read_lora_file
from dreambooth.weights.lora_keys import LayerName, layer_names, names_to_write
from dreambooth.weights.lora_write import Adapter, LayerChanges, write_lora
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.subjects import SUBJECTS
from tests.conftest import GOLDEN
from tests.lora_changes import random_changes
from tests.random_weights import random_model

FORMS: tuple[LoraForm, ...] = ("kohya", "peft")
QUERY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
FLAT = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
LAYER = LayerName("unet", QUERY.removeprefix("unet."))


@pytest.fixture(scope="module")
def model(miniature: StableDiffusion1) -> ModelWeights:
    return random_model(miniature, seed=0)


@pytest.fixture(scope="module")
def changes(model: ModelWeights) -> LayerChanges:
    return random_changes(model, "all")


def _written(folder: Path, model: ModelWeights, changes: LayerChanges, form: LoraForm, **metadata: str) -> Path:
    path = folder / f"{form}.safetensors"
    write_lora(path, Adapter(model.family, changes, form), dtype=torch.float32, metadata=metadata)
    return path


def _saved(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata=metadata)
    return path


def _pair(rank: int = 2, width: int = 32) -> tuple[Tensor, Tensor]:
    return torch.randn(rank, width), torch.randn(width, rank)


@pytest.mark.parametrize(
    ("file", "full", "count"),
    [
        ("kohya_layer_names.txt", full_size_stable_diffusion_1(), 295),
        ("kohya_layer_names_xl.txt", full_size_stable_diffusion_xl(), 281),
    ],
)
def test_every_name_of_kohyas_network_is_a_layer_and_is_written_the_same(file: str, full: Family, count: int) -> None:
    recorded = (GOLDEN / file).read_text(encoding="utf-8").splitlines()
    names, written = layer_names(full), names_to_write(full, "kohya")
    assert len(recorded) == count
    assert [written[names[name]] for name in recorded] == recorded


@pytest.mark.parametrize("form", FORMS)
def test_names_lead_to_a_layer_and_back(form: LoraForm) -> None:
    full = full_size_stable_diffusion_1()
    written = names_to_write(full, form)
    assert len(set(written.values())) == len(written) == 490
    assert all(layer_names(full)[name] == layer for layer, name in written.items())


@pytest.mark.parametrize(
    "name",
    [
        *(FLAT, FLAT.replace("lora_unet", "lycoris"), QUERY, LAYER.layer, f"base_model.model.{LAYER.layer}"),
    ],
)
def test_all_spellings_of_a_layer_are_known(model: ModelWeights, name: str) -> None:
    assert layer_names(model.family)[name] == LAYER


@pytest.mark.parametrize("name", ["lora_te_text_model_", "lora_te1_text_model_", "lora_te_", "lora_te1_"])
def test_the_text_encoder_is_known_with_and_without_its_level_and_number(model: ModelWeights, name: str) -> None:
    found = layer_names(model.family)[f"{name}encoder_layers_1_mlp_fc1"]
    assert found == LayerName("text_encoder", "encoder.layers.1.mlp.fc1")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("has_norms", [False, True])
def test_a_written_file_changes_the_weights_as_its_changes_do(
    form: LoraForm, has_norms: bool, model: ModelWeights, tmp_path: Path
) -> None:
    changes = random_changes(model, "all", has_norms=has_norms)
    file = read_lora_file(_written(tmp_path, model, changes, form))
    assert file.form == form
    applied = with_loras(model, [ScaledLora(file)])
    moved = 0
    for part, tensors in model.parts.items():
        for name, weight in tensors.items():
            change = changes.get(part, {}).get(name.removesuffix(".weight"))
            found = applied.parts[part][name]
            if change is None:
                assert found is weight
            else:
                assert torch.equal(found, change.changed(weight, 1.0))
                moved += int((found - weight).norm() > 0.01 * weight.norm())
    assert moved == sum(map(len, changes.values()))


def test_two_files_are_applied_one_after_the_other_at_their_strengths(model: ModelWeights, tmp_path: Path) -> None:
    first, second = (random_changes(model, "attention", seed=seed) for seed in (1, 2))
    files = [
        read_lora_file(_written(tmp_path, model, first, "kohya")),
        read_lora_file(_written(tmp_path, model, second, "peft")),
    ]
    found = with_loras(model, [ScaledLora(files[0], 0.5), ScaledLora(files[1], -1.0)]).parts["unet"][f"{LAYER.layer}.weight"]
    weight = model.parts["unet"][f"{LAYER.layer}.weight"]
    pairs = [changes["unet"][LAYER.layer].difference.of_shape(weight.shape) for changes in (first, second)]
    torch.testing.assert_close(found, weight + 0.5 * pairs[0] - pairs[1])
    assert with_loras(model, []) is model


def test_a_strength_of_zero_leaves_every_tensor_as_it_is(model: ModelWeights, changes: LayerChanges, tmp_path: Path) -> None:
    file = read_lora_file(_written(tmp_path, model, changes, "kohya"))
    assert with_loras(model, [ScaledLora(file, 0.0)]).digest() == model.digest()


def test_what_was_applied_is_said_with_the_words_for_prompts(
    model: ModelWeights, changes: LayerChanges, tmp_path: Path
) -> None:
    path = _written(tmp_path, model, changes, "kohya", **{"modelspec.trigger_phrase": "sks dog"})
    applied = with_loras(model, [ScaledLora(read_lora_file(path), 0.8)])
    assert applied_loras(applied) == ["LoRA kohya.safetensors at strength 0.8; words for prompts: sks dog"]
    assert json.loads(applied.metadata[APPLIED])[0]["strength"] == 0.8


def test_a_missing_alpha_means_the_rank(model: ModelWeights, tmp_path: Path) -> None:
    down, up = _pair(rank=4)
    file = read_lora_file(_saved(tmp_path / "a.safetensors", {f"{FLAT}.lora_down.weight": down, f"{FLAT}.lora_up.weight": up}))
    change = changes_of(file, model.family)["unet"][f"{LAYER.layer}.weight"]
    torch.testing.assert_close(change.difference.of_shape(torch.Size([32, 32])), up @ down)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"unet.r": 4, "unet.lora_alpha": 8}, 2.0),
        ({"unet.r": 4, "unet.lora_alpha": 8, "unet.use_rslora": True}, 4.0),
        ({"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 12}}, 3.0),
        ({"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"attn2.to_q": 12}}, 2.0),
        ({"text_encoder.r": 4, "text_encoder.lora_alpha": 8}, 1.0),
    ],
)
def test_alpha_is_read_from_pefts_configuration(
    settings: dict[str, object], scale: float, model: ModelWeights, tmp_path: Path
) -> None:
    down, up = _pair(rank=4)
    tensors = {f"{QUERY}.lora_A.weight": down, f"{QUERY}.lora_B.weight": up}
    file = read_lora_file(_saved(tmp_path / "a.safetensors", tensors, {PEFT_CONFIG: json.dumps(settings)}))
    change = changes_of(file, model.family)["unet"][f"{LAYER.layer}.weight"]
    torch.testing.assert_close(change.difference.of_shape(torch.Size([32, 32])), scale * up @ down)


def test_names_of_old_diffusers_are_read(model: ModelWeights, tmp_path: Path) -> None:
    down, up = _pair()
    block = QUERY.removesuffix("to_q")
    tensors = {
        f"{block}processor.to_out_lora.down.weight": down,
        f"{block}processor.to_out_lora.up.weight": up,
        f"{QUERY}.lora.down.weight": down,
        f"{QUERY}.lora.up.weight": up,
    }
    found = changes_of(read_lora_file(_saved(tmp_path / "a.safetensors", tensors)), model.family)["unet"]
    assert set(found) == {f"{LAYER.layer}.weight", f"{LAYER.layer.removesuffix('to_q')}to_out.0.weight"}


def test_a_folder_of_peft_is_read_with_its_configuration(model: ModelWeights, tmp_path: Path) -> None:
    down, up = _pair(rank=4)
    name = f"base_model.model.{LAYER.layer}"
    _saved(tmp_path / "adapter_model.safetensors", {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up})
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 16}', encoding="utf-8")
    change = changes_of(read_lora_file(tmp_path), model.family)["unet"][f"{LAYER.layer}.weight"]
    torch.testing.assert_close(change.difference.of_shape(torch.Size([32, 32])), 4 * up @ down)
    assert is_lora_file(tmp_path)


def test_hadamard_and_kronecker_products_whole_differences_and_norms_are_applied(model: ModelWeights, tmp_path: Path) -> None:
    key, value, out = (FLAT.replace("to_q", layer) for layer in ("to_k", "to_v", "to_out_0"))
    norm = FLAT.replace("attn1_to_q", "norm1")
    drawn = {
        **{f"{FLAT}.hada_{name}": torch.randn(32, 2) for name in ("w1_a", "w2_a")},
        **{f"{FLAT}.hada_{name}": torch.randn(2, 32) for name in ("w1_b", "w2_b")},
        **{f"{key}.lokr_w1": torch.randn(4, 4), f"{key}.lokr_w2": torch.randn(8, 8), f"{key}.alpha": torch.tensor(5.0)},
        **{f"{value}.diff": torch.randn(32, 32), f"{out}.diff_b": torch.randn(32), f"{out}.diff": torch.randn(32, 32)},
        **{f"{norm}.w_norm": torch.randn(32), f"{norm}.b_norm": torch.randn(32)},
    }
    file = read_lora_file(_saved(tmp_path / "a.safetensors", drawn))
    found, before = with_loras(model, [ScaledLora(file)]).parts["unet"], model.parts["unet"]
    block = LAYER.layer.removesuffix("attn1.to_q")
    expected = {
        "attn1.to_q.weight": torch.mul(*(drawn[f"{FLAT}.hada_w{n}_a"] @ drawn[f"{FLAT}.hada_w{n}_b"] for n in (1, 2))),
        "attn1.to_k.weight": torch.kron(drawn[f"{key}.lokr_w1"], drawn[f"{key}.lokr_w2"]),
        "attn1.to_v.weight": drawn[f"{value}.diff"],
        "attn1.to_out.0.weight": drawn[f"{out}.diff"],
        "attn1.to_out.0.bias": drawn[f"{out}.diff_b"],
        "norm1.weight": drawn[f"{norm}.w_norm"],
        "norm1.bias": drawn[f"{norm}.b_norm"],
    }
    for name, difference in expected.items():
        torch.testing.assert_close(found[block + name], before[block + name] + difference)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lora_unet_x.oft_blocks", "OFT"),
        ("lora_unet_x.on_input", r"\(IA\)3"),
        ("lora_unet_x.a1.weight", "GLoRA"),
        ("base_model.model.x.vera_lambda_b", "VeRA"),
        ("base_model.model.x.boft_R", "BOFT"),
        ("base_model.model.x.hra_u", "HRA"),
        ("transformer.x.lora_A.weight", "diffusion transformer"),
        ("unet.x.lora_B.bias", "biases"),
    ],
)
def test_kinds_that_are_not_supported_are_refused_by_name(name: str, kind: str, tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.safetensors", {name: torch.ones(2, 2), "lora_unet_y.lora_up.weight": torch.ones(2, 2)})
    with pytest.raises(ModelFileError, match=rf"this is .*{kind}.*not supported; it holds {re.escape(name)}"):
        read_lora_file(path)


def test_a_tensor_of_no_kind_is_refused_by_name(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.safetensors", {f"{FLAT}.lora_sideways": torch.ones(2), f"{FLAT}.lora_up.weight": torch.ones(2)})
    with pytest.raises(ModelFileError, match=r"belong to no known kind of LoRA: .*lora_sideways"):
        read_lora_file(path)


def test_a_file_that_is_no_lora_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.safetensors", {"conv_in.weight": torch.ones(2)})
    with pytest.raises(ModelFileError, match=r"not a LoRA file; it holds conv_in\.weight"):
        read_lora_file(path)
    assert not is_lora_file(path)


def test_learned_words_beside_the_layers_are_noticed(model: ModelWeights, tmp_path: Path) -> None:
    down, up = _pair()
    tensors = {
        f"{FLAT}.lora_down.weight": down,
        f"{FLAT}.lora_up.weight": up,
        "bundle_emb.rex.string_to_param.*": torch.ones(1, 64),
    }
    file = read_lora_file(_saved(tmp_path / "a.safetensors", tensors))
    assert file.embeddings == ("rex",)
    assert list(file.layers) == [FLAT]


def test_a_file_for_another_model_is_refused_with_the_layers_that_differ(
    model: ModelWeights, changes: LayerChanges, tmp_path: Path
) -> None:
    file = read_lora_file(_written(tmp_path, model, changes, "kohya"))
    smaller = random_model(replace(model.family, text=replace(model.family.text, num_layers=1)), seed=0)  # type: ignore[type-var, attr-defined]
    with pytest.raises(ModelFileError, match=r"(?s)no layer lora_te_text_model_encoder_layers_1.*2 more layers") as raised:
        with_loras(smaller, [ScaledLora(file)])
    assert "dreambooth inspect" in str(raised.value.hint)


def test_changes_of_other_sizes_are_refused(model: ModelWeights, tmp_path: Path) -> None:
    down, up = _pair(width=48)
    path = _saved(tmp_path / "a.safetensors", {f"{FLAT}.lora_down.weight": down, f"{FLAT}.lora_up.weight": up})
    with pytest.raises(ModelFileError, match=r"attn1\.to_q\.weight has other sizes: \(48, 48\) does not fit \(32, 32\)"):
        with_loras(model, [ScaledLora(read_lora_file(path))])


def test_half_a_layer_is_refused(model: ModelWeights, tmp_path: Path) -> None:
    path = _saved(tmp_path / "a.safetensors", {f"{FLAT}.lora_down.weight": torch.ones(2, 32)})
    with pytest.raises(ModelFileError, match="attn1_to_q has no up"):
        with_loras(model, [ScaledLora(read_lora_file(path))])


def test_files_are_named_with_and_without_a_strength(model: ModelWeights, changes: LayerChanges, tmp_path: Path) -> None:
    path = _written(tmp_path, model, changes, "kohya")
    colon = _saved(tmp_path / "odd:2", load_file(path))
    found = read_loras([f"{path}:0.75", str(path), f"{path}:-1", str(colon), f"{colon}:.5"])
    assert [(one.file.path, one.strength) for one in found] == [
        (path, 0.75),
        (path, 1.0),
        (path, -1.0),
        (colon, 1.0),
        (colon, 0.5),
    ]


def test_all_problems_of_the_named_files_are_said_together(tmp_path: Path) -> None:
    other = _saved(tmp_path / "a.safetensors", {"conv_in.weight": torch.ones(2)})
    with pytest.raises(SettingsError, match=r"(?s)gone\.safetensors:0\.5: no such file.*not a LoRA file"):
        read_loras([f"{tmp_path}/gone.safetensors:0.5", str(other)])


@pytest.mark.parametrize("form", FORMS)
def test_a_written_file_says_what_it_is(form: LoraForm, model: ModelWeights, changes: LayerChanges, tmp_path: Path) -> None:
    path = _written(tmp_path, model, changes, form, **{"modelspec.title": "rex", "ss_tag_frequency": '{"img": {"sks dog": 5}}'})
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert said["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert (said["modelspec.title"], said["ss_base_model_version"], said["ss_network_dim"]) == ("rex", "sd_v1", "2")
    assert (said["ss_network_alpha"], said["ss_network_module"], said["ss_v2"]) == ("3", "networks.lora", "False")
    assert said["modelspec.hash_sha256"] == f"0x{said['sshs_model_hash']}"
    assert (PEFT_CONFIG in said) == (form == "peft")
    described = describe_lora(read_lora_file(path))
    assert (described.made_for, described.kinds, described.triggers) == ("Stable Diffusion 1", ("LoRA",), ("sks dog",))
    assert [(part.title, part.ranks, part.alphas) for part in described.parts] == [
        ("UNet", (2,), (3.0,)),
        ("text encoder", (2,), (3.0,)),
    ]
    for part, found in zip(("unet", "text_encoder"), described.parts, strict=True):
        differences = [
            change.difference.of_shape(model.parts[part][f"{layer}.weight"].shape) for layer, change in changes[part].items()
        ]
        assert found.norm == pytest.approx(sum(float(one.square().sum()) for one in differences) ** 0.5, rel=1e-5)


def test_alphas_and_norms_stay_in_float32(model: ModelWeights, tmp_path: Path) -> None:
    changes = random_changes(model, "attention", alpha=3.0001, has_norms=True)
    path = tmp_path / "a.safetensors"
    write_lora(path, Adapter(model.family, changes, "kohya"), dtype=torch.float16, metadata={})
    dtypes = {name.rpartition(".lora")[1] or name.rpartition(".")[2]: tensor.dtype for name, tensor in load_file(path).items()}
    assert dtypes == {".lora": torch.float16, "alpha": torch.float32, "dora_scale": torch.float32}


def test_a_lora_without_metadata_is_told_by_the_width_of_the_text_it_reads(tmp_path: Path) -> None:
    name = f"{FLAT.replace('attn1_to_q', 'attn2_to_k')}"
    tensors = {f"{name}.lora_down.weight": torch.ones(2, 2048), f"{name}.lora_up.weight": torch.ones(32, 2)}
    assert describe_lora(read_lora_file(_saved(tmp_path / "a.safetensors", tensors))).made_for == "Stable Diffusion XL"


@pytest.mark.parametrize("damaged", ["{", "[1]", '{"img": 3}', "null"])
def test_damaged_tags_are_no_words(damaged: str) -> None:
    assert trigger_words({"ss_tag_frequency": damaged, "modelspec.trigger_phrase": "rex"}) == ("rex",)


def test_words_of_several_subjects_are_told_once() -> None:
    subjects = '[{"token": "sks", "class_word": "mug"}, {"token": "mwf", "class_word": "vase"}]'
    found = trigger_words({"modelspec.trigger_phrase": "sks mug, mwf vase", SUBJECTS: subjects})
    assert found == ("sks mug", "mwf vase")


def test_tensors_of_whole_models_are_no_lora(model: ModelWeights) -> None:
    assert not is_lora([name for part in model.parts.values() for name in part])
    assert is_lora([f"{FLAT}.alpha"])
