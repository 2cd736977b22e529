"""LoRA files in the commands: images with them, and what `inspect` shows of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import dreambooth
from dreambooth.cli.main import main
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.evaluation.blended import model_with_loras
from dreambooth.evaluation.models import read_models
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.target import evaluation_targets
from dreambooth.recipes.generate import generate
from dreambooth.recipes.inspect import inspect_model
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.verbs import GenerateSettings, InspectSettings
from dreambooth.weights.lora_apply import applied_loras
from dreambooth.weights.lora_describe import describe_lora
from dreambooth.weights.lora_file import read_lora_file
from dreambooth.weights.lora_write import Adapter, write_lora
from dreambooth.weights.read import read_base, read_model
from dreambooth.weights.settings import BaseModelSettings, LoraSettings, StrengthSettings, TrainedFromSettings
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


def test_a_run_on_top_of_loras_is_read_with_them(small_model: Path, lora: Path, tmp_path: Path) -> None:
    base, run = read_model(str(small_model)), tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(f"base: {{model: {small_model}, lora: ['{lora}:0.5']}}\n", encoding="utf-8")
    adapter = Adapter(base.family, random_changes(base, "all", seed=3), "kohya")
    write_lora(run / "model.safetensors", adapter, dtype=torch.float16, metadata={})
    start = TrainedFromSettings(model=str(small_model), lora=(f"{lora}:0.5",))
    asked = BaseModelSettings(model=str(small_model))
    both = LoraSettings(lora=(f"{lora}:0.5", str(run)))
    assert read_base(start).digest() == model_with_loras(asked, StrengthSettings(), LoraSettings(lora=both.lora[:1])).digest()
    assert read_model(str(run)).digest() == model_with_loras(asked, StrengthSettings(), both).digest()


def test_a_model_with_loras_is_compared_with_itself(small_model: Path, lora: Path, photos: Path) -> None:
    request = EvaluationRequest(model=str(small_model), photos=photos, class_word="dog", token="sks", loras=(f"{lora}:0.5",))
    [target, *_] = evaluation_targets(request)
    models = read_models(request, target)
    assert models.base is not None and models.base.digest() == read_model(str(small_model)).digest()
    assert models.measured.digest() != models.base.digest()
    assert applied_loras(models.measured) == ["LoRA rex.safetensors at strength 0.5; words for prompts: sks dog"]


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


def test_lora_verbs_extract_merge_resize_and_convert(
    small_model: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, peft, back = tmp_path / "whole.safetensors", tmp_path / "peft.safetensors", tmp_path / "back.safetensors"
    assert main(["lora", "convert", str(lora), str(peft), "--form", "peft"]) == 0, capsys.readouterr().err
    assert main(["lora", "convert", str(peft), str(back), "--form", "kohya"]) == 0
    expected, found = load_file(lora), load_file(back)
    assert expected.keys() == found.keys() != load_file(peft).keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert read_lora_file(back).metadata["modelspec.trigger_phrase"] == "sks dog"
    flags = ["--model", str(small_model), "--lora", f"{lora}:0.5", "--dtype", "float32"]
    assert main(["lora", "merge", str(whole), *flags]) == 0
    merged = read_model(str(whole))
    applied = model_with_loras(
        BaseModelSettings(model=str(small_model)), StrengthSettings(), LoraSettings(lora=(f"{lora}:0.5",))
    )
    assert merged.digest() == applied.digest()
    assert main(["lora", "extract", str(small_model), str(whole), str(tmp_path / "again.safetensors"), "--rank", "auto"]) == 0
    said = capsys.readouterr().out
    assert "Kept of the change" in said
    for place, ranks in (("again", None), ("resized", 1)):
        file = tmp_path / f"{place}.safetensors"
        if ranks is not None:
            assert main(["lora", "resize", str(lora), str(file), "--rank", "1"]) == 0
        described = describe_lora(read_lora_file(file))
        assert max(described.parts[0].ranks) <= 2 if ranks is None else described.parts[0].ranks == (1,)
    both = tmp_path / "both.safetensors"
    assert main(["lora", "merge", str(both), "--lora", str(lora), "--lora", f"{tmp_path / 'resized.safetensors'}:-0.5"]) == 0
    assert describe_lora(read_lora_file(both)).parts[0].ranks == (3,)
    assert "modelspec.merged_from" in read_lora_file(both).metadata


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["merge", "out.safetensors"], "no file to merge was given"),
        (["merge", "out.safetensors", "--lora", "a.safetensors"], "one LoRA merged into nothing stays as it is"),
        (["merge", "o.ckpt", "--lora", "a", "--model", "b", "--form", "peft"], "form has no effect with --model"),
        (
            ["extract", "a", "b", "out.safetensors", "--rank", "4", "--energy", "0.5"],
            "energy has an effect only with rank auto",
        ),
        (["resize", "a", "out.safetensors", "--rank", "0"], "expected at least 1"),
        (["convert", "a", "out.safetensors"], "--form is missing"),
        (["convert", "a", "out.ckpt", "--form", "peft"], "expected the suffix .safetensors"),
        (["inspect", "a.safetensors"], "'inspect' is no verb of dreambooth lora Type: dreambooth inspect"),
    ],
)
def test_what_the_lora_verbs_refuse(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lora", *arguments]) != 0
    assert problem in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("verb", ["extract", "merge", "resize", "convert"])
def test_the_lora_verbs_have_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lora", verb, "--help"]) == 0
    assert f"Usage: dreambooth lora {verb}" in capsys.readouterr().out


def test_nothing_is_overwritten(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lora", "resize", str(lora), str(lora), "--rank", "1"]) != 0
    assert "already exists" in capsys.readouterr().err
