from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import SettingsError
from dreambooth.recipes.generate import GenerateResult, generate
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.verbs import GenerateSettings
from dreambooth.weights.settings import BaseModelSettings


class Screen:
    """A display whose text can be read."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.display = ConsoleDisplay(Console(file=self.file, width=200))


@pytest.fixture
def screen() -> Screen:
    return Screen()


def run(screen: Screen, model: Path, output: Path, **sample: Any) -> GenerateResult:
    asked = {
        "prompt": ("photo of a sks dog", "a cat"),
        "num_images": 3,
        "sampling_steps": 3,
        "width": 64,
        "height": 64,
    } | sample
    settings = GenerateSettings(
        base=BaseModelSettings(model=str(model)), sample=SampleSettings(output=output, device="cpu", **asked)
    )
    return generate(settings, screen.display)


def pixels(path: Path) -> NDArray[np.int16]:
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.int16)


def test_the_pictures_asked_for_are_written_with_their_settings_and_grids(
    screen: Screen, golden_checkpoint: Path, tmp_path: Path
) -> None:
    result = run(screen, golden_checkpoint, tmp_path / "a" / "b", height=128, batch_size=4, seed=7)
    dogs = [f"{number:05d}-photo-of-a-sks-dog.png" for number in range(3)]
    cats = [f"{number:05d}-a-cat.png" for number in range(3, 6)]
    grids = ["00000-grid-photo-of-a-sks-dog.png", "00003-grid-a-cat.png"]
    assert [path.name for path in result.files] == [*dogs, *cats]
    assert [path.name for path in result.grids] == grids
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted([*dogs, *cats, *grids])
    with Image.open(result.files[4]) as image:
        assert image.size == (64, 128)
        text = image.text  # type: ignore[attr-defined]
    assert text["parameters"].startswith("a cat\nSteps: 3, Sampler: DDIM, CFG scale: 7.5, Seed: 7, Size: 64x128, Model hash: ")
    record = json.loads(text["dreambooth"])
    assert (record["prompt"], record["index"], record["dtype"]) == ("a cat", 1, "float32")
    assert pixels(result.grids[0]).shape == (2 * 132, 2 * 68, 3)
    shown = screen.file.getvalue()
    assert f"Stable Diffusion 1 from {golden_checkpoint} (EMA weights) on cpu" in shown
    assert "images: 6/6 images" in shown
    assert f"Wrote to {tmp_path / 'a' / 'b'}: {dogs[0]} to {cats[-1]}" in shown


def test_a_picture_is_the_same_in_any_batch_order_and_company(screen: Screen, golden_checkpoint: Path, tmp_path: Path) -> None:
    together = run(screen, golden_checkpoint, tmp_path / "together", eta=1.0, batch_size=6).files
    alone = run(screen, golden_checkpoint, tmp_path / "alone", eta=1.0, batch_size=1, prompt=("a cat",), num_images=2).files
    for ours, theirs in zip(alone, together[3:5], strict=True):
        assert np.abs(pixels(ours) - pixels(theirs)).max() <= 1  # rounding may carry a value over the edge of a level
    assert np.abs(pixels(together[3]) - pixels(together[4])).max() > 20
    assert np.abs(pixels(together[0]) - pixels(together[3])).max() > 1


def test_nothing_is_overwritten(screen: Screen, golden_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "00003-a-cat.png").write_text("mine")
    first = run(screen, golden_checkpoint, tmp_path, prompt=("a cat",), num_images=1, sampling_steps=1)
    second = run(screen, golden_checkpoint, tmp_path, prompt=("a cat",), num_images=2, sampling_steps=1, grid=False)
    assert [path.name for path in (*first.files, *second.files)] == ["00004-a-cat.png", "00005-a-cat.png", "00006-a-cat.png"]
    assert first.grids == second.grids == ()
    assert (tmp_path / "00003-a-cat.png").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 4


def test_everything_wrong_is_told_at_once_before_the_model_is_read(screen: Screen, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError) as caught:
        run(
            screen,
            tmp_path / "no-model.ckpt",
            tmp_path / "file",
            prompt=(),
            prompts_file=tmp_path / "no-prompts.txt",
        )
    assert caught.value.problems == (
        f"prompts_file is {tmp_path / 'no-prompts.txt'}: cannot be read: No such file or directory",
        f"output is {tmp_path / 'file'}: images cannot be written there: File exists",
    )
    with pytest.raises(SettingsError, match="no prompt was given") as caught:
        run(screen, tmp_path / "no-model.ckpt", tmp_path / "out", prompt=())
    assert caught.value.hint == 'Give one, such as --prompt "photo of a sks dog", or a file of them with --prompts-file.'


def test_prompts_of_a_file_come_after_the_others_and_cut_words_are_named(
    screen: Screen, golden_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("a bird\n" + "very " * 75 + "Purple fish\n", encoding="utf-8")
    result = run(
        screen,
        golden_checkpoint,
        tmp_path / "out",
        prompts_file=tmp_path / "prompts.txt",
        prompt=("a cat",),
        num_images=1,
        sampling_steps=1,
    )
    assert [path.name[6:12] for path in result.files] == ["a-cat.", "a-bird", "very-v"]
    assert 'is longer than the 75 tokens the model reads; this part is ignored: "Purple fish"' in screen.file.getvalue()


@pytest.mark.slow
def test_the_installed_command(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("dreambooth")
    arguments = [
        "generate",
        "--model",
        "toybox",
        "--prompt",
        "a dog",
        "--num-images",
        "1",
        "--sampling-steps",
        "4",
        "--sampler",
        "dpm++",
    ]
    where = ["--device", "cpu", "--output", tmp_path / "out"]
    done = subprocess.run([command, *arguments, *where], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "1/1 images" in done.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["00000-a-dog.png"]
