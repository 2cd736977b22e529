"""`dreambooth inspect` and `dreambooth tokens`, as functions: what a person reads, and what a program gets back."""

from __future__ import annotations

import io
import os

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import ModelFileError
from dreambooth.recipes.inspect import inspect_model
from dreambooth.recipes.tokens import propose_tokens
from dreambooth.schema.verbs import InspectSettings, TokensSettings


class Paper(ConsoleDisplay):
    """A display that keeps what it shows."""

    def __init__(self):
        self.stream = io.StringIO()
        super().__init__(Console(file=self.stream, width=200))

    @property
    def text(self) -> str:
        return self.stream.getvalue()


@pytest.fixture
def paper():
    return Paper()


def test_the_golden_checkpoint(golden_checkpoint, paper):
    result = inspect_model(InspectSettings(model=str(golden_checkpoint)), paper)
    assert result.tokens == ()
    assert result.report is not None and result.report.unet_weights == "ema"
    text = paper.text
    assert f"{golden_checkpoint}: Stable Diffusion 1, single file (pickle, 0.04 GB)" in text
    assert "UNet           2,491,844    684       float32     32-32-64-64" in text
    assert "VAE            1,399,879    244       float32     32-32-64-64" in text
    assert "text encoder   3,317,120    52        float32     64" in text
    assert "UNet weights: the EMA weights (--weights ema); the file also holds the last weights" in text
    assert "--weights raw reads them" in text
    assert "global_step 470000" in text
    expected = (
        "Python objects in the pickle that were not created: pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
    )
    assert expected in text
    assert "warning" not in text and "not part of the model" not in text


def test_the_other_weights(golden_checkpoint, paper):
    result = inspect_model(InspectSettings(model=str(golden_checkpoint), weights="raw"), paper)
    assert result.report is not None and result.report.unet_weights == "raw"
    assert (
        "UNet weights: the raw weights of the last training step (--weights raw); the file also holds their moving average"
        in paper.text
    )


@pytest.mark.parametrize(
    ("checkpoint", "title", "expected"),
    [
        ("golden_v2_checkpoint", "Stable Diffusion 2", {"UNet", "VAE", "text encoder", "The model predicts the velocity"}),
        (
            "golden_xl_checkpoint",
            "Stable Diffusion XL",
            {"UNet", "VAE", "first text encoder", "second text encoder", "The model predicts the noise"},
        ),
    ],
)
def test_other_families(request, paper, checkpoint, title, expected):
    path = request.getfixturevalue(checkpoint)
    result = inspect_model(InspectSettings(model=str(path)), paper)
    assert f"{path}: {title}, single file" in paper.text
    assert result.report.leftover == () and "not part of the model" not in paper.text
    lines = [line.strip() for line in paper.text.splitlines()]
    assert [start for start in expected if not any(line.startswith(start) for line in lines)] == []


def without_average(state_dict):
    return {name: tensor.contiguous() for name, tensor in state_dict.items() if not name.startswith("model_ema.")}


def test_leftovers_and_metadata_are_named(golden_state_dict, tmp_path, paper):
    path = tmp_path / "model.safetensors"
    extra = {"control.\x1b[2Jscreen": torch.ones(1), "lora.down": torch.ones(1)}
    save_file({**without_average(golden_state_dict), **extra}, path, metadata={"title": "mine", "long": "x" * 500})
    result = inspect_model(InspectSettings(model=str(path)), paper)
    assert result.report is not None and result.report.leftover == ("control.?[2Jscreen", "lora.down")
    assert "single file (safetensors, " in paper.text
    assert "UNet weights: the only set in the file." in paper.text
    assert "Ignored 2 tensors not part of the model: " in paper.text
    assert "control.?[2Jscreen" in paper.text and "lora.down" in paper.text and "\x1b[2J" not in paper.text
    assert "title mine" in paper.text and f"long {'x' * 200}..." in paper.text and "x" * 201 not in paper.text


