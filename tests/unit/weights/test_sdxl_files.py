"""Stable Diffusion XL in files: nothing is lost on the way from one form to the other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dreambooth.errors import ModelFileError
from dreambooth.families.text_keys import SDXL_OPEN_CLIP_PREFIX, SDXL_TEXT_PREFIX
from dreambooth.weights.distilled import check_not_distilled
from dreambooth.weights.products import WholeModel
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_diffusers_folder, write_single_file

SECOND = SDXL_OPEN_CLIP_PREFIX
LOGIT_SCALE = f"{SECOND}logit_scale"


@pytest.fixture(scope="module")
def folder(golden_xl_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("xl") / "folder"
    write_diffusers_folder(path, read_model(str(golden_xl_checkpoint)), dtype=torch.float32, metadata={})
    return path


def test_every_tensor_of_the_original_file_is_part_of_the_model(golden_xl_checkpoint: Path) -> None:
    report = read_model(str(golden_xl_checkpoint)).report
    assert (report.title, report.leftover, report.notes, report.all_warnings) == ("Stable Diffusion XL", (), (), ())
    assert [part.title for part in report.parts] == ["UNet", "VAE", "first text encoder", "second text encoder"]


def test_there_and_back_is_bit_identical(golden_xl_checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    original = load_file(golden_xl_checkpoint)
    again = tmp_path / "again.safetensors"
    write_single_file(again, read_model(str(golden_xl_checkpoint)), dtype=None, metadata={})
    written = load_file(again)
    assert written.keys() == original.keys()
    assert all(written[name].dtype == tensor.dtype and torch.equal(written[name], tensor) for name, tensor in original.items())
    back = tmp_path / "back.safetensors"
    write_single_file(back, read_model(str(folder)), dtype=None, metadata={})
    returned = load_file(back)
    assert returned.keys() == original.keys()
    for name, tensor in original.items():
        assert torch.equal(returned[name], tensor.float() if tensor.is_floating_point() else tensor), name


def test_a_folder_of_another_program_has_no_logit_scale_and_gets_the_published_one(folder: Path, tmp_path: Path) -> None:
    (folder / "text_encoder_2" / "unused_weights.safetensors").rename(tmp_path / "kept")
    try:
        model = read_model(str(folder))
    finally:
        (tmp_path / "kept").rename(folder / "text_encoder_2" / "unused_weights.safetensors")
    path = tmp_path / "model.safetensors"
    write_single_file(path, model, dtype=torch.float16, metadata={})
    assert float(load_file(path)[LOGIT_SCALE]) == pytest.approx(4.6055)


def test_trained_parts_keep_what_no_module_has(golden_xl_checkpoint: Path) -> None:
    base = read_model(str(golden_xl_checkpoint))
    trained = {name: tensor + 1 for name, tensor in base.parts["text_encoder_2"].items() if name != "logit_scale"}
    product = WholeModel(base).with_parts({"text_encoder_2": trained}).parts["text_encoder_2"]
    assert torch.equal(product["logit_scale"], base.parts["text_encoder_2"]["logit_scale"])
    assert torch.equal(product["text_projection.weight"], trained["text_projection.weight"])


def test_the_files_say_what_they_are(folder: Path, golden_xl_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_single_file(path, read_model(str(golden_xl_checkpoint)), dtype=None, metadata={})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base"
    assert metadata["modelspec.prediction_type"] == "epsilon"
    assert metadata["modelspec.resolution"] == "1024x1024"
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionXLPipeline"
    assert index["force_zeros_for_empty_prompt"] is True
    paddings = [
        json.loads((folder / name / "tokenizer_config.json").read_text())["pad_token"] for name in ("tokenizer", "tokenizer_2")
    ]
    assert paddings == ["<|endoftext|>", "!"]


def test_names_of_other_programs_are_read(golden_xl_checkpoint: Path, tmp_path: Path) -> None:
    """Without the level text_model, with a second encoder's position ids, and with the schedule that a trainer saves."""
    original = load_file(golden_xl_checkpoint)
    others = {
        name.replace(SDXL_TEXT_PREFIX, SDXL_TEXT_PREFIX.removesuffix("text_model.")): one for name, one in original.items()
    }
    others[f"{SECOND}transformer.text_model.embeddings.position_ids"] = torch.arange(77).unsqueeze(0)
    others["denoiser.sigmas"] = torch.zeros(1000)
    save_file(others, tmp_path / "other.safetensors")
    model = read_model(str(tmp_path / "other.safetensors"))
    assert model.report.leftover == ()
    assert model.report.notes == ("text encoder keys lack the prefix text_model.; it was added",)
    assert model.digest() == read_model(str(golden_xl_checkpoint)).digest()


