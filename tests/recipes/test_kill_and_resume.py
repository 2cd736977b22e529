"""SIGKILL at random moments, wherever they fall: class images, encoding, a step, a checkpoint, a model being written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.runs.events import read_events

PHOTOS = Path(__file__).parents[1] / "photos" / "backpack_dog"


def without_times(run: Path) -> list[dict[str, Any]]:
    """The events of a run but for their times, and for the folder that the run is in."""
    text = json.dumps(
        [{key: value for key, value in event.items() if key != "time"} for event in read_events(run / "events.jsonl")]
    )
    events: list[dict[str, Any]] = json.loads(text.replace(str(run), "run"))
    return events


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
    expected_events = without_times(undisturbed)
    for run in disturbed:
        assert without_times(run) == expected_events
    for run in (undisturbed, *disturbed):
        steps = [event["step"] for event in read_events(run / "events.jsonl") if event["event"] == "step"]
        assert steps == list(range(1, 11))
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000009", "step-000010"]
    assert not [path for run in disturbed for path in run.rglob("*.partial-*")]
