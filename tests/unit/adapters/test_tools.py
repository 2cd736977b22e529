"""LoRA files made of models and of other LoRA files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dreambooth.adapters.tools import extract_lora, family_of, kept_metadata, merge_loras, resize_lora
from dreambooth.errors import ModelFileError
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.weights.lora_apply import ScaledLora, with_loras
from dreambooth.weights.lora_file import LoraFile, read_lora_file
from dreambooth.weights.lora_write import Adapter, LayerChanges, write_lora
from dreambooth.weights.model_weights import ModelWeights
from tests.lora_changes import random_changes
from tests.random_weights import random_model


@pytest.fixture(scope="module")
def model(miniature: StableDiffusion1) -> ModelWeights:
    return random_model(miniature, seed=0)


def _file(folder: Path, model: ModelWeights, changes: LayerChanges, name: str = "a") -> LoraFile:
    path = folder / f"{name}.safetensors"
    write_lora(path, Adapter(model.family, changes, "kohya"), dtype=torch.float32, metadata={"ss_tag_frequency": "{}"})
    return read_lora_file(path)


def _assert_same(found: ModelWeights, expected: ModelWeights, *, tolerance: float = 1e-5) -> None:
    for part, tensors in expected.parts.items():
        for name, tensor in tensors.items():
            error = (found.parts[part][name] - tensor).norm() / tensor.norm().clamp(min=1e-9)
            assert error < tolerance, f"{part}.{name}"


def test_what_was_added_is_extracted(model: ModelWeights, tmp_path: Path) -> None:
    tuned = with_loras(model, [ScaledLora(_file(tmp_path, model, random_changes(model, "all", rank=3)))])
    found = extract_lora(model, tuned, rank=3, energy=1.0, targets="all")
    assert [(part.title, part.ranks) for part in found.parts] == [("UNet", (3, 3)), ("text encoder", (3, 3))]
    assert all(part.share == pytest.approx(1, abs=1e-4) for part in found.parts)
    assert (found.num_left_out, found.share_left_out) == (0, 0.0)
    _assert_same(with_loras(model, [ScaledLora(_file(tmp_path, model, found.changes, "b"))]), tuned)


def test_a_share_of_the_energy_decides_the_rank_of_each_layer(model: ModelWeights, tmp_path: Path) -> None:
    tuned = with_loras(model, [ScaledLora(_file(tmp_path, model, random_changes(model, "all", rank=3)))])
    found = extract_lora(model, tuned, rank=None, energy=0.5, targets="all")
    assert all(part.ranks[0] < 3 and 0.5 <= part.share < 1 for part in found.parts)
    whole = extract_lora(model, tuned, rank=None, energy=1.0, targets="all")
    assert max(part.ranks[1] for part in whole.parts) <= 4


def test_small_changes_of_the_text_encoder_are_kept(model: ModelWeights) -> None:
    """Other programs drop a text encoder that moved by less than 0.01, which training it hardly ever exceeds."""
    name = "encoder.layers.0.self_attn.q_proj.weight"
    text = {**model.parts["text_encoder"], name: model.parts["text_encoder"][name] + 1e-5}
    found = extract_lora(model, replace(model, parts={**model.parts, "text_encoder": text}), rank=1, energy=1.0, targets="all")
    assert [*found.changes] == ["text_encoder"]
    assert [*found.changes["text_encoder"]] == [name.removesuffix(".weight")]


def test_changes_beyond_the_targets_are_counted(model: ModelWeights) -> None:
    query = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    unet = dict(model.parts["unet"])
    for name, change in ((query, 3.0), ("conv_norm_out.bias", 4.0)):
        unet[name] = unet[name].clone()
        unet[name].flatten()[0] += change
    found = extract_lora(model, replace(model, parts={**model.parts, "unet": unet}), rank=1, energy=1.0, targets="attention")
    assert (found.num_left_out, found.share_left_out) == (1, pytest.approx(16 / 25, rel=1e-5))


def test_models_that_do_not_belong_together_are_refused(model: ModelWeights) -> None:
    with pytest.raises(ModelFileError, match=r"does not differ from .* in any layer that a LoRA changes"):
        extract_lora(model, model, rank=1, energy=1.0, targets="all")
    other = random_model(replace(model.family, text=replace(model.family.text, num_layers=1)), seed=0)  # type: ignore[type-var, attr-defined]
    with pytest.raises(ModelFileError, match="not of the same kind"):
        extract_lora(model, other, rank=1, energy=1.0, targets="all")


def test_merged_files_do_together_what_they_do_one_after_the_other(model: ModelWeights, tmp_path: Path) -> None:
    first = _file(tmp_path, model, random_changes(model, "attention", rank=2, seed=1), "a")
    second = _file(tmp_path, model, random_changes(model, "all", rank=3, seed=2), "b")
    both = [ScaledLora(first, 0.5), ScaledLora(second, -0.75)]
    merged = merge_loras(both, family_of([first, second]))
    ranks = {change.difference.rank for changes in merged.values() for change in changes.values()}
    assert ranks == {3, 5}
    _assert_same(with_loras(model, [ScaledLora(_file(tmp_path, model, merged, "c"))]), with_loras(model, both))


def test_a_resized_file_is_the_nearest_of_its_rank(model: ModelWeights, tmp_path: Path) -> None:
    file = _file(tmp_path, model, random_changes(model, "all", rank=4))
    changes, parts = resize_lora(file, family_of([file]), rank=2, energy=1.0)
    expected = extract_lora(model, with_loras(model, [ScaledLora(file)]), rank=2, energy=1.0, targets="all")
    assert [part.ranks for part in parts] == [(2, 2), (2, 2)]
    for found, other in zip(parts, expected.parts, strict=True):
        assert found.share == pytest.approx(other.share, rel=1e-3)
    grown, _ = resize_lora(file, family_of([file]), rank=8, energy=1.0)
    _assert_same(with_loras(model, [ScaledLora(_file(tmp_path, model, grown, "b"))]), with_loras(model, [ScaledLora(file)]))
    assert changes.keys() == grown.keys()


def test_norms_cannot_be_merged_or_resized(model: ModelWeights, tmp_path: Path) -> None:
    file = _file(tmp_path, model, random_changes(model, "attention", has_norms=True))
    with pytest.raises(ModelFileError, match="only pairs of two matrices can be resized") as raised:
        resize_lora(file, family_of([file]), rank=1, energy=1.0)
    assert "lora merge --model MODEL" in str(raised.value.hint)
    with pytest.raises(ModelFileError, match="only pairs of two matrices can be merged into one file"):
        merge_loras([ScaledLora(file)], family_of([file]))


def test_a_file_of_no_known_family_is_refused_by_a_layer(model: ModelWeights, tmp_path: Path) -> None:
    file = _file(tmp_path, model, random_changes(model, "attention"))
    with pytest.raises(ModelFileError, match="lora_unet_x is no layer of a Stable Diffusion 1 or a"):
        family_of([replace(file, layers={"lora_unet_x": {}})])


def test_metadata_of_the_old_file_do_not_outlive_it() -> None:
    said = {"ss_network_dim": "4", "sshs_model_hash": "x", "modelspec.hash_sha256": "y", "format": "pt", "ss_seed": "1"}
    assert kept_metadata(said) == {"ss_seed": "1"}
