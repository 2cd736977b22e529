"""A CLIPSeg from a folder, as small as can be and random: what it takes, gives and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.clipseg.configuration_clipseg import CLIPSegConfig
from transformers.models.clipseg.modeling_clipseg import CLIPSegForImageSegmentation

from dreambooth.errors import ModelFileError
from dreambooth.measures.segmenter import load_segmenter

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
PREPROCESSOR = {"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}


def write_clipseg(folder: Path, *, vocabulary: int = 49408) -> Path:
    config = CLIPSegConfig(
        text_config={**TOWER, "vocab_size": vocabulary},
        vision_config={**TOWER, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        extract_layers=[1, 2],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    torch.manual_seed(0)
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder


def test_every_pixel_has_a_probability_that_depends_on_the_words_and_the_photo(tmp_path: Path) -> None:
    segmenter = load_segmenter(write_clipseg(tmp_path), device=torch.device("cpu"))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    dog, cat = (segmenter.probabilities(pixels, words) for words in ("dog", "cat"))
    assert dog.shape == (40, 60) and dog.dtype == torch.float32
    assert dog.min() >= 0 and dog.max() <= 1
    assert not torch.equal(dog, cat)
    assert not torch.equal(dog, segmenter.probabilities(pixels[:, ::-1], "dog"))
    assert torch.equal(dog, segmenter.probabilities(pixels, "dog"))


def test_what_is_no_clipseg_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="its vocabulary has 99 entries; expected that of OpenAI's CLIP, 49408"):
        load_segmenter(write_clipseg(tmp_path / "words", vocabulary=99), device=torch.device("cpu"))
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelFileError, match="holds a model of type 'vit'; expected 'clipseg'"):
        load_segmenter(tmp_path / "vit", device=torch.device("cpu"))