def test_a_file_with_one_text_encoder_is_refused(golden_xl_checkpoint: Path, tmp_path: Path) -> None:
    one = {name: tensor for name, tensor in load_file(golden_xl_checkpoint).items() if not name.startswith(SECOND)}
    save_file(one, tmp_path / "one.safetensors")
    with pytest.raises(ModelFileError, match="without its text_encoder_2"):
        read_model(str(tmp_path / "one.safetensors"))


def test_missing_tensors_are_named_as_the_file_would_name_them(golden_xl_checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(golden_xl_checkpoint)
    del tensors[f"{SECOND}transformer.resblocks.1.attn.in_proj_bias"]
    save_file(tensors, tmp_path / "damaged.safetensors")
    with pytest.raises(ModelFileError, match=r"resblocks\.1\.attn\.in_proj_bias is missing \(second text encoder"):
        read_model(str(tmp_path / "damaged.safetensors"))


def test_a_model_of_the_velocity_says_so_in_both_forms(golden_xl_checkpoint: Path, tmp_path: Path) -> None:
    model = read_model(str(golden_xl_checkpoint))
    family = model.family.with_prediction("velocity", has_zero_terminal_snr=True)
    velocity = replace(model, family=family)
    write_single_file(tmp_path / "v.safetensors", velocity, dtype=None, metadata={})
    write_diffusers_folder(tmp_path / "v", velocity, dtype=None, metadata={})
    assert {"v_pred", "ztsnr"} <= load_file(tmp_path / "v.safetensors").keys()
    scheduler = json.loads((tmp_path / "v" / "scheduler" / "scheduler_config.json").read_text())
    assert (scheduler["prediction_type"], scheduler["rescale_betas_zero_snr"]) == ("v_prediction", True)
    for path in (tmp_path / "v.safetensors", tmp_path / "v"):
        assert read_model(str(path)).family == family


@pytest.mark.parametrize(
    ("name", "metadata", "mark"),
    [
        ("sd_xl_turbo_1.0_fp16.safetensors", {}, "its name says 'turbo'"),
        ("juggernautXL_v9Rdphoto2-Lightning_4S.safetensors", {}, "its name says 'Lightning'"),
        ("stabilityai/sdxl-turbo", {}, "its name says 'turbo'"),
        ("model.safetensors", {"modelspec.title": "A DMD2 merge"}, "modelspec.title says 'DMD2'"),
        ("turbocharged-cars.safetensors", {}, None),
        ("sd_xl_base_1.0.safetensors", {"modelspec.title": "SDXL base"}, None),
    ],
)
def test_distilled_models_are_no_base_for_training(
    golden_xl_checkpoint: Path, name: str, metadata: dict[str, str], mark: str | None
) -> None:
    model = replace(read_model(str(golden_xl_checkpoint)), metadata=metadata)
    if mark is None:
        check_not_distilled(name, model)
        return
    with pytest.raises(ModelFileError) as caught:
        check_not_distilled(name, model)
    assert mark in caught.value.text
    assert "stabilityai/stable-diffusion-xl-base-1.0" in caught.value.text


def test_another_family_may_have_any_name(small_model: Path) -> None:
    check_not_distilled("turbo.safetensors", read_model(str(small_model)))


@torch.no_grad()
@pytest.mark.parametrize("form", ["folder", "single file"])
def test_diffusers_reads_both_forms_and_predicts_the_same(
    folder: Path, golden_xl_checkpoint: Path, tmp_path: Path, form: str
) -> None:
    from diffusers import StableDiffusionXLPipeline

    if form == "folder":
        pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    else:
        path = tmp_path / "model.safetensors"
        write_single_file(path, read_model(str(golden_xl_checkpoint)), dtype=torch.float32, metadata={})
        pipeline = StableDiffusionXLPipeline.from_single_file(str(path), config=str(folder), local_files_only=True)
    prompt, sizes = "photo of a sks container", torch.tensor([[64.0, 64, 0, 0, 64, 64]])
    states, negative, pooled, _ = pipeline.encode_prompt(prompt, device="cpu")
    assert not negative.any()  # without a negative prompt, zeros, as here
    ours = read_model(str(folder)).build(dtype=torch.float32)
    encoded = ours.family.encode_text(ours.parts, ours.family.tokenize(ours.tokenizer, [prompt]))
    assert encoded.pooled_BD is not None
    torch.testing.assert_close(encoded.states_BLD, states, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoded.pooled_BD, pooled, rtol=1e-5, atol=1e-5)
    x_t, t = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    added = {"text_embeds": pooled, "time_ids": sizes}
    eps = pipeline.unet(x_t, t, encoder_hidden_states=states, added_cond_kwargs=added).sample
    mine = ours.family.predict(ours.denoiser, x_t, t, encoded.with_sizes(sizes))
    torch.testing.assert_close(mine, eps, rtol=1e-5, atol=1e-5)
    assert pipeline.vae.config.scaling_factor == 0.13025
