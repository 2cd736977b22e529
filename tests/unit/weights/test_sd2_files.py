"""Stable Diffusion 2 in both forms: nothing is lost on the way, and other programs compute the same with what is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.families.components import Components
from dreambooth.families.prediction_probe import Probe
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_diffusers_folder, write_single_file

UNUSED = "cond_stage_model.model.transformer.resblocks.3."


@pytest.fixture(scope="module")
def original(golden_v2_checkpoint: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = torch.load(golden_v2_checkpoint, weights_only=True)["state_dict"]
    return tensors


@pytest.fixture(scope="module")
def folder(golden_v2: ModelWeights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("v2") / "folder"
    write_diffusers_folder(path, golden_v2, dtype=None, metadata={})
    return path


@pytest.fixture(scope="module")
def single(golden_v2: ModelWeights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("v2") / "single.safetensors"
    write_single_file(path, golden_v2, dtype=None, metadata={})
    return path


def test_a_single_file_is_written_bit_for_bit(single: Path, original: dict[str, Tensor]) -> None:
    written = load_file(single)
    assert written.keys() - original.keys() == {"v_pred"}
    assert original.keys() <= written.keys()
    weights = [name for name in original if "." in name]  # the schedule is computed again, more exactly
    assert [name for name in weights if not torch.equal(written[name], original[name])] == []


def test_a_folder_keeps_what_its_modules_lack(folder: Path, original: dict[str, Tensor], tmp_path: Path) -> None:
    text = load_file(folder / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") and ".layers.3." not in name for name in text)
    config = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    assert (config["num_hidden_layers"], config["hidden_act"], config["pad_token_id"]) == (3, "gelu", 0)
    write_single_file(tmp_path / "back.safetensors", read_model(str(folder)), dtype=None, metadata={})
    back = load_file(tmp_path / "back.safetensors")
    assert [name for name in original if "." in name and not torch.equal(back[name], original[name])] == []


def test_a_folder_of_another_program_is_written_without_them(folder: Path, golden_v2: ModelWeights, tmp_path: Path) -> None:
    """What was lost before cannot be written, and what is written is read as the same model."""
    copied = tmp_path / "theirs"
    shutil.copytree(folder, copied)
    (copied / "text_encoder" / "unused_weights.safetensors").unlink()
    theirs = read_model(str(copied))
    write_single_file(tmp_path / "model.safetensors", theirs, dtype=None, metadata={})
    names = load_file(tmp_path / "model.safetensors").keys()
    assert not any(name.startswith(UNUSED) or name.endswith(("text_projection", "logit_scale")) for name in names)
    assert read_model(str(tmp_path / "model.safetensors")).family == theirs.family == golden_v2.family


def test_the_metadata_name_the_kind(single: Path, golden_v2: ModelWeights) -> None:
    metadata = read_model(str(single)).metadata
    assert metadata["modelspec.architecture"] == "stable-diffusion-v2-768-v"
    assert metadata["modelspec.prediction_type"] == "v"
    assert metadata["modelspec.resolution"] == f"{golden_v2.family.resolution}x{golden_v2.family.resolution}"


def test_without_a_statement_the_weights_are_asked(
    golden_v2_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.ckpt"
    shutil.copy(golden_v2_checkpoint, path)  # without its YAML
    assert read_model(str(path), prediction="velocity").family.prediction == "velocity"
    assert read_model(str(path), config=golden_v2_checkpoint.with_suffix(".yaml")).family.prediction == "velocity"
    with pytest.raises(
        ModelFileError, match=r"nothing states what this model predicts, and its weights do not show it"
    ) as caught:
        read_model(str(path))  # they are random
    assert "--prediction velocity" in (caught.value.hint or "")
    monkeypatch.setattr("dreambooth.weights.assemble.probe_prediction", lambda *_: Probe(-0.1, 0.9))
    report = read_model(str(path)).report
    assert "nothing states it, and its weights show it: its answer to noise has a similarity of -0.10" in report.prediction
    assert report.choices == (report.prediction,)


def test_a_yaml_of_another_model_is_refused(golden_v2_checkpoint: Path, tmp_path: Path) -> None:
    yaml = golden_v2_checkpoint.with_suffix(".yaml").read_text(encoding="utf-8")
    path = tmp_path / "other.yaml"
    path.write_text(
        yaml.replace("num_head_channels: 64", "num_head_channels: 32").replace("penultimate", "last"), encoding="utf-8"
    )
    with pytest.raises(ModelFileError) as caught:
        read_model(str(golden_v2_checkpoint), config=path)
    assert len(caught.value.problems) == 2
    assert "num_head_channels is 32; this model needs 64" in caught.value.problems[0]
    assert "params.layer is 'last'; this model needs 'penultimate'" in caught.value.problems[1]


def inputs(model: ModelWeights) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 4, 8, 8, generator=generator), torch.tensor([500])


@torch.no_grad()
def predicted(components: Components, x_t: Tensor, t: Tensor) -> Tensor:
    ids = components.family.tokenize(components.tokenizer, ["a photo of a dog"])
    return components.family.predict(components.denoiser, x_t, t, components.family.encode_text(components.parts, ids))


@torch.no_grad()
def predicted_by(pipeline: Any, x_t: Tensor, t: Tensor) -> Tensor:
    states, _ = pipeline.encode_prompt(["a photo of a dog"], "cpu", 1, False)
    output: Tensor = pipeline.unet(x_t, t, encoder_hidden_states=states).sample
    return output


@pytest.mark.filterwarnings("ignore")
def test_diffusers_predicts_the_same_with_a_folder(folder: Path, golden_v2: ModelWeights) -> None:
    from diffusers import StableDiffusionPipeline

    x_t, t = inputs(golden_v2)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    expected = predicted(golden_v2.build(dtype=torch.float32), x_t, t)
    torch.testing.assert_close(predicted_by(pipeline, x_t, t), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_diffusers_predicts_the_same_with_a_single_file(single: Path, folder: Path, golden_v2: ModelWeights) -> None:
    """It takes the sizes of its modules from a folder, as those of the published model are all that it knows."""
    from diffusers import StableDiffusionPipeline

    x_t, t = inputs(golden_v2)
    pipeline = StableDiffusionPipeline.from_single_file(
        single, config=str(folder), local_files_only=True, safety_checker=None, feature_extractor=None
    )
    expected = predicted(golden_v2.build(dtype=torch.float32), x_t, t)
    torch.testing.assert_close(predicted_by(pipeline, x_t, t), expected, rtol=0, atol=1e-5)
