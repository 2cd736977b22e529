"""A run folder that is renamed, removed or copied while the run trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.display_silent import SilentDisplay
from dreambooth.errors import RunError
from dreambooth.recipes.train import resume, train
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.status import read_status
from dreambooth.schema.verbs import TrainSettings

pytestmark = pytest.mark.slow

MakeSettings = Callable[..., TrainSettings]


class ActsAt(SilentDisplay):
    """Acts when the run reports an event of a step."""

    def __init__(self, kind: str, step: int, act: Callable[[], object]) -> None:
        self._when, self._act = (kind, step), act

    def event(self, kind: str, values: Mapping[str, Any]) -> None:
        if (kind, values["step"]) == self._when:
            self._act()


def outcome(run: Path, *names: Path) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """The events without times and folders, and the weights."""
    text = json.dumps([{**event, "time": 0} for event in read_events(run / "events.jsonl")])
    for name in names:
        text = text.replace(str(name), "RUN")
    return json.loads(text), load_file(run / "model.safetensors")


def test_a_run_is_saved_where_its_folder_is_now_and_copies_go_on_too(run_settings: MakeSettings, tmp_path: Path) -> None:
    looks = {"validation_steps": 2, "checkpoint_steps": 3}

    def settings(name: str) -> TrainSettings:
        return run_settings(output={"output": str(tmp_path / "runs" / name), **looks})

    first, copy = tmp_path / "runs" / "first", tmp_path / "copies" / "first"
    train(settings("first"), ActsAt("checkpoint", 3, lambda: shutil.copytree(first, copy)))
    expected_events, expected = outcome(first, first)
    resume(copy, {}, SilentDisplay())
    copied_events, copied = outcome(copy, first, copy)
    assert copied_events == expected_events and all(torch.equal(copied[name], expected[name]) for name in expected)

    second, elsewhere = tmp_path / "runs" / "second", tmp_path / "elsewhere"
    with pytest.raises(RunError) as caught:
        train(settings("second"), ActsAt("step", 2, lambda: second.rename(elsewhere)))
    assert str(caught.value.problems[0]) == f"{second}: the folder was moved to {elsewhere} while the run trained"
    hint = f"Stopped. The run is saved at step 2. To resume:\n  dreambooth train --resume {elsewhere}"
    assert caught.value.hint == hint
    assert not second.exists(), "nothing is written under the old name"
    status = read_status(RunFolder(elsewhere))
    assert status is not None and status.state == "failed" and str(elsewhere) in status.reason
    resume(elsewhere, {}, SilentDisplay())
    moved_events, moved = outcome(elsewhere, second, elsewhere)
    assert all(torch.equal(moved[name], expected[name]) for name in expected)
    saved_twice = [event for event in moved_events if (event["event"], event["step"]) != ("checkpoint", 2)]
    assert saved_twice == expected_events, "but for the checkpoint of the stop"

    third = tmp_path / "runs" / "third"
    with pytest.raises(RunError, match="third: the folder was removed, or moved to another disk"):
        train(settings("third"), ActsAt("step", 2, lambda: shutil.rmtree(third)))
    assert not third.exists()
