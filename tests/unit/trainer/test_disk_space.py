"""The room that a run needs on the disk, number by number."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dreambooth.errors import RunError
from dreambooth.memory.plan import PRESETS
from dreambooth.trainer.disk_space import Stored, check_disk_space, run_bytes
from dreambooth.trainer.due import Intervals

MARGIN = 256 * 2**20
STORED = Stored(
    num_trained=1000, num_parameters=5000, model_dtype="float16", keep_checkpoints=None, keeps_average=False, has_states=True
)
INTERVALS = Intervals(num_steps=10, validation=0, scores=0, previews=0, image_log=0, models=0, checkpoints=10)


def room(stored: Stored = STORED, intervals: Intervals = INTERVALS, preset: str = "cpu") -> int:
    return run_bytes(stored, intervals, PRESETS[preset]) - MARGIN  # type: ignore[index]


def test_one_checkpoint_and_one_model() -> None:
    assert room() == 1000 * (4 + 4 + 4) + 5000 * 2


def test_an_average_is_kept_in_float32() -> None:
    assert room(replace(STORED, keeps_average=True)) - room() == 1000 * 4


def test_an_optimizer_without_states() -> None:
    assert room() - room(replace(STORED, has_states=False)) == 1000 * 8


def test_a_new_checkpoint_stands_beside_those_that_are_kept() -> None:
    every = replace(INTERVALS, checkpoints=2)
    checkpoint = 1000 * 12
    assert room(intervals=every) == 5 * checkpoint + 5000 * 2
    assert room(replace(STORED, keep_checkpoints=1), every) == 2 * checkpoint + 5000 * 2
    assert room(replace(STORED, keep_checkpoints=9), every) == 5 * checkpoint + 5000 * 2


def test_a_model_for_each_step_that_has_one() -> None:
    checkpoint = 1000 * 12
    assert room(intervals=replace(INTERVALS, models=3)) == checkpoint + 4 * 5000 * 2  # 3, 6, 9, 10
    assert room(intervals=replace(INTERVALS, models=3, scores=2)) == checkpoint + 7 * 5000 * 2  # 2, 3, 4, 6, 8, 9, 10
    assert room(replace(STORED, model_dtype="float32")) == checkpoint + 5000 * 4


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * 10**9))
    check_disk_space(tmp_path / "runs" / "rex", 2 * 10**9)
    with pytest.raises(RunError, match=r"rex: .*3\.0 GB .*2\.0 GB"):
        check_disk_space(tmp_path / "runs" / "rex", 3 * 10**9)
