"""How far a run is, read while it is being written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreambooth.runs.events import EventLog
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.progress import asked_steps, preview_pictures, read_progress


def _write(run: RunFolder, events: list[dict[str, Any]], rest: str = "") -> None:
    run.path.mkdir(exist_ok=True)
    run.events.write_text("".join(json.dumps(event) + "\n" for event in events) + rest, encoding="utf-8")


def _step(step: int, time: float, loss: float = 0.1, **more: float) -> dict[str, Any]:
    return {"event": "step", "step": step, "time": time, "instance_loss": loss, **more}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "rex")


def test_before_anything_is_written_nothing_has_happened(run: RunFolder) -> None:
    progress = read_progress(run)
    assert (progress.step, progress.seconds_per_step, progress.preview_steps) == (0, None, ())
    assert progress.losses == {"photos": (), "class": ()}
    assert asked_steps(run) is None
    assert preview_pictures(run, 0) == []


def test_losses_are_smoothed_and_those_on_fixed_noise_are_not(run: RunFolder) -> None:
    measured = {"event": "validation", "step": 0, "time": 0.0, "instance_loss": 0.3, "prior_loss": 0.2}
    _write(run, [measured, _step(1, 1.0, 0.5, prior_loss=0.1), _step(2, 2.0, 0.3, prior_loss=0.1)])
    progress = read_progress(run)
    assert progress.step == 2
    assert [step for step, _ in progress.losses["photos"]] == [1, 2]
    assert progress.losses["photos"][0][1] == pytest.approx(0.5)
    assert 0.3 < progress.losses["photos"][1][1] < 0.4, "the mean of 0.5 and 0.3, the later one a little heavier"
    assert progress.validation == {"photos": ((0, 0.3),), "class": ((0, 0.2),)}


def test_a_line_that_is_still_being_written_is_left_for_the_next_time(run: RunFolder) -> None:
    whole = json.dumps(_step(2, 2.0))
    for cut in (1, len(whole) // 2, len(whole) - 1):
        _write(run, [_step(1, 1.0)], rest=whole[:cut])
        assert read_progress(run).step == 1
    _write(run, [_step(1, 1.0)], rest=whole)
    assert read_progress(run).step == 2


def test_a_cut_line_that_is_json_by_chance_is_left_out_too(run: RunFolder) -> None:
    _write(run, [_step(1, 1.0)], rest="12")
    assert read_progress(run).step == 1


def test_events_of_steps_that_are_made_again_are_gone_after_a_resume(run: RunFolder) -> None:
    _write(run, [_step(step, float(step)) for step in range(1, 9)])
    EventLog(run.events, resume_step=5).close()
    assert read_progress(run).step == 5


def test_previews_and_saving_are_no_part_of_the_speed(run: RunFolder) -> None:
    preview = {"event": "preview", "step": 2, "time": 50.0, "sheet": "x.png"}
    _write(run, [_step(1, 1.0), _step(2, 1.5), preview, _step(3, 100.5), _step(4, 101.0)])
    progress = read_progress(run)
    assert progress.seconds_per_step == pytest.approx(0.5)
    assert progress.preview_steps == (2,)


def test_the_speed_is_that_of_the_newest_steps(run: RunFolder) -> None:
    slow = [_step(step, 10.0 * step) for step in range(1, 11)]
    quick = [_step(10 + step, 100.0 + 0.25 * step) for step in range(1, 61)]
    _write(run, [*slow, *quick])
    assert read_progress(run).seconds_per_step == pytest.approx(0.25)


def test_the_time_between_a_stop_and_going_on_is_no_part_of_the_speed(run: RunFolder) -> None:
    _write(run, [_step(1, 1.0), _step(2, 2.0), _step(3, 9000.0), _step(4, 9000.5)])
    assert read_progress(run, since=8990.0).seconds_per_step == pytest.approx(0.5)


def test_the_steps_asked_for_are_those_of_the_runs_own_settings(run: RunFolder) -> None:
    run.path.mkdir()
    run.config.write_text("loop: {steps: 300}\n", encoding="utf-8")
    assert asked_steps(run) == 300
