"""What is due at a step, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreambooth.trainer.due import Due, Intervals

EVERY = Intervals(num_steps=12, validation=2, scores=3, previews=4, image_log=5, models=6, checkpoints=4)
NEVER = Intervals(num_steps=12, validation=0, scores=0, previews=0, image_log=0, models=0, checkpoints=5)


@pytest.mark.parametrize(
    ("step", "due"),
    [
        (1, Due()),
        (2, Due(validates=True)),
        (3, Due(scores=True, writes_model=True)),
        (4, Due(validates=True, previews=True, writes_checkpoint=True)),
        (5, Due(logs_images=True)),
        (6, Due(validates=True, scores=True, writes_model=True)),
        (12, Due(validates=True, scores=True, previews=True, writes_model=True, writes_checkpoint=True, is_last=True)),
    ],
)
def test_after_a_step(step: int, due: Due) -> None:
    assert EVERY.after(step) == due


def test_what_is_never_due() -> None:
    assert [NEVER.after(step) for step in (1, 4)] == [Due(), Due()]
    assert NEVER.after(5) == Due(writes_checkpoint=True)
    assert NEVER.after(12) == Due(writes_model=True, writes_checkpoint=True, is_last=True)
    assert NEVER.before() == Due()


def test_an_early_end_is_the_last_step() -> None:
    assert EVERY.after(3, ends=True) == Due(scores=True, writes_model=True, writes_checkpoint=True, is_last=True)


def test_before_the_first_step_nothing_is_written_and_no_photos_of_a_step_are_shown() -> None:
    assert EVERY.before() == Due(validates=True, scores=True, previews=True)
    assert replace(EVERY, scores=0, previews=0).before() == Due(validates=True)


def test_scores_are_the_main_process_alone() -> None:
    assert (Due(scores=True).looks, Due(scores=True).looks_together) == (True, False)
    for due in (Due(validates=True), Due(previews=True), Due(logs_images=True)):
        assert (due.looks, due.looks_together) == (True, True)
    assert not Due(writes_model=True, writes_checkpoint=True, is_last=True).looks


@pytest.mark.parametrize(("scores", "models"), [(0, 0), (3, 0), (0, 4), (3, 4), (2, 6), (6, 6), (5, 7), (20, 30)])
def test_the_models_of_a_run_are_counted(scores: int, models: int) -> None:
    intervals = replace(NEVER, scores=scores, models=models)
    assert intervals.num_models == sum(intervals.after(step).writes_model for step in range(1, 13))


def test_the_models_of_a_very_long_run_are_counted_at_once() -> None:
    assert replace(NEVER, num_steps=10**15, models=10**6).num_models == 10**9
