"""The event log: one JSON object a line, cut back when a run is resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.errors import SettingsError
from dreambooth.runs import events
from dreambooth.runs.events import EventLog, NoTensorBoard, TensorBoard, check_tensorboard, read_events


def test_events_are_read_back_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run" / "events.jsonl")
    log.add("step", step=1, loss=0.5)
    log.add("step", step=2, loss=0.25)
    log.close()
    with (tmp_path / "run" / "events.jsonl").open("a") as file:
        file.write('{"event": "step", "st')
    read = read_events(tmp_path / "run" / "events.jsonl")
    assert [(event["event"], event["step"], event["loss"]) for event in read] == [("step", 1, 0.5), ("step", 2, 0.25)]
    assert read_events(tmp_path / "nowhere") == []


def test_resuming_drops_the_events_of_steps_that_will_be_made_again(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for step in range(5):
        log.add("step", step=step)
    log.close()
    resumed = EventLog(path, resume_step=2)
    resumed.add("step", step=3)
    resumed.close()
    assert [event["step"] for event in read_events(path)] == [0, 1, 2, 3]


def test_missing_tensorboard_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="package is not installed\nType: pip install tensorboard"):
        check_tensorboard()


def test_tensorboard_writes_its_files_when_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = TensorBoard(tmp_path)
    board.add(1, {"loss/instance": 0.5})
    board.close()
    assert list(tmp_path.glob("events.out.tfevents.*"))
    NoTensorBoard().add(1, {})
    NoTensorBoard().close()
