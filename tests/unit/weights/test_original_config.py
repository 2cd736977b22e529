from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.original_config import check_original_config
from dreambooth.weights.read import read_model


def changed(config: Path, folder: Path, **changes: object) -> Path:
    """A copy of the YAML with some of the leaves, found by their own name, changed."""

    def change(value: object) -> object:
        if isinstance(value, dict):
            return {key: changes[key] if key in changes else change(inner) for key, inner in value.items()}
        return value

    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(change(yaml.safe_load(config.read_text(encoding="utf-8")))), encoding="utf-8")
    return path


def test_the_golden_yaml_agrees_with_the_golden_checkpoint(golden_checkpoint: Path, golden_config: Path) -> None:
    found = read_model(str(golden_checkpoint), config=golden_config)
    assert found.family.unet.widths == (32, 32, 64, 64)


def test_every_contradiction_is_told(golden_checkpoint: Path, golden_config: Path, tmp_path: Path) -> None:
    path = changed(
        golden_config,
        tmp_path,
        context_dim=1024,
        channel_mult=[1, 2, 4, 4],
        attention_resolutions=[2, 1],
        num_heads=4,
        linear_end=0.02,
    )
    with pytest.raises(ModelFileError) as caught:
        read_model(str(golden_checkpoint), config=path)
    unet = "model.params.unet_config.params"
    assert set(caught.value.problems) == {
        f"{path}: model.params.linear_end is 0.02; this model needs 0.012",
        f"{path}: {unet}.num_heads is 4; this model needs 8",
        f"{path}: {unet}.context_dim is 1024; this model needs 64",
        f"{path}: {unet}.channel_mult is [1, 2, 4, 4]; this model needs [1, 1, 2, 2]",
        f"{path}: {unet}.attention_resolutions is [2, 1]; this model needs [1, 2, 4]",
    }
    assert caught.value.hint == "Give the YAML that belongs to the checkpoint, or omit --config."


def test_another_text_encoder_is_a_contradiction(golden_config: Path, tmp_path: Path, tiny: ModelWeights) -> None:
    text_encoder = {"target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder"}
    path = changed(golden_config, tmp_path, cond_stage_config=text_encoder)
    with pytest.raises(ModelFileError, match=r"FrozenOpenCLIPEmbedder'; the model's text encoder is CLIP's"):
        check_original_config(path, tiny.family)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 800\n", "not in the format of the original code"),
        ("- a\n", "expected a mapping"),
        ("a: [", "not a YAML file"),
    ],
)
def test_other_yaml_files_are_refused(tiny: ModelWeights, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelFileError, match=message):
        check_original_config(path, tiny.family)