def test_many_leftovers_are_counted(golden_state_dict, tmp_path, paper):
    path = tmp_path / "model.safetensors"
    save_file({**without_average(golden_state_dict), **{f"extra.{k:03}": torch.ones(1) for k in range(100)}}, path)
    inspect_model(InspectSettings(model=str(path)), paper)
    assert "Ignored 100 tensors not part of the model: extra.000, extra.001" in paper.text and ", and 60 more" in paper.text


class Trap:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"echo > {self.marker}",)


def test_a_pickle_that_would_run_a_program_is_called_out(golden_state_dict, tmp_path, paper):
    path, marker = tmp_path / "model.ckpt", tmp_path / "marker"
    torch.save({"state_dict": without_average(golden_state_dict), "callbacks": [Trap(marker), Paper]}, path)
    inspect_model(InspectSettings(model=str(path)), paper)
    assert not marker.exists()
    expected = f"warning: this pickle would run code when loaded the usual way: {os.name}.system. Nothing was run here"
    assert expected in paper.text
    assert f"Python objects in the pickle that were not created: {Paper.__module__}.Paper" in paper.text


def test_the_configuration_must_agree(golden_checkpoint, golden_config, tmp_path, paper):
    settings = InspectSettings(model=str(golden_checkpoint), config=golden_config)
    assert inspect_model(settings, paper).report is not None
    other = tmp_path / "other.yaml"
    other.write_text(golden_config.read_text().replace("model_channels: 32", "model_channels: 320"))
    assert other.read_text() != golden_config.read_text()
    with pytest.raises(ModelFileError, match="model_channels"):
        inspect_model(settings.model_copy(update={"config": other}), paper)


def test_what_was_put_right_is_noted(golden_state_dict, tmp_path, paper):
    path = tmp_path / "model.safetensors"
    name = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    tensors = without_average(golden_state_dict)
    save_file({**tensors, name: tensors[name].half()}, path)
    report = inspect_model(InspectSettings(model=str(path)), paper).report
    assert report is not None and len(report.notes) == 1
    assert f"Note: {report.notes[0]}." in paper.text and "position_ids" in paper.text


def test_what_is_no_model(tmp_path, paper):
    path = tmp_path / "model.ckpt"
    path.write_text("<!doctype html><html>Sign in</html>")
    with pytest.raises(ModelFileError, match="a web page, not a model file"):
        inspect_model(InspectSettings(model=str(path), token=("sks",)), paper)
    with pytest.raises(ModelFileError, match="no such file"):
        inspect_model(InspectSettings(model=str(tmp_path / "missing.ckpt")), paper)
    assert paper.text == ""


def test_words_without_a_model(paper):
    result = inspect_model(InspectSettings(token=("sks", "mwf", "zwx")), paper)
    assert result.report is None
    assert [token.ids for token in result.tokens] == [(48136,), (48565,), (89, 3561)]
    text = paper.text
    assert "sks    sks</w>    48136" in text
    assert "zwx    z wx</w>   89, 3561" in text
    assert "warning: 'sks' already means something: a rifle" in text
    assert "'mwf' is a single rare token." in text
    assert "warning: 'zwx' is 2 tokens (z + wx)" in text
    assert "`dreambooth tokens` suggests words without these problems." in text


def test_a_good_word_gets_no_advice(paper):
    inspect_model(InspectSettings(token=("mwf",)), paper)
    assert "warning" not in paper.text and "dreambooth tokens" not in paper.text


def test_an_empty_word(paper):
    inspect_model(InspectSettings(token=("",)), paper)
    assert "none" in paper.text and "warning: the word is empty" in paper.text


def test_tokens_are_proposed(paper):
    result = propose_tokens(TokensSettings(num_tokens=5), paper)
    assert [token.word for token in result.tokens] == ["mwf", "ddc", "bgs", "sgh", "brs"]
    assert all(token.word in paper.text and str(token.ids[0]) in paper.text for token in result.tokens)
    assert "were asked for" not in paper.text and "dreambooth generate --prompt" in paper.text


def test_more_tokens_than_there_are(paper):
    result = propose_tokens(TokensSettings(num_tokens=500), paper)
    assert f"Only {len(result.tokens)} of the requested 500 words qualify." in paper.text
