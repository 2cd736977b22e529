"""A BLIP from a folder, as small as can be and random: what it answers and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.blip.configuration_blip import BlipConfig
from transformers.models.blip.modeling_blip import BlipForQuestionAnswering

from dreambooth.errors import ModelFileError
from dreambooth.measures.captioner import load_captioner

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
PREPROCESSOR = {"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "sofa", "beach", "sun", "where", "is", "the", "dog", "?"]


def write_blip(folder: Path) -> Path:
    of_text = {"vocab_size": len(WORDS), "bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "encoder_hidden_size": 16}
    config = BlipConfig(
        text_config={**TOWER, **of_text, "projection_dim": 16},
        vision_config={**TOWER, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    torch.manual_seed(0)
    BlipForQuestionAnswering(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return folder


def test_answers_are_words_and_the_same_each_time(tmp_path: Path) -> None:
    captioner = load_captioner(write_blip(tmp_path), device=torch.device("cpu"))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    answer = captioner.answer(pixels, "where is the dog?")
    assert answer == captioner.answer(pixels, "where is the dog?")
    assert answer and set(answer.replace("?", " ? ").split()) <= set(WORDS[6:]) | {"[UNK]"}


def test_what_answers_no_questions_is_refused(tmp_path: Path) -> None:
    folder = write_blip(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BlipForConditionalGeneration"]}))
    with pytest.raises(ModelFileError, match="holds a BlipForConditionalGeneration; expected a BlipForQuestionAnswering"):
        load_captioner(folder, device=torch.device("cpu"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "clip"}))
    with pytest.raises(ModelFileError, match="holds a model of type 'clip'; expected 'blip'"):
        load_captioner(folder, device=torch.device("cpu"))
