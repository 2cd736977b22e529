"""`dreambooth batch` is killed while it trains and given again: the models are those of undisturbed trainings, bit for bit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dreambooth.display_silent import SilentDisplay
from dreambooth.recipes.batch import batch
from dreambooth.recipes.train import train
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.progress import read_progress
from dreambooth.runs.settings import BatchSettings
from dreambooth.runs.status import read_status
from dreambooth.schema.manifest import read_manifest

STEPS = 30
COMMAND = [sys.executable, "-m", "dreambooth", "batch", "subjects.yaml", "--device", "cpu", "--output", "out"]


@pytest.fixture
def subjects(small_model: Path, photos: Path, tmp_path: Path) -> Path:
    values = {
        "defaults": {
            "base": {"model": str(small_model)},
            "photos": str(photos),
            "prior": {"num_prior_images": 2, "prior_sampling_steps": 2},
            "optimizer": {"learning_rate": 1e-4},
            "loop": {"steps": STEPS},
            "output": {"preview_steps": 0, "validation_steps": 0, "model_steps": 0},
        },
        "subjects": {"rex": {"class_word": "bag"}, "mia": {"class_word": "bag", "token": "mwf", "loop": {"seed": 2}}},
    }
    file = tmp_path / "subjects.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


def until(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 180
    while not is_true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_training_at(run: RunFolder, step: int) -> bool:
    status = read_status(run)
    return status is not None and status.state == "running" and read_progress(run).step >= step


@pytest.mark.slow
def test_what_is_killed_goes_on_to_the_same_models(subjects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rex = RunFolder(tmp_path / "out" / "rex")
    with subprocess.Popen(COMMAND, cwd=tmp_path, stdout=subprocess.DEVNULL) as first:
        try:
            until(lambda: is_training_at(rex, 6), "rex is trained")
        finally:
            first.kill()
    if sys.platform == "linux":  # its training hears of it, and saves
        until(lambda: not is_training_at(rex, 0), "rex is stopped")
        assert rex.checkpoint_at(read_progress(rex).step).is_dir()
    monkeypatch.chdir(tmp_path)
    assert [*batch(BatchSettings(subjects=subjects, device="cpu", output=Path("out")), SilentDisplay()).runs] == ["rex", "mia"]
    for name, training in read_manifest(subjects, tmp_path / "undisturbed").trainings.items():
        on_cpu = training.model_copy(update={"loop": training.loop.model_copy(update={"device": "cpu"})})
        model = train(on_cpu, SilentDisplay()).model
        assert model is not None
        assert model.read_bytes() == (tmp_path / "out" / name / model.name).read_bytes(), name
