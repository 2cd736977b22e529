"""Encoders from folders in the library's layout, on tiny models with random weights."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.clip.configuration_clip import CLIPConfig
from transformers.models.clip.modeling_clip import CLIPModel
from transformers.models.vit.configuration_vit import ViTConfig
from transformers.models.vit.modeling_vit import ViTModel

from dreambooth.diffusion.randomness import seeded
from dreambooth.errors import ModelFileError
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.measures.encoders import ClipEncoder, VitEncoder, load_clip, load_vit

CPU = torch.device("cpu")
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SEEN = {"image_size": 32, "patch_size": 8}
MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
PREPROCESSOR = {"size": 32, "crop_size": 32, "do_center_crop": True, "image_mean": MEAN, "image_std": DEVIATION}


def tiny_clip(vocabulary: int = 49408) -> CLIPModel:
    text = {**TOWER, "vocab_size": vocabulary, "max_position_embeddings": 77, "bos_token_id": 49406, "eos_token_id": 49407}
    config = CLIPConfig(text_config=text, vision_config={**TOWER, **SEEN}, projection_dim=8)
    with seeded(0):
        return CLIPModel(config).eval()


def tiny_vit() -> ViTModel:
    with seeded(1):
        return ViTModel(ViTConfig(**TOWER, **SEEN)).eval()


def folder_of(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tiny_clip(), tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tiny_vit(), tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> ClipEncoder:
    return load_clip(clip_folder, name="tiny CLIP", device=CPU)


@pytest.fixture(scope="module")
def vit(vit_folder: Path) -> VitEncoder:
    return load_vit(vit_folder, name="tiny ViT", device=CPU)


def pixels(num: int, height: int = 32, width: int = 32) -> Tensor:
    eight_bits = torch.randint(256, (num, 3, height, width), generator=torch.Generator().manual_seed(0))
    return eight_bits.float() / 255


def normalised(pixels_BCHW: Tensor) -> Tensor:
    return (pixels_BCHW - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)


@torch.no_grad()
def test_clips_picture_features_are_those_of_its_own_forward_pass(clip: ClipEncoder) -> None:
    ids = torch.tensor([[49406, 49407]])
    expected = tiny_clip()(input_ids=ids, pixel_values=normalised(pixels(3))).image_embeds
    found = clip.encode(pixels(3))
    assert found.shape == (3, 8) and found.dtype == torch.float32
    torch.testing.assert_close(found / found.norm(dim=1, keepdim=True), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_clips_text_features_are_those_of_its_own_forward_pass(clip: ClipEncoder) -> None:
    captions = ["photo of a dog", "a teapot on the moon"]
    tokenizer = StableDiffusion1.load_tokenizer()
    found = clip.encode_text(captions)
    assert found.shape == (2, 8) and found.dtype == torch.float32
    for caption, features in zip(captions, found, strict=True):  # without padding: what follows the end is not read
        ids = torch.tensor([tokenizer(caption).input_ids])
        expected = tiny_clip()(input_ids=ids, pixel_values=normalised(pixels(1))).text_embeds[0]
        torch.testing.assert_close(features / features.norm(), expected, rtol=1e-4, atol=1e-5)


def test_a_caption_that_is_too_long_is_cut(clip: ClipEncoder) -> None:
    assert torch.equal(clip.encode_text(["dog " * 200]), clip.encode_text(["dog " * 75]))


@torch.no_grad()
def test_the_vits_feature_is_its_first_token_after_the_norm(vit: VitEncoder) -> None:
    expected = tiny_vit()(pixel_values=normalised(pixels(3))).last_hidden_state[:, 0]
    found = vit.encode(pixels(3))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_pictures_of_any_size_are_prepared(clip: ClipEncoder, vit: VitEncoder) -> None:
    for encoder in (clip, vit):
        wide = pixels(2, 40, 56)
        expected = encoder.encode(wide)
        assert expected.shape[0] == 2
        alone = torch.cat([encoder.encode(wide[:1]), encoder.encode(wide[1:])])
        torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_bare", [True, False])
def test_both_forms_in_which_the_library_gives_projected_features_are_read(clip: ClipEncoder, is_bare: bool) -> None:
    given = torch.arange(8.0).view(1, 8)
    output = given if is_bare else SimpleNamespace(pooler_output=given)
    model = SimpleNamespace(
        device=CPU,
        config=clip.model.config,
        get_image_features=lambda pixel_values: output,
        get_text_features=lambda input_ids: output,
    )
    encoder = ClipEncoder("fake", model, clip.preprocessing)
    assert torch.equal(encoder.encode(pixels(1)), given)
    assert torch.equal(encoder.encode_text(["a dog"]), given)


def test_the_digest_follows_weights_and_preprocessing(clip_folder: Path, clip: ClipEncoder, tmp_path: Path) -> None:
    assert load_clip(clip_folder, name="another name", device=CPU).digest == clip.digest
    other = tmp_path / "other"
    shutil.copytree(clip_folder, other)
    (other / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSOR, "size": 40}))
    assert load_clip(other, name="tiny CLIP", device=CPU).digest != clip.digest
    model = tiny_clip()
    with torch.no_grad():
        model.logit_scale += 1
    changed = load_clip(folder_of(model, tmp_path / "changed"), name="tiny CLIP", device=CPU)
    assert changed.digest != clip.digest


def test_loading_says_nothing_and_asks_for_no_gradients(vit_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("transformers").addHandler(listener)
    try:
        encoder = load_vit(vit_folder, name="tiny ViT", device=CPU)  # its pooler is in the file and not read
    finally:
        logging.getLogger("transformers").removeHandler(listener)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert heard == []
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_a_folder_that_is_none_or_holds_something_else_is_refused(tmp_path: Path, vit_folder: Path, clip_folder: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nowhere: no such folder(.|\n)*hf download openai/clip-vit-base-patch32"):
        load_clip(tmp_path / "nowhere", name="", device=CPU)
    with pytest.raises(ModelFileError, match=r"holds no config.json(.|\n)*hf download facebook/dino-vits16"):
        load_vit(tmp_path, name="", device=CPU)
    with pytest.raises(ModelFileError, match="holds a model of type 'vit'; expected 'clip'"):
        load_clip(vit_folder, name="", device=CPU)
    with pytest.raises(ModelFileError, match="holds a model of type 'clip'; expected 'vit'"):
        load_vit(clip_folder, name="", device=CPU)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelFileError, match="cannot be read as a model configuration"):
        load_vit(tmp_path, name="", device=CPU)


def test_a_model_that_is_not_whole_is_refused_and_not_filled_with_random_numbers(vit_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(vit_folder, broken)
    tensors = load_file(broken / "model.safetensors")
    del tensors["layernorm.weight"]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match=r"1 tensor missing from the model's weights: layernorm\.weight"):
        load_vit(broken, name="", device=CPU)
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        load_vit(broken, name="", device=CPU)
    (broken / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"cannot be loaded(.|\n)*model.safetensors \(or pytorch_model.bin\)"):
        load_vit(broken, name="", device=CPU)


def test_pictures_of_another_size_than_the_model_takes_are_refused(vit_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(vit_folder, other)
    (other / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSOR, "size": 64, "crop_size": 48}))
    with pytest.raises(ModelFileError, match="makes 48-pixel images; the model takes 32"):
        load_vit(other, name="", device=CPU)


def test_a_clip_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tiny_clip(vocabulary=50_000), tmp_path / "clip")
    with pytest.raises(ModelFileError, match="its vocabulary has 50000 entries; expected that of OpenAI's CLIP, 49408"):
        load_clip(folder, name="", device=CPU)


def test_weights_in_the_older_file_are_read_alike(vit: VitEncoder, vit_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    older = tmp_path / "older"
    shutil.copytree(vit_folder, older)
    torch.save(load_file(older / "model.safetensors"), older / "pytorch_model.bin")
    (older / "model.safetensors").unlink()
    assert load_vit(older, name="older", device=CPU).digest == vit.digest
