"""The event log: one JSON object a line, cut back when a run is resumed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dreambooth.errors import RunError
from dreambooth.runs.events import (
    EventLog,
    EventRecords,
    read_event_records,
    read_events,
)


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


GOOD: dict[str, Any] = {"event": "step", "step": 3, "time": 1.5, "loss": 0.5}
SCORED: dict[str, Any] = {
    "event": "evaluation",
    "step": 4,
    "time": 2,
    "balance": 0.5,
    "fidelity": 0.1,
    "prompt": None,
    "prior": 0.2,
    "scores": {"dino": 0.5},
}
CHOSEN: dict[str, Any] = {"event": "selection", "step": 4, "time": 2, "chosen": 4, "best": 4, "text": "x", "balances": {}}


def without(event: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != name}


DAMAGED = [
    b"\xff\xfe\x00",
    b"",
    b"null",
    b"[1]",
    b'{"event": "step"',
    b"[" * 5000,
    json.dumps({**GOOD, "step": 10**30}).encode(),
    *(
        json.dumps(value).encode()
        for value in (
            *(
                {**GOOD, name: value}
                for name in ("event", "step", "time", "loss")
                for value in (None, "x", [1], True, math.nan)
            ),
            *({**GOOD, "step": value} for value in (-1, 1.5)),
            *({key: value for key, value in GOOD.items() if key != left_out} for left_out in ("event", "step", "time")),
            *(
                {key: value for key, value in SCORED.items() if key != left_out}
                for left_out in ("balance", "fidelity", "scores")
            ),
            {**SCORED, "scores": {"dino": "x"}},
            {**SCORED, "balance": None},
            *({**SCORED, "subjects": subjects} for subjects in ([], None, {"rex dog": None}, {"rex dog": {"balance": 0.5}})),
            *(without(CHOSEN, name) for name in ("chosen", "best", "balances")),
            {**CHOSEN, "text": 1},
        )
        if value != {**GOOD, "event": "x"}
    ),
]


def test_damaged_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    whole = [{**GOOD, "step": 0}, SCORED, {**CHOSEN, "note": "é"}, {"event": "of a later version", "step": 4, "time": 3}]
    path = tmp_path / "events.jsonl"
    lines = [json.dumps(event).encode() for event in whole]
    path.write_bytes(b"\n".join([*lines[:2], *DAMAGED, *lines[2:], b'{"event": "step", "st']))
    found = read_event_records(path)
    assert found.events == whole and found.num_damaged == len(DAMAGED)
    log = EventLog(path, resume_step=3)
    log.close()
    assert log.num_damaged == len(DAMAGED) and read_event_records(path) == EventRecords(whole[:1], 0)


def test_before_the_first_checkpoint_all_events_are_made_again(tmp_path: Path) -> None:
    """Events of step 0, of a run killed before its first checkpoint, stood twice after it was resumed."""
    for _ in range(2):
        log = EventLog(tmp_path / "events.jsonl", resume_step=-1)
        log.add("validation", step=0)
        log.close()
    assert [event["step"] for event in read_events(tmp_path / "events.jsonl")] == [0]


def test_a_folder_in_place_of_the_file_is_an_error_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be read: (Is a directory|Permission denied)"):
        read_events(tmp_path)
