"""A training of the browser interface that is killed together with its server, and resumed by a button."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from starlette.testclient import TestClient

from dreambooth.cli.main import main
from dreambooth.runs.process import flags
from dreambooth.web.app import application
from dreambooth.web.commands import verb_command
from dreambooth.web.desk import Desk
from dreambooth.web.jobs import JobRecord

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the signals of this test are POSIX's")


def _until(desk: Desk, is_reached: Callable[[], bool]) -> None:
    for _ in range(2000):
        desk.queue.tick()
        if is_reached():
            return
        time.sleep(0.1)
    raise AssertionError(desk.queue.store.all())


def _newest(desk: Desk) -> JobRecord:
    return desk.queue.store.all()[-1]


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(small_model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {
        "model": small_model,
        "photos": photos,
        "class_word": "backpack",
        "num_prior_images": 2,
        "prior_sampling_steps": 1,
        "learning_rate": 1e-4,
        "steps": 6,
        "checkpoint_steps": 1,
        "preview_steps": 0,
        "validation_steps": 0,
    }
    assert main(["train", *flags(settings), f"--output={tmp_path / 'undisturbed'}"]) == 0
    desk = Desk.at(tmp_path / "projects")
    project = desk.projects.create("Rex")
    run = project.runs / "1"
    desk.queue.add(project, "train", verb_command("train", **settings, output=run), title="Train", place="runs/1")
    _until(desk, (run / "checkpoints" / "step-000002").is_dir)
    process = desk.queue.store.files(1).read_process()
    assert process is not None
    os.kill(process.process, signal.SIGKILL)
    new = Desk.at(tmp_path / "projects")
    _until(new, lambda: not _newest(new).is_active)
    assert (_newest(new).state, _newest(new).reason.partition(":")[0]) == ("failed", "killed")
    client = TestClient(application(new, token="k" * 43), base_url="http://127.0.0.1:7860")
    client.headers["authorization"] = f"Bearer {'k' * 43}"
    assert client.post("/api/v1/projects/rex/train/resume").status_code == 200
    _until(new, lambda: not _newest(new).is_active)
    assert (_newest(new).number, _newest(new).state) == (2, "finished"), new.queue.store.lines(_newest(new))
    expected, found = (load_file(folder / "model.safetensors") for folder in (tmp_path / "undisturbed", run))
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
