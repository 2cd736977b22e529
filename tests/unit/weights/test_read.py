"""One file, in every variant that is met."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model

Tensors = dict[str, Tensor]
Save = Callable[[Tensors], Path]

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."


def assert_same(found: ModelWeights, expected: ModelWeights) -> None:
    assert found.family == expected.family
    assert found.parts.keys() == expected.parts.keys()
    for name, wanted in expected.parts.items():
        tensors = found.parts[name]
        assert tensors.keys() == wanted.keys()
        assert all(torch.equal(tensors[name], tensor) for name, tensor in wanted.items())


def with_averages(checkpoint: Tensors) -> Tensors:
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor + 0.01
        for name, tensor in checkpoint.items()
        if name.startswith(UNET)
    }
    return {**checkpoint, **averages, "model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}


def renamed(checkpoint: Tensors, old: str, new: str) -> Tensors:
    return {name.replace(old, new): tensor for name, tensor in checkpoint.items()}


def test_safetensors(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    path = save(checkpoint)
    found = read_model(str(path))
    assert_same(found, tiny)
    report = found.report
    assert (report.source, report.form, report.formats, report.title) == (
        path,
        "single file",
        ("safetensors",),
        "Stable Diffusion 1",
    )
    assert (report.unet_weights, report.also_there, report.leftover, report.notes) == ("only", None, (), ())
    assert [(part.title, part.num_tensors, part.dtypes) for part in report.parts] == [
        ("UNet", len(tiny.parts["unet"]), {"float32": len(tiny.parts["unet"])}),
        ("VAE", len(tiny.parts["vae"]), {"float32": len(tiny.parts["vae"])}),
        ("text encoder", len(tiny.parts["text_encoder"]), {"float32": len(tiny.parts["text_encoder"])}),
    ]
    assert report.parts[2].num_parameters == sum(tensor.numel() for tensor in tiny.parts["text_encoder"].values())


@pytest.mark.parametrize("is_nested", [True, False])
def test_pickle(tiny: ModelWeights, checkpoint: Tensors, tmp_path: Path, is_nested: bool) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": checkpoint, "global_step": 12} if is_nested else checkpoint, path)
    found = read_model(str(path))
    assert_same(found, tiny)
    assert found.report.formats == ("pickle",)
    assert found.report.bookkeeping == ({"global_step": "12"} if is_nested else {})


def test_golden_checkpoint_is_read_without_its_callback(golden_checkpoint: Path) -> None:
    report = read_model(str(golden_checkpoint)).report
    assert report.neutralised == ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)
    assert report.leftover == ()
    assert report.unet_weights == "ema"


def test_averages_are_read_by_default_and_the_report_says_so(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    found = read_model(str(save(with_averages(checkpoint))))
    assert found.report.unet_weights == "ema"
    assert found.report.also_there == "the last weights (model.diffusion_model.*); --weights raw reads them"
    assert found.report.leftover == ()
    assert all(torch.equal(found.parts["unet"][name], tensor + 0.01) for name, tensor in tiny.parts["unet"].items())
    assert all(torch.equal(found.parts["vae"][name], tensor) for name, tensor in tiny.parts["vae"].items())


def test_last_weights_are_read_when_asked_for(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    found = read_model(str(save(with_averages(checkpoint))), weights="raw")
    assert_same(found, tiny)
    assert found.report.unet_weights == "raw"
    assert found.report.also_there == "their moving average (model_ema.*); --weights ema reads it"
    assert found.report.leftover == ()


def test_incomplete_averages_are_an_error_with_a_way_out(checkpoint: Tensors, save: Save) -> None:
    tensors = with_averages(checkpoint)
    del tensors["model_ema.diffusion_modelout2bias"]
    with pytest.raises(ModelFileError, match=r"model_ema\.diffusion_modelout2bias is missing") as caught:
        read_model(str(save(tensors)))
    assert caught.value.hint == "--weights raw reads the other UNet weights of this file."


def test_pruned_file_with_rounded_schedule_and_positions(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    path = save({name: tensor.half() for name, tensor in checkpoint.items()})
    found = read_model(str(path))
    assert found.report.notes == (
        "schedule buffers were rounded to half precision and are recomputed",
        "position_ids are float16 instead of int64 and are recreated",
    )
    assert found.report.parts[0].dtypes == {"float16": len(tiny.parts["unet"])}
    assert abs(float(found.family.schedule.alpha_bar_T[0]) - 0.99915) < 1e-9
    assert torch.equal(found.parts["unet"]["conv_in.weight"], tiny.parts["unet"]["conv_in.weight"].half())


def test_schedule_rounded_and_widened_again_is_noticed(checkpoint: Tensors, save: Save) -> None:
    exact = checkpoint["alphas_cumprod"]
    for rounded in (exact.half().float(), exact.bfloat16().float(), exact.bfloat16().half()):
        report = read_model(str(save(checkpoint | {"alphas_cumprod": rounded}))).report
        assert report.notes == ("schedule buffers were rounded to half precision and are recomputed",)
        assert report.warnings == ()


def test_another_schedule_is_noticed(checkpoint: Tensors, save: Save) -> None:
    checkpoint["alphas_cumprod"] = checkpoint["alphas_cumprod"] * 0.9
    (note,) = read_model(str(save(checkpoint))).report.notes
    assert note.startswith("the stored schedule is not the family's own")
    checkpoint["alphas_cumprod"] = torch.ones(50)
    (note,) = read_model(str(save(checkpoint))).report.notes
    assert note == "the stored schedule has 50 timesteps; the family's 1000 are used instead"


def test_no_schedule_and_no_position_ids(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    weights = {name: tensor for name, tensor in checkpoint.items() if name.startswith((UNET, VAE, TEXT))}
    del weights[TEXT + "embeddings.position_ids"]
    found = read_model(str(save(weights)))
    assert_same(found, tiny)
    assert (found.report.notes, found.report.leftover) == ((), ())


def test_text_encoder_without_its_level(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    found = read_model(str(save(renamed(checkpoint, ".transformer.text_model.", ".transformer."))))
    assert_same(found, tiny)
    assert found.report.notes == ("text encoder keys lack the prefix text_model.; it was added",)
    assert found.report.leftover == ()


@pytest.mark.parametrize("is_linear", [True, False])
@pytest.mark.parametrize(
    "leaves", [("query", "key", "value", "proj_attn"), ("to_q", "to_k", "to_v", "to_out.0"), ("q", "k", "v", "proj_out")]
)
def test_vae_attention_in_every_spelling(
    tiny: ModelWeights, checkpoint: Tensors, save: Save, leaves: tuple[str, ...], is_linear: bool
) -> None:
    for old, new in zip(("q", "k", "v", "proj_out"), leaves, strict=True):
        checkpoint = renamed(checkpoint, f".attn_1.{old}.", f".attn_1.{new}.")
    if is_linear:
        checkpoint = {
            name: tensor[:, :, 0, 0] if ".attn_1." in name and tensor.ndim == 4 else tensor
            for name, tensor in checkpoint.items()
        }
    found = read_model(str(save(checkpoint)))
    assert_same(found, tiny)
    assert found.report.leftover == ()


def test_bookkeeping_is_known_and_strangers_are_left_over_by_name(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    checkpoint |= {name: torch.zeros(2) for name in ("logvar", "lvlb_weights", VAE + "loss.logvar")}
    strangers = [UNET + "input_blocks.99.0.weight", TEXT + "pooler.weight", "cond_stage_model.logit_scale", "extra.bias"]
    checkpoint |= {name: torch.zeros(2) for name in strangers}
    found = read_model(str(save(checkpoint)))
    assert_same(found, tiny)
    assert found.report.leftover == tuple(sorted(strangers))


def test_a_shortcut_where_none_belongs_is_left_over(tiny: ModelWeights, checkpoint: Tensors, save: Save) -> None:
    name = UNET + "input_blocks.1.0.skip_connection.weight"
    found = read_model(str(save({**checkpoint, name: torch.zeros(32, 32, 1, 1)})))
    assert_same(found, tiny)
    assert found.report.leftover == (name,)


def test_missing_and_wrong_tensors_of_all_parts_are_told_together(checkpoint: Tensors, save: Save) -> None:
    del checkpoint[UNET + "middle_block.1.transformer_blocks.0.attn2.to_k.weight"]
    del checkpoint[TEXT + "encoder.layers.1.mlp.fc1.bias"]
    checkpoint[VAE + "decoder.mid.attn_1.k.weight"] = torch.zeros(64, 32, 1, 1)
    checkpoint[UNET + "out.0.bias"] = torch.zeros(33)
    path = save(checkpoint)
    with pytest.raises(ModelFileError) as caught:
        read_model(str(path))
    assert caught.value.problems == (
        f"{path}: {UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight is missing (UNet, expected shape (64, 64))",
        f"{path}: {TEXT}encoder.layers.1.mlp.fc1.bias is missing (text encoder, expected shape (96,))",
        f"{path}: {UNET}out.0.bias has shape (33,), expected (32,) (UNet)",
        f"{path}: {VAE}decoder.mid.attn_1.k.weight has shape (64, 32), expected (64, 64) (VAE)",
    )
    assert str(caught.value.hint).startswith("The file is damaged")


def test_a_missing_part_is_named(checkpoint: Tensors, save: Save) -> None:
    without_text = {name: tensor for name, tensor in checkpoint.items() if not name.startswith("cond_stage_model.")}
    with pytest.raises(ModelFileError, match="the file has no text encoder"):
        read_model(str(save(without_text)))


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_model(str(path))
    assert caught.value.hint is not None
    assert "Supported are Stable Diffusion 1.x, 2.x and XL" in caught.value.hint
    return caught.value.problems[0]


def test_a_model_that_varies_images_is_named(checkpoint: Tensors, save: Save) -> None:
    path = save(
        {**checkpoint, "noise_augmentor.betas": torch.zeros(10), "model.diffusion_model.label_emb.0.0.bias": torch.zeros(9)}
    )
    assert refusal(path) == f"{path}: this is a Stable Diffusion 2.1 unCLIP checkpoint (it varies images)"


def test_the_refiner_is_named(checkpoint: Tensors, save: Save) -> None:
    path = save({**checkpoint, "conditioner.embedders.0.model.ln_final.weight": torch.zeros(1280)})
    assert refusal(path).startswith(f"{path}: this is the Stable Diffusion XL refiner")


def test_inpainting_is_named(checkpoint: Tensors, save: Save) -> None:
    path = save({**checkpoint, UNET + "input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)})
    assert refusal(path) == (f"{path}: this is an inpainting model: its UNet takes 9 channels where text-to-image has 4")


def test_parts_and_additions_are_named(checkpoint: Tensors, save: Save) -> None:
    vae = {name.removeprefix(VAE): tensor for name, tensor in checkpoint.items() if name.startswith(VAE)}
    assert "this is a bare VAE" in refusal(save(vae))
    text = {"text_model." + name.removeprefix(TEXT): tensor for name, tensor in checkpoint.items() if name.startswith(TEXT)}
    assert "this is a bare text encoder" in refusal(save(text))
    assert "this is a LoRA" in refusal(save({"lora_unet_mid_block.lora_up.weight": torch.zeros(2, 2)}))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file or folder") as caught:
        read_model(str(tmp_path / "model.ckpt"))
    assert "a hub id such as owner/name" in str(caught.value.hint)
    with pytest.raises(ModelFileError, match=r"^models/model\.ckpt: no such file"):  # not a hub id: it ends like a file
        read_model("models/model.ckpt")


def test_a_hub_id_is_fetched_only_when_there_is_no_such_path(
    tiny: ModelWeights, checkpoint: Tensors, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = save(checkpoint), []

    def fetch(hub_id: str) -> Path:
        asked.append(hub_id)
        return path

    monkeypatch.setattr("dreambooth.weights.hub.fetch", fetch)
    assert_same(read_model("someone/tiny-model_1.5"), tiny)
    assert asked == ["someone/tiny-model_1.5"]
    monkeypatch.chdir(tmp_path)
    Path("someone").mkdir()
    path.rename("someone/tiny-model_1.5")
    assert_same(read_model("someone/tiny-model_1.5"), tiny)
    assert len(asked) == 1
    with pytest.raises(ModelFileError, match="no such file or folder"):
        read_model("someone/tiny-model")  # a folder here has the owner's name: a path, misspelt
    assert len(asked) == 1
