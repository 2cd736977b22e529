"""The size of a model's pictures: 512 unless its file or folder says another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import Tensor

from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import is_embedded, read_model
from dreambooth.weights.write import write_diffusers_folder, write_single_file


@pytest.mark.parametrize(
    ("stated", "side"),
    [
        ("64x64", 64),
        ("768x768", 768),
        ("512x768", 512),  # not a square: which side would it be
        ("65x65", 512),  # latents are two pixels wide
        ("32x32", 512),  # smaller than anybody may ask for
        ("9000x9000", 512),
        ("large", 512),
        ("", 512),
    ],
)
def test_a_file_says_it_in_its_metadata(checkpoint: dict[str, Tensor], tmp_path: Path, stated: str, side: int) -> None:
    path = tmp_path / "model.safetensors"
    save_file({n: t.contiguous() for n, t in checkpoint.items()}, path, metadata={"modelspec.resolution": stated})
    assert read_model(str(path)).family.resolution == side


def test_it_survives_a_folder_and_a_file(tiny: ModelWeights, tmp_path: Path) -> None:
    small = tiny.made_for(96)
    assert (tiny.family.resolution, small.family.resolution) == (512, 96)
    write_diffusers_folder(tmp_path / "folder", small, dtype=None, metadata={})
    config = json.loads((tmp_path / "folder" / "unet" / "config.json").read_text(encoding="utf-8"))
    assert config["sample_size"] == 48
    read = read_model(str(tmp_path / "folder"))
    assert read.family == small.family
    write_single_file(tmp_path / "again.safetensors", read, dtype=None, metadata={})
    assert read_model(str(tmp_path / "again.safetensors")).family == small.family


@pytest.mark.parametrize("size", ['"big"', "null", "[64, 64]"])
def test_a_folder_with_another_kind_of_size_is_for_512(tiny: ModelWeights, tmp_path: Path, size: str) -> None:
    write_diffusers_folder(tmp_path / "folder", tiny.made_for(96), dtype=None, metadata={})
    (tmp_path / "folder" / "unet" / "config.json").write_text(f'{{"sample_size": {size}}}', encoding="utf-8")
    assert read_model(str(tmp_path / "folder")).family.resolution == 512


def test_only_the_bare_word_names_the_model_that_ships() -> None:
    assert is_embedded("toybox")
    assert not is_embedded("./toybox")
    assert not is_embedded("Toybox")
