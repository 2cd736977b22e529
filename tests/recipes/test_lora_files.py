"""LoRA files in the commands: images with them, and what `inspect` shows of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import dreambooth
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.evaluation.blended import model_with_loras
from dreambooth.recipes.generate import generate
from dreambooth.recipes.inspect import inspect_model
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.verbs import GenerateSettings, InspectSettings
from dreambooth.weights.lora_write import Adapter, write_lora
from dreambooth.weights.read import read_model
from dreambooth.weights.settings import BaseModelSettings, LoraSettings, StrengthSettings
from tests.lora_changes import random_changes

Said = Callable[[], str]


@pytest.fixture(scope="module")
def lora(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, path = read_model(str(small_model)), tmp_path_factory.mktemp("lora") / "rex.safetensors"
    metadata = {"modelspec.trigger_phrase": "sks dog"}
    adapter = Adapter(model.family, random_changes(model, "transformer"), "kohya")
    write_lora(path, adapter, dtype=torch.float16, metadata=metadata)
    return path


def test_images_are_made_with_the_named_files(
    small_model: Path, lora: Path, tmp_path: Path, display: ConsoleDisplay, said: Said
) -> None:
    base = BaseModelSettings(model=str(small_model))
    sample = SampleSettings(prompt=("a sks dog",), num_images=1, sampling_steps=2, output=tmp_path, device="cpu")
    plain = generate(GenerateSettings(base=base, sample=sample), display)
    used = generate(GenerateSettings(base=base, sample=sample, loras=LoraSettings(lora=(f"{lora}:0.5",))), display)
    assert plain.files[0].read_bytes() != used.files[0].read_bytes()
    assert "LoRA rex.safetensors at strength 0.5; words for prompts: sks dog" in said()


def test_python_makes_the_same_images_with_loras_as_the_command(
    small_model: Path, lora: Path, tmp_path: Path, display: ConsoleDisplay
) -> None:
    base = BaseModelSettings(model=str(small_model))
    sample = SampleSettings(prompt=("a dog",), num_images=1, sampling_steps=2, output=tmp_path, device="cpu")
    settings = GenerateSettings(base=base, sample=sample, loras=LoraSettings(lora=(str(lora),)))
    model = model_with_loras(settings.base, StrengthSettings(), settings.loras)
    images = dreambooth.generate("a dog", model=small_model, lora=str(lora), num_images=1, sampling_steps=2, device="cpu")
    assert images[0].settings["model_digest"] == model.digest() != read_model(str(small_model)).digest()


def test_a_file_that_is_not_there_is_told_before_the_model_is_read(tmp_path: Path, display: ConsoleDisplay) -> None:
    sample = SampleSettings(prompt=("a dog",), output=tmp_path / "pictures", device="cpu")
    base = BaseModelSettings(model=str(tmp_path / "missing.ckpt"))
    with pytest.raises(SettingsError, match=r"lora is gone\.safetensors:0\.5: no such file"):
        generate(GenerateSettings(base=base, sample=sample, loras=LoraSettings(lora=("gone.safetensors:0.5",))), display)


def test_a_lora_in_place_of_a_model_is_named_with_what_to_type(lora: Path, tmp_path: Path, display: ConsoleDisplay) -> None:
    sample = SampleSettings(prompt=("a dog",), output=tmp_path / "pictures", device="cpu")
    with pytest.raises(ModelFileError, match="this is a LoRA: small changes to a model, not a model") as raised:
        generate(GenerateSettings(base=BaseModelSettings(model=str(lora)), sample=sample), display)
    assert f"generate --lora {lora}" in str(raised.value.hint)


def test_inspect_describes_a_lora(lora: Path, display: ConsoleDisplay, said: Said) -> None:
    result = inspect_model(InspectSettings(model=str(lora)), display)
    assert result.report is None and result.lora is not None
    assert (result.lora.made_for, result.lora.triggers) == ("Stable Diffusion 1", ("sks dog",))
    assert f"{lora}: LoRA for Stable Diffusion 1, kohya names" in said()
    assert "Words for prompts: sks dog" in said()
    assert "lora_down" not in said()


def test_inspect_describes_a_folder_of_peft(tmp_path: Path, display: ConsoleDisplay, said: Said) -> None:
    name = "base_model.model.mid_block.attentions.0.proj_in"
    pair = {f"{name}.lora_A.weight": torch.ones(4, 64), f"{name}.lora_B.weight": torch.ones(64, 4)}
    save_file(pair, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 16}), encoding="utf-8")
    result = inspect_model(InspectSettings(model=str(tmp_path)), display)
    assert result.lora is not None and result.lora.parts[0].alphas == (16.0,)
    assert "the file names none" in said()


def test_options_of_a_model_are_refused_beside_a_lora(lora: Path, display: ConsoleDisplay) -> None:
    with pytest.raises(SettingsError, match="is a LoRA, so weights would have no effect"):
        inspect_model(InspectSettings(model=str(lora), weights="raw"), display)
