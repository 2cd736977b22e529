"""SIGKILL at random moments, wherever they fall: class images, encoding, a step, a checkpoint, a model being written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.runs.events import read_events

PHOTOS = Path(__file__).parents[1] / "photos" / "backpack_dog"


@pytest.mark.slow
@pytest.mark.parametrize("num_kills", [4, 10])
def test_kills_change_no_bit(tmp_path: Path, small_model: Path, num_kills: int) -> None:
    script = Path(__file__).with_name("kill_and_resume.py")
    command = [sys.executable, str(script), str(small_model), str(PHOTOS), str(tmp_path), str(num_kills), "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"kills: {num_kills}\n" in done.stdout
    undisturbed, disturbed = tmp_path / "undisturbed" / "run", sorted(tmp_path.glob("disturbed-*/run"))
    for name in ("model.safetensors", "checkpoints/step-000010/optimizer.safetensors", "models/step-000009.safetensors"):
        expected = load_file(undisturbed / name)
        for run in disturbed:
            found = load_file(run / name)
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[key], expected[key]) for key in expected), name
    for run in (undisturbed, *disturbed):
        steps = [event["step"] for event in read_events(run / "events.jsonl") if event["event"] == "step"]
        assert steps == list(range(1, 11))
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000009", "step-000010"]
    assert not [path for run in disturbed for path in run.rglob("*.partial-*")]
