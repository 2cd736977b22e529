"""What cannot be scored while it trains is refused before it does, all of it at once."""

from __future__ import annotations

from pathlib import Path

from dreambooth.errors import SettingsError
from dreambooth.measures.settings import SelectionSettings
from dreambooth.runs.folder import RunFolder
from dreambooth.trainer.scoring_checks import check_can_score, encoders_of_run


def check(*, every: int, num_steps: int = 10, is_sharded: bool = False) -> tuple[str, ...]:
    try:
        check_can_score(SelectionSettings(evaluate_every=every), num_steps=num_steps, is_sharded=is_sharded)
    except SettingsError as error:
        return tuple(error.problems)
    return ()


def test_everything_is_told_at_once() -> None:
    assert check(every=11, is_sharded=True) == (
        "evaluate_every is 11 but steps is 10, so no step would be scored",
        "evaluate_every scores in one process, but with shard each process holds only part of the weights",
    )


def test_a_last_step_that_is_scored() -> None:
    assert check(every=10) == ()


def test_what_is_not_scored_may_be_anything_and_needs_no_encoders(tmp_path: Path) -> None:
    assert check(every=0, is_sharded=True) == ()
    assert encoders_of_run(SelectionSettings(), RunFolder(tmp_path), None) is None  # type: ignore[arg-type]
