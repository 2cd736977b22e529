"""Which subjects of a run are measured: all, the one that is named, or none where it is not clear which is meant."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreambooth.errors import ModelFileError, PhotoError, SettingsError
from dreambooth.evaluation.remembered_run import remembered_run
from dreambooth.evaluation.request import EvaluationRequest
from dreambooth.evaluation.subjects import ChosenSubjects, chosen_subjects, name_of
from dreambooth.schema.verbs import TrainSettings

Make = Callable[..., TrainSettings]
Choose = Callable[..., ChosenSubjects]


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    """Two dogs and a cat."""
    for place in ("rex/dog", "tom/cat", "bello/dog"):
        (tmp_path / "named" / place).mkdir(parents=True)
        shutil.copy(min(photos.glob("*.jpg")), tmp_path / "named" / place / "1.jpg")
    return tmp_path / "named"


@pytest.fixture
def choose(run_settings: Make, folder: Path) -> Choose:
    """What is chosen of a run with these three, with flags given by name."""
    run = remembered_run(run_settings(subject={"photos": str(folder), "captions": "filename"}))

    def chosen(**given: Any) -> ChosenSubjects:
        return chosen_subjects(EvaluationRequest(model="runs/all of them", **given), run)

    return chosen


def names(chosen: ChosenSubjects) -> list[str]:
    return [name_of(one) for one in chosen.subjects]


def test_all_are_measured_where_none_is_named(choose: Choose) -> None:
    chosen = choose()
    assert names(chosen) == ["bello dog", "rex dog", "tom cat"]
    assert chosen.among is not None and len(chosen.among) == 3


@pytest.mark.parametrize("given", [{"token": "tom"}, {"class_word": "cat"}, {"token": "tom", "class_word": "cat"}])
def test_a_word_picks_one_with_its_own_photos(choose: Choose, given: dict[str, str]) -> None:
    chosen = choose(**given)
    assert names(chosen) == ["tom cat"]
    assert chosen.among is not None


def test_a_word_says_what_other_photos_show(choose: Choose, tmp_path: Path) -> None:
    chosen = choose(token="tom", photos=tmp_path)
    assert names(chosen) == ["tom cat"]
    assert (chosen.subjects[0].photos, chosen.among) == (tmp_path, None)


def test_a_subject_that_is_given_whole_need_not_be_of_the_run(choose: Choose, tmp_path: Path) -> None:
    chosen = choose(token="new", class_word="bird", photos=tmp_path)
    assert (names(chosen), chosen.among) == (["new bird"], None)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"token": "max"}, "none of them has token 'max'"),
        ({"token": "rex", "class_word": "cat"}, "none of them has class_word 'cat' and token 'rex'"),
        ({"class_word": "dog"}, "2 of them have class_word 'dog'"),
        ({"photos": Path("new photos")}, "photos does not say which of them it shows"),
    ],
)
def test_it_is_said_what_does_not_pick_one(choose: Choose, given: dict[str, Any], wrong: str) -> None:
    with pytest.raises(SettingsError) as caught:
        choose(**given)
    assert caught.value.problems == (
        f"runs/all of them: was trained on several subjects (bello dog, rex dog, tom cat), and {wrong}",
    )
    typed = "dreambooth evaluate --model 'runs/all of them'"
    photos = " --photos 'new photos'" if "photos" in given else ""
    assert caught.value.hint == (
        f"All of them: {typed}\nOne of them: {typed}{photos} --token bello --class-word dog\n"
        f"Another subject: {typed} --photos FOLDER --class-word WORD --token WORD"
    )


def test_a_path_that_is_not_there_is_told_before_what_it_would_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(SettingsError) as caught:
        chosen_subjects(EvaluationRequest(model="runs/nosuch"), None)
    assert caught.value.problems == (
        "model is runs/nosuch: no such file or folder; expected a run folder (needs no other options), a .ckpt or .safetensors "
        "file, a diffusers folder or a hub id",
    )
    assert "--output folder of an earlier dreambooth train" in caught.value.text
    with pytest.raises(SettingsError) as caught:
        chosen_subjects(EvaluationRequest(model="rnus/nosuch", token="sks"), None)
    assert caught.value.problems == tuple(
        f"{name} is missing: rnus/nosuch is not a local file or folder, and not a run folder that records it"
        for name in ("photos", "class_word")
    ), "it may be a hub id"
    given = EvaluationRequest(model="runs/nosuch", photos=tmp_path, class_word="dog", token="sks")
    assert names(chosen_subjects(given, None)) == ["sks dog"], "reading the model says what is wrong with it"
    with pytest.raises(SettingsError, match="photos is missing: runs is not a run folder that records it"):
        chosen_subjects(EvaluationRequest(model="runs"), None)
    for name in ("rex/config.yaml", "rex/status.json", "mia/config.yaml", "mia/status.json"):
        (tmp_path / "runs" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "runs" / name).touch()
    with pytest.raises(ModelFileError, match="runs: a folder with 2 runs: mia, rex\nGive one run folder, for example runs/mia"):
        chosen_subjects(EvaluationRequest(model="runs"), None)


def test_a_broken_photo_is_no_subject_less(choose: Choose, folder: Path) -> None:
    (folder / "tom" / "cat" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(PhotoError, match=r"tom.cat.1\.jpg"):
        choose()


def test_folders_say_nothing_where_captions_are_prompts(run_settings: Make, folder: Path) -> None:
    run = remembered_run(run_settings(subject={"photos": str(folder)}))
    chosen = chosen_subjects(EvaluationRequest(model="run", token="mwf"), run)
    assert (names(chosen), chosen.among) == (["mwf backpack"], None)


def test_subjects_of_a_list_are_measured_with_their_own_photos_and_prompts(run_settings: Make, folder: Path) -> None:
    subjects = [
        {"photos": str(folder / "rex"), "token": "rex", "class_word": "dog"},
        {"photos": str(folder / "tom"), "token": "tom", "class_word": "cat", "instance_prompt": "{token}!"},
    ]
    settings = run_settings()
    several = type(settings.subject).model_validate({"subjects": subjects})
    run = remembered_run(settings.model_copy(update={"subject": several}))
    chosen = chosen_subjects(EvaluationRequest(model="run"), run)
    assert [(name_of(one), one.photos, one.instance_prompt) for one in chosen.subjects] == [
        ("rex dog", folder / "rex", "photo of a {token} {class_word}"),
        ("tom cat", folder / "tom", "{token}!"),
    ]
    assert chosen.among is not None and len(chosen.among) == 2
    (tom,) = chosen_subjects(EvaluationRequest(model="run", token="tom"), run).subjects
    assert tom.photos == folder / "tom"
    (tom,) = chosen_subjects(EvaluationRequest(model="run", token="tom", class_word="cat", photos=folder), run).subjects
    assert (tom.photos, tom.subjects) == (folder, ())
