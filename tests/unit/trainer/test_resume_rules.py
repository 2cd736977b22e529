"""What a resumed run refuses to change, and what it says to type instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreambooth.config import parse_settings, write_yaml
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.runs.folder import RunFolder
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer import resume_rules
from dreambooth.trainer.resume_rules import _differences, settings_for_resume

SUBJECTS: list[dict[str, Any]] = [
    {"photos": "a", "token": "rex", "class_word": "dog"},
    {"photos": "b", "token": "ada", "class_word": "cat", "weight": 2},
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of two subjects that has trained."""
    monkeypatch.setattr(resume_rules, "is_untrained", lambda _: False)
    found = RunFolder(tmp_path / "run")
    values: dict[str, Any] = {"base": {"model": "m"}, "subject": {"subjects": SUBJECTS}, "output": {"output": str(found.path)}}
    values["memory"] = {"memory_preset": "cpu"}
    write_yaml(found.config, parse_settings(TrainSettings, values, where="test"), comment="")
    return found


def test_of_a_folder_with_runs_one_is_asked_for(run: RunFolder) -> None:
    run.status.touch()
    with pytest.raises(ModelFileError, match=f"a folder with 1 run: run\nGive one run folder, for example {run.path}"):
        settings_for_resume(RunFolder(run.path.parent), {})


def test_the_photos_of_subjects_may_move(run: RunFolder) -> None:
    moved = [{**SUBJECTS[0], "photos": "c"}, {**SUBJECTS[1], "prior_images": "d"}]
    subjects = settings_for_resume(run, {"subject.subjects": moved}).subject.subjects
    assert (subjects[0].photos, subjects[1].prior_images) == (Path("c"), Path("d"))


def test_other_subjects_are_told_one_by_one(run: RunFolder) -> None:
    """The message held both lists as they look in Python."""
    other = [SUBJECTS[0], {**SUBJECTS[1], "token": "mwf", "weight": 1}, {"photos": "c", "token": "tom", "class_word": "cat"}]
    with pytest.raises(SettingsError) as caught:
        settings_for_resume(run, {"subject.subjects": other, "loop.steps": 900})
    assert caught.value.problems == (
        "subject.subjects (number) was 2 when the run started and is now 3",
        "subject.subjects 2.token was 'ada' when the run started and is now 'mwf'",
        "subject.subjects 2.weight was 2.0 when the run started and is now 1.0",
    )
    assert caught.value.hint == (
        "A resumed run keeps its settings. Remove these options, or start a new run with them:\n"
        f"  dreambooth train --preset {run.config} --output NEW_FOLDER --subjects ... --steps ..."
    )


def test_differences_are_told_by_their_paths() -> None:
    values: dict[str, Any] = {
        "base": {"model": "m"},
        "output": {"output": "o"},
        "subject": {"photos": "a", "class_word": "dog"},
    }
    old = parse_settings(TrainSettings, values, where="test")
    new = parse_settings(TrainSettings, {**values, "loop": {"steps": 7}, "prior": {"also_prior": ["d"]}}, where="test")
    assert _differences(old, new) == {"loop.steps": (old.loop.steps, 7), "prior.also_prior": ((), (Path("d"),))}
    assert _differences(old, old) == {}
