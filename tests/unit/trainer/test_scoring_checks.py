"""What cannot be scored while it trains is refused before it does, all of it at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dreambooth.data.pictures import find_pictures
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.errors import SettingsError
from dreambooth.measures.settings import SelectionSettings
from dreambooth.runs.folder import RunFolder
from dreambooth.trainer.scoring_checks import check_can_score, encoders_of_run


@pytest.fixture
def subject(photos: Path, tmp_path: Path) -> SubjectSettings:
    """A dog and a cat by the names of their folders."""
    for place in ("rex/dog", "tom/cat"):
        (tmp_path / "named" / place).mkdir(parents=True)
        shutil.copy(min(photos.glob("*.jpg")), tmp_path / "named" / place / "1.jpg")
    return SubjectSettings(photos=tmp_path / "named", captions="filename", class_word="animal")


def check(subject: SubjectSettings, *, every: int, num_steps: int = 10, is_sharded: bool = False) -> tuple[str, ...]:
    photos = find_pictures(subject, PriorSettings(), resolution=16).photos
    selection = SelectionSettings(evaluate_every=every)
    try:
        check_can_score(selection, photos=photos, subject=subject, num_steps=num_steps, is_sharded=is_sharded)
    except SettingsError as error:
        return tuple(error.problems)
    return ()


def test_everything_is_told_at_once(subject: SubjectSettings) -> None:
    assert check(subject, every=11, is_sharded=True) == (
        "evaluate_every is 11 but steps is 10, so no step would be scored",
        "evaluate_every scores in one process, but with shard each process holds only part of the weights",
        "evaluate_every scores one subject, but the photos show several: rex dog, tom cat",
    )


def test_one_subject_and_a_last_step_that_is_scored(subject: SubjectSettings) -> None:
    alone = subject.model_copy(update={"photos": subject.photos / "rex"})
    assert check(alone.model_copy(update={"captions": "prompt"}), every=10) == ()


def test_what_is_not_scored_may_be_anything_and_needs_no_encoders(subject: SubjectSettings, tmp_path: Path) -> None:
    assert check(subject, every=0, is_sharded=True) == ()
    assert encoders_of_run(SelectionSettings(), RunFolder(tmp_path), None) is None  # type: ignore[arg-type]
