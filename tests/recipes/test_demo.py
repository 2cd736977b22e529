"""The demo, hurried, and what it leaves to look at; `make demo` takes its time."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreambooth.cli.main import main
from dreambooth.display import Display
from dreambooth.errors import Interrupted
from dreambooth.pages.story import Row, write_report, write_sheet
from dreambooth.recipes import demo as recipe
from dreambooth.recipes.demo import demo
from dreambooth.recipes.train import TrainResult
from dreambooth.schema.presets import toybox_training
from dreambooth.schema.verbs import DemoSettings, TrainSettings

Command = Callable[..., subprocess.CompletedProcess[str]]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and rough pictures, where the real demo takes its time."""

    def training(**sections: Any) -> TrainSettings:
        made = toybox_training(**sections)
        return made.model_copy(
            update={"prior": made.prior.model_copy(update={"num_prior_images": 4, "prior_sampling_steps": 2})}
        )

    monkeypatch.setattr(recipe, "toybox_training", training)
    monkeypatch.setattr(recipe, "_SAMPLING_STEPS", 2)


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_the_demo_tells_the_whole_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo").mkdir(parents=True)  # an earlier demo does not stand in the way
    assert main(["demo", "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "runs/demo already exists; this demo writes to runs/demo-2." in said
    run = tmp_path / "runs" / "demo-2"
    assert len(list((tmp_path / "runs" / "demo-2-photos").glob("*.png"))) == 5
    assert (run / "model.safetensors").is_file()
    assert {path.name: len(list(path.glob("*.png"))) for path in (run / "pictures").iterdir()} == {
        "subject": 5,
        "places": 5,
        "class-before": 5,
        "class-after": 5,
    }
    with Image.open(run / "story.png") as story:
        assert story.width > 5 * 128
        assert story.height > 5 * 128
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 25 + 3
    assert [f"step {step}" in page for step in (0, 1, 2)] == [True, True, True]
    assert "dreambooth train --model sd-v1-4.ckpt --photos FOLDER" in said
    assert "dreambooth train --model sd-v1-4.ckpt --photos FOLDER" in page


def test_a_stop_during_the_last_step_is_heard(tmp_path: Path, display: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(settings: TrainSettings, display: Display) -> TrainResult:
        return TrainResult(settings.output.output, settings.output.output / "model.safetensors", 1, was_asked_to_stop=True)

    monkeypatch.setattr(recipe, "train", stopped)
    with pytest.raises(Interrupted) as caught:
        demo(DemoSettings(output=tmp_path / "demo", steps=1), display)
    assert caught.value.exit_code == 130
    assert "no images were generated" in caught.value.text
    assert not (tmp_path / "demo" / "pictures").exists()


@pytest.mark.slow
def test_a_subject_that_is_not_there_is_refused_with_those_that_are(dreambooth: Command, tmp_path: Path) -> None:
    done = dreambooth("demo", "--subject", "zebra", cwd=tmp_path)
    assert done.returncode == 2
    assert "subject is 'zebra': expected a whole number or one of banded-container, zigzag-mug" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_preset_can_be_laid_over_section_by_section() -> None:
    base = {"subject": {"photos": Path("p"), "class_word": "mug"}}
    plain = toybox_training(**base)
    changed = toybox_training(**base, loop={"steps": 7})
    assert (plain.base.model, changed.loop.steps, changed.loop.batch_size) == ("toybox", 7, plain.loop.batch_size)
    without = toybox_training(**base, prior={"prior_weight": 0.0})
    assert without.prior.is_changed("num_prior_images") == ()


def test_a_report_needs_nothing_from_outside_and_shows_what_it_is_given(tmp_path: Path) -> None:
    picture = np.full((64, 64, 3), 200, dtype=np.uint8)
    rows = [Row("A <title>", "A sentence.", [picture, picture], ["first"])]
    losses = {"photos": {0: 0.2, 50: 0.1}, "class images": {0: 0.3, 50: 0.4}}
    path = write_report(tmp_path / "r.html", "Story", rows, losses=losses, facts={"steps": "7"}, next_commands="a & b")
    page = path.read_text(encoding="utf-8")
    assert "A &lt;title&gt;" in page
    assert "a &amp; b" in page
    assert '<th scope="row">steps</th><td>7</td>' in page
    assert page.count("<polyline") == 2
    assert "class images: 0.300 at step 0, 0.400 at step 50" in page
    assert 'alt="A &lt;title&gt;, 2 of 2"' in page
    assert "prefers-color-scheme: dark" in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "http" not in page
    with Image.open(write_sheet(tmp_path / "s.png", rows)) as sheet:
        assert sheet.size == (160 + 2 * 132, 132 + 18), "a line for the captions"


@pytest.mark.parametrize(("values", "said"), [({}, "Not measured."), ({10: 0.5}, "Measured once: 0.500 at step 10.")])
def test_a_loss_that_was_measured_once_has_no_curve(tmp_path: Path, values: dict[int, float], said: str) -> None:
    path = write_report(tmp_path / "r.html", "Story", [], losses={"photos": values}, facts={}, next_commands="")
    page = path.read_text(encoding="utf-8")
    assert "<polyline" not in page
    assert said in page
