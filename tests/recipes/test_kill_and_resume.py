"""SIGKILL at random moments, wherever they fall: class images, encoding, a step, a checkpoint, a model being written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from dreambooth.training.events import read_events

PHOTOS = Path(__file__).parents[1] / "photos" / "backpack_dog"


def test_ten_kills_change_no_bit(tmp_path: Path) -> None:
    script = Path(__file__).with_name("kill_and_resume.py")
    command = [sys.executable, str(script), "toybox", str(PHOTOS), str(tmp_path), "10", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills: 10" in done.stdout
    undisturbed, disturbed = tmp_path / "undisturbed" / "run", tmp_path / "disturbed" / "run"
    for name in ("model.safetensors", "checkpoints/step-000010/optimizer.safetensors", "models/step-000009.safetensors"):
        one, other = load_file(undisturbed / name), load_file(disturbed / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    for run in (undisturbed, disturbed):
        steps = [event["step"] for event in read_events(run / "events.jsonl") if event["event"] == "step"]
        assert steps == list(range(1, 11))
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000009", "step-000010"]
    assert not list(disturbed.rglob("*.partial-*"))
