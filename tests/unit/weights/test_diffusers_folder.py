"""Folders in the form of diffusers, in every variant that is met."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_diffusers_folder

PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@pytest.fixture
def folder(tiny: ModelWeights, tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    write_diffusers_folder(path, tiny, dtype=None, metadata={"made by": "a test"})
    return path


def weights_file(folder: Path, part: str) -> Path:
    return folder / part / f"{PARTS[part]}.safetensors"


def change(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def assert_same(found: ModelWeights, expected: ModelWeights) -> None:
    assert found.family == expected.family
    assert found.digest() == expected.digest()


def test_folder(tiny: ModelWeights, folder: Path) -> None:
    found = read_model(str(folder))
    assert_same(found, tiny)
    report = found.report
    assert (report.source, report.form, report.formats, report.unet_weights) == (
        folder,
        "diffusers folder",
        ("safetensors",),
        "only",
    )
    assert (report.leftover, report.notes, report.also_there) == ((), (), None)
    assert [part.path for part in report.parts] == [weights_file(folder, part) for part in PARTS]
    assert found.metadata == {"made by": "a test"}


def test_configuration_files_are_not_needed(tiny: ModelWeights, folder: Path) -> None:
    for name in ("model_index.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"):
        (folder / name).unlink()
    assert_same(read_model(str(folder)), tiny)


def test_pickled_parts(tiny: ModelWeights, folder: Path) -> None:
    names = {"unet": "diffusion_pytorch_model.bin", "vae": "diffusion_pytorch_model.bin", "text_encoder": "pytorch_model.bin"}
    for part, name in names.items():
        torch.save(load_file(weights_file(folder, part)), folder / part / name)
        weights_file(folder, part).unlink()
    found = read_model(str(folder))
    assert_same(found, tiny)
    assert found.report.formats == ("pickle",)


def test_half_precision_is_read_only_where_there_is_no_other(tiny: ModelWeights, folder: Path) -> None:
    for part, stem in PARTS.items():
        halves = {name: tensor.half() for name, tensor in load_file(weights_file(folder, part)).items()}
        change(folder / part / f"{stem}.fp16.safetensors", halves)
    assert_same(read_model(str(folder)), tiny)
    weights_file(folder, "unet").unlink()
    found = read_model(str(folder))
    assert [part.dtypes for part in found.report.parts] == [
        {"float16": len(tiny.parts["unet"])},
        {"float32": len(tiny.parts["vae"])},
        {"float32": len(tiny.parts["text_encoder"])},
    ]


def test_last_weights_beside_the_average(tiny: ModelWeights, folder: Path) -> None:
    last = {name: tensor - 1 for name, tensor in tiny.parts["unet"].items()}
    change(folder / "unet" / "diffusion_pytorch_model.non_ema.safetensors", last)
    averaged = read_model(str(folder))
    assert_same(averaged, tiny)
    assert averaged.report.unet_weights == "ema"
    assert averaged.report.also_there == "diffusion_pytorch_model.non_ema.safetensors; --weights raw reads it"
    raw = read_model(str(folder), weights="raw")
    assert raw.report.unet_weights == "raw"
    assert raw.report.also_there == "diffusion_pytorch_model.safetensors; --weights ema reads it"
    assert torch.equal(raw.parts["unet"]["conv_in.bias"], last["conv_in.bias"])


def test_a_folder_of_the_average_beside_the_unet(tiny: ModelWeights, folder: Path) -> None:
    average = {name: tensor - 1 for name, tensor in tiny.parts["unet"].items()}
    (folder / "unet_ema").mkdir()
    change(folder / "unet_ema" / "diffusion_pytorch_model.safetensors", average)
    averaged = read_model(str(folder))
    assert (averaged.report.unet_weights, averaged.report.also_there) == (
        "ema",
        "diffusion_pytorch_model.safetensors; --weights raw reads it",
    )
    assert torch.equal(averaged.parts["unet"]["conv_in.bias"], average["conv_in.bias"])
    raw = read_model(str(folder), weights="raw")
    assert raw.report.also_there == "unet_ema/diffusion_pytorch_model.safetensors; --weights ema reads it"
    assert_same(raw, tiny)


def test_bfloat16_variants(tiny: ModelWeights, folder: Path) -> None:
    for part, stem in PARTS.items():
        halves = {name: tensor.bfloat16() for name, tensor in load_file(weights_file(folder, part)).items()}
        change(folder / part / f"{stem}.bf16.safetensors", halves)
        weights_file(folder, part).unlink()
    found = read_model(str(folder))
    assert {name for part in found.report.parts for name in part.dtypes} == {"bfloat16"}


def test_weights_in_several_files(tiny: ModelWeights, folder: Path) -> None:
    whole = weights_file(folder, "unet")
    tensors = load_file(whole)
    whole.unlink()
    weight_map = {
        name: f"diffusion_pytorch_model-0000{index % 2 + 1}-of-00002.safetensors" for index, name in enumerate(tensors)
    }
    for shard in set(weight_map.values()):
        change(folder / "unet" / shard, {name: tensors[name] for name in tensors if weight_map[name] == shard})
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    assert_same(read_model(str(folder)), tiny)
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"00002-of-00002\.safetensors: is listed in .*index\.json but missing"):
        read_model(str(folder))


@pytest.mark.parametrize("is_convolution", [True, False])
def test_vae_attention_under_its_old_names(tiny: ModelWeights, folder: Path, is_convolution: bool) -> None:
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = {}
    for name, tensor in load_file(weights_file(folder, "vae")).items():
        for today, before in old.items():
            if today in name:
                name = name.replace(today, before)  # noqa: PLW2901
                tensor = tensor[:, :, None, None] if is_convolution and tensor.ndim == 2 else tensor  # noqa: PLW2901
        tensors[name] = tensor
    change(weights_file(folder, "vae"), tensors)
    found = read_model(str(folder))
    assert_same(found, tiny)
    assert found.report.notes == ("the VAE's attention uses old key names; they were converted",)


def test_text_encoder_without_its_level_and_with_position_ids(tiny: ModelWeights, folder: Path) -> None:
    tensors = {
        name.removeprefix("text_model."): tensor for name, tensor in load_file(weights_file(folder, "text_encoder")).items()
    }
    tensors["embeddings.position_ids"] = torch.arange(77).unsqueeze(0).half()
    change(weights_file(folder, "text_encoder"), tensors)
    found = read_model(str(folder))
    assert_same(found, tiny)
    assert found.report.notes == ("position_ids are float16 instead of int64 and are recreated",)
    assert found.report.leftover == ()


def test_strangers_are_left_over_and_missing_tensors_are_told(tiny: ModelWeights, folder: Path) -> None:
    tensors = load_file(weights_file(folder, "unet"))
    change(weights_file(folder, "unet"), {**tensors, "class_embedding.weight": torch.zeros(2)})
    assert read_model(str(folder)).report.leftover == ("class_embedding.weight",)
    del tensors["mid_block.resnets.1.conv1.weight"]
    change(weights_file(folder, "unet"), tensors)
    with pytest.raises(ModelFileError) as caught:
        read_model(str(folder))
    expected = "mid_block.resnets.1.conv1.weight is missing (UNet, expected shape (64, 64, 3, 3))"
    assert caught.value.problems == (f"{weights_file(folder, 'unet')}: {expected}",)


def test_missing_parts_are_told_together(folder: Path) -> None:
    weights_file(folder, "vae").unlink()
    weights_file(folder, "text_encoder").unlink()
    with pytest.raises(ModelFileError) as caught:
        read_model(str(folder))
    assert caught.value.problems == (
        f"{folder / 'vae'}: no weights here; expected diffusion_pytorch_model.safetensors, .bin, or a variant (.fp16, .bf16)",
        f"{folder / 'text_encoder'}: no weights here; expected model.safetensors, .bin, or a variant (.fp16, .bf16)",
    )


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("text_encoder_3", "a Stable Diffusion 3 model"),
        ("transformer", "a diffusion"),
        ("image_normalizer", "a Stable Diffusion 2.1 unCLIP model"),
        ("depth_estimator", "a Stable Diffusion 2 depth model"),
    ],
)
def test_other_families_are_named(folder: Path, part: str, kind: str) -> None:
    (folder / part).mkdir()
    with pytest.raises(ModelFileError, match=f"this is {kind}"):
        read_model(str(folder))


def test_the_refiner_is_named(folder: Path) -> None:
    (folder / "text_encoder").rename(folder / "text_encoder_2")
    with pytest.raises(ModelFileError, match=r"this is the Stable Diffusion XL refiner.*stable-diffusion-xl-base"):
        read_model(str(folder))


def test_the_scheduler_says_what_the_model_predicts(folder: Path) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({"prediction_type": "v_prediction"}), encoding="utf-8")
    read = read_model(str(folder))
    assert read.family.prediction == "velocity"
    assert "stated by prediction_type v_prediction" in read.report.prediction


def test_a_damaged_configuration_file_is_named(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"scheduler_config\.json: not a JSON file"):
        read_model(str(folder))


def test_a_folder_that_is_no_model_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelFileError, match=r"not a model folder: expected unet, vae and text_encoder.*found notes\.txt"):
        read_model(str(tmp_path))
