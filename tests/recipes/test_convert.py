from __future__ import annotations

import io
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors import safe_open

from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import ModelFileError
from dreambooth.recipes.convert import Conversion, convert
from dreambooth.schema.verbs import ConvertSettings
from dreambooth.weights.read import read_model


class Screen:
    """A display whose text can be read."""

    def __init__(self) -> None:
        self.console = Console(file=io.StringIO(), width=200)
        self.display = ConsoleDisplay(self.console)

    @property
    def text(self) -> str:
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def run(screen: Screen, source: Path, destination: Path, **settings: Any) -> Conversion:
    return convert(ConvertSettings(source=str(source), destination=destination, **settings), screen.display)


def test_there_and_back(golden_checkpoint: Path, tmp_path: Path, screen: Screen) -> None:
    folder, file, pickle = tmp_path / "folder", tmp_path / "file.safetensors", tmp_path / "file.ckpt"
    assert run(screen, golden_checkpoint, folder).form == "diffusers"
    assert run(screen, folder, file).form == "single-file"
    assert run(screen, file, pickle).form == "single-file"
    with zipfile.ZipFile(pickle) as archive:  # what stable-diffusion-webui accepts
        assert all(re.fullmatch(r"[^/]+/(data/\d+|version|data\.pkl)", name) for name in archive.namelist())
    digests = {read_model(str(path)).digest() for path in (golden_checkpoint, folder, file, pickle)}
    assert len(digests) == 1
    assert "UNet weights: the EMA weights; the file also holds the last weights" in screen.text
    assert f"Wrote {folder} (diffusers, dtypes unchanged, 0.03 GB)." in screen.text


def test_weights_and_number_format_are_chosen(golden_checkpoint: Path, tmp_path: Path, screen: Screen) -> None:
    raw = tmp_path / "raw.ckpt"
    conversion = run(screen, golden_checkpoint, raw, weights="raw", dtype="float16")
    assert conversion.report.unet_weights == "raw"
    assert conversion.num_bytes == raw.stat().st_size
    saved = torch.load(raw, weights_only=True)
    assert saved["global_step"] == 470000
    assert saved["state_dict"]["model.diffusion_model.out.2.bias"].dtype == torch.float16
    expected = read_model(str(golden_checkpoint), weights="raw").parts["unet"]["conv_out.bias"]
    assert torch.equal(saved["state_dict"]["model.diffusion_model.out.2.bias"], expected.half())
    assert (
        "UNet weights: the raw weights of the last step, not the EMA weights; the file also holds their moving average"
        in screen.text
    )


def test_metadata_says_where_it_came_from(golden_checkpoint: Path, tmp_path: Path, screen: Screen) -> None:
    run(screen, golden_checkpoint, tmp_path / "a.safetensors")
    run(screen, tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    with safe_open(tmp_path / "b.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["dreambooth.converted_from"] == "a.safetensors"
    assert metadata["modelspec.title"] == "a"
    assert metadata["global_step"] == "470000"


def test_form_can_be_said(golden_checkpoint: Path, tmp_path: Path, screen: Screen) -> None:
    assert run(screen, golden_checkpoint, tmp_path / "v1.5", to="diffusers").form == "diffusers"
    assert run(screen, golden_checkpoint, tmp_path / "v1.ckpt", to="single-file").form == "single-file"


def test_config_must_agree(golden_checkpoint: Path, golden_config: Path, tmp_path: Path, screen: Screen) -> None:
    run(screen, golden_checkpoint, tmp_path / "a.safetensors", config=golden_config)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(golden_config.read_text(encoding="utf-8").replace("num_heads: 8", "num_heads: 4"), encoding="utf-8")
    with pytest.raises(ModelFileError, match="num_heads is 4; this model needs 8"):
        run(screen, golden_checkpoint, tmp_path / "b.safetensors", config=wrong)
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        ("model.bin", None, r"model\.bin: a single file must end in \.safetensors or \.ckpt, found '\.bin'"),
        ("model.gguf", None, r"model\.gguf: a single file must end in \.safetensors or \.ckpt, found '\.gguf'"),
        ("model.onnx", None, r"found '\.onnx'\nName it .*model\.safetensors, or use --to diffusers to write a folder"),
        ("model", "single-file", r"model: a single file must end in \.safetensors or \.ckpt, found no suffix"),
        ("model.ckpt", "diffusers", r"model\.ckpt: --to diffusers writes a folder, but \.ckpt is a file suffix"),
    ],
)
def test_an_unclear_form_is_refused(golden_checkpoint: Path, tmp_path: Path, name: str, to: str | None, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        run(Screen(), golden_checkpoint, tmp_path / name, to=to)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(golden_checkpoint: Path, tmp_path: Path, screen: Screen) -> None:
    taken = tmp_path / "taken.ckpt"
    taken.write_text("mine", encoding="utf-8")
    with pytest.raises(ModelFileError, match="already exists"):
        run(screen, golden_checkpoint, taken)
    assert taken.read_text(encoding="utf-8") == "mine"


def test_what_a_killed_conversion_left_is_removed(golden_checkpoint: Path, tmp_path: Path, screen: Screen) -> None:
    left, other = tmp_path / ".new.safetensors.partial-0123456789ab", tmp_path / ".other.ckpt.partial-0123456789ab"
    left.touch()
    other.touch()
    run(screen, golden_checkpoint, tmp_path / "new.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "new.safetensors"]


def test_a_full_disk_is_told_before_writing(
    golden_checkpoint: Path, tmp_path: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ModelFileError, match=r"needs 0\.03 GB on this disk, but only 0\.00 GB are free"):
        run(screen, golden_checkpoint, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_out_is_said(golden_state_dict: dict[str, torch.Tensor], tmp_path: Path, screen: Screen) -> None:
    source = tmp_path / "strange.ckpt"
    torch.save({**golden_state_dict, "embedding_manager.sculpture": torch.zeros(3)}, source)
    run(screen, source, tmp_path / "a.safetensors")
    assert "Skipped 1 tensor outside all parts of the model (embedding_manager.sculpture)" in screen.text
