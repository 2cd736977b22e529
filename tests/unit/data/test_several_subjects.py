"""A list of subjects: read from a file or from settings, drawn by shares, captioned with words of their own."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreambooth.config import effective_values, parse_settings
from dreambooth.data.captions import named_settings, named_subjects
from dreambooth.data.drawing import PerRole, Share, Shares, drawing
from dreambooth.data.folder_layouts import layout_warnings
from dreambooth.data.pictures import find_pictures, shares_of
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.errors import SettingsError
from dreambooth.trainer.photo_folders import with_photo_folders

MakePhoto = Callable[..., Path]


def entry(folder: Path, token: str, class_word: str, **more: Any) -> dict[str, Any]:
    return {"photos": str(folder / token), "token": token, "class_word": class_word, **more}


@pytest.fixture
def entries(make_photo: MakePhoto, tmp_path: Path) -> list[dict[str, Any]]:
    """Three photos of one dog, two of another with captions of its own, one of a cat."""
    for seed, (token, number) in enumerate([("rex", 1), ("rex", 2), ("rex", 3), ("mwf", 1), ("mwf", 2), ("ada", 1)]):
        make_photo(f"{number}.png", seed=seed, folder=tmp_path / token)
    (tmp_path / "ada" / "1.txt").write_text("{token} on a sofa")
    return [
        entry(tmp_path, "rex", "dog"),
        entry(tmp_path, "mwf", "dog", instance_prompt="{token}, a {class_word}", weight=2),
        entry(tmp_path, "ada", "cat"),
    ]


def parsed(**values: Any) -> SubjectSettings:
    return parse_settings(SubjectSettings, values, where="test")


def problems(**values: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        parsed(**values)
    return tuple(caught.value.problems)


def test_a_file_and_a_list_are_the_same_settings(entries: list[dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "subjects.yaml"
    file.write_text(yaml.safe_dump({"subjects": entries}))
    listed = parsed(subjects=entries)
    assert parsed(subjects=str(file)) == parsed(subjects=[str(file)]) == listed
    assert parsed(**listed.model_dump(mode="json")) == listed
    written = effective_values(listed)
    assert not {"photos", "token", "class_word", "captions"} & written.keys()
    assert parsed(**written) == listed
    assert [(one.token, one.class_word, one.instance_prompt) for one in listed.each()] == [
        ("rex", "dog", "photo of a {token} {class_word}"),
        ("mwf", "dog", "{token}, a {class_word}"),
        ("ada", "cat", "photo of a {token} {class_word}"),
    ]


def test_one_subject_is_itself() -> None:
    alone = parsed(photos="rex", class_word="dog")
    assert alone.each() == (alone,)
    assert named_settings((), alone) == (alone,)
    assert shares_of((), alone) == ()


def test_mistakes_name_the_subject_and_the_file(entries: list[dict[str, Any]], tmp_path: Path) -> None:
    first, second, third = entries
    nameless = {name: value for name, value in second.items() if name != "token"}
    assert problems(subjects=[first, nameless, {**third, "wieght": 1, "weight": 0}]) == (
        "test: 'subjects.token' of number 2 is missing: rare word that will name it.",
        "test: 'subjects.weight' of number 3 is 0: expected at least 0.01",
        "test: unknown setting 'subjects.wieght' of number 3; did you mean 'subjects.weight'?",
    )
    assert problems(subjects=entries, token="sks", photos="x") == (
        "test: subjects gives the photos and the words of each subject, so photos, token would have no effect; "
        "use only one of them",
    )
    assert problems(subjects=entries, photos="x", mask_folder="masks") == (
        "test: subjects gives the photos and the words of each subject, so photos would have no effect; use only one of them",
        "test: mask_folder is for one subject; with subjects, name the masks NAME-mask.png beside the photos",
    )
    assert problems(subjects=[first, {**second, "token": "rex"}]) == (
        "test: subjects: two subjects have the token rex; give each its own",
    )
    assert problems(subjects=[first, {**second, "photos": first["photos"]}, {**third, "token": "rex"}]) == (
        f"test: subjects: two subjects have the photos {tmp_path / 'rex'}; give each its own",
        "test: subjects: two subjects have the token rex; give each its own",
    )
    assert problems(subjects=[{**first, "photos": str(tmp_path)}, second]) == (
        f"test: subjects: the photos of mwf ({tmp_path / 'mwf'}) lie in the folder of rex; separate them",
    )
    assert problems(subjects=entries, mask_folder="masks") == (
        "test: mask_folder is for one subject; with subjects, name the masks NAME-mask.png beside the photos",
    )
    assert problems(subjects=[{**first, "captions": "filename", "instance_prompt": "x"}]) == (
        "test: 'subjects': captions is filename, so instance_prompt would have no effect; use only one of them",
    )


def test_mistakes_in_a_file_are_those_of_the_file(entries: list[dict[str, Any]], tmp_path: Path) -> None:
    """They were told as mistakes of the preset, "preset toybox: unknown setting 'subject.subjects.wieght'"."""
    file = tmp_path / "subjects.yaml"
    first, second, third = entries
    nameless = {name: value for name, value in second.items() if name != "token"}
    wrong = [
        {**first, "wieght": 2, "zoom": 1},
        {**nameless, "weight": 0},
        "ada",
        {**third, "captions": "filenam", "token": 1905, "photos": None},
    ]
    file.write_text(yaml.safe_dump({"subject": 1, "subjects": wrong}))
    keys = "photos, token, class_word, captions, instance_prompt, prior_images, weight"
    assert problems(subjects=str(file)) == (
        f"{file}: unknown setting 'subject'; did you mean 'subjects'?",
        f"{file}: subject 1: unknown setting 'wieght'; did you mean 'weight'?",
        f"{file}: subject 1: unknown setting 'zoom'; expected {keys}",
        f"{file}: subject 2: 'token' is missing: rare word that will name it.",
        f"{file}: subject 2: 'weight' is 0: expected at least 0.01",
        f"{file}: subject 3 is 'ada': expected photos, token, class_word",
        f"{file}: subject 4: 'photos' is empty: expected a path",
        f"{file}: subject 4: 'token' is 1905: expected text; put a number, or a word such as yes, in quotes",
        f"{file}: subject 4: 'captions' is 'filenam': expected prompt or filename; did you mean 'filename'?",
    )


SHAPE = "'subjects:' and below it a list, each entry with photos, token, class_word"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- photos: a\n  token: b", [f"expected {SHAPE}, found a list"]),
        ("", [f"expected {SHAPE}, found an empty file"]),
        ("subjects: []", [f"subjects is []: expected {SHAPE}"]),
        ("subjects:\n  rex: {photos: a}", [f"subjects is {{'rex': {{'photos': 'a'}}}}: expected {SHAPE}"]),
        ("{}", [f"subjects is missing: expected {SHAPE}"]),
        ("loop: {steps: 3}", ["unknown setting 'loop'; expected 'subjects' alone", f"subjects is missing: expected {SHAPE}"]),
    ],
)
def test_a_file_of_another_shape_is_told_what_it_should_look_like(tmp_path: Path, text: str, told: list[str]) -> None:
    file = tmp_path / "subjects.yaml"
    file.write_text(text)
    assert problems(subjects=str(file)) == tuple(f"{file}: {one}" for one in told)


def test_a_file_of_subjects_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert problems(subjects=str(tmp_path / "none.yaml")) == (f"{tmp_path / 'none.yaml'}: no such settings file",)


def test_each_photo_has_the_words_of_its_subject(entries: list[dict[str, Any]]) -> None:
    subject = parsed(subjects=entries)
    pictures = find_pictures(subject, PriorSettings(), resolution=64)
    assert [one.caption for one in pictures.photos] == [
        *["photo of a rex dog"] * 3,
        *["mwf, a dog"] * 2,
        "ada on a sofa",
    ]
    photos = [one.photo for one in pictures.photos]
    assert [(words.token, words.class_word) for words in named_subjects(photos, subject)] == [
        ("rex", "dog"),
        ("mwf", "dog"),
        ("ada", "cat"),
    ]
    assert shares_of(photos, subject) == (Share(3, 1), Share(2, 2), Share(1, 1))
    assert layout_warnings(pictures, subject, PriorSettings()) == []


def test_folders_inside_a_subject_may_name_its_captions(entries: list[dict[str, Any]], make_photo: MakePhoto) -> None:
    folder = Path(entries[0]["photos"])
    make_photo("4@S asleep.png", seed=9, folder=folder)
    subject = parsed(subjects=[{**entries[0], "captions": "filename"}, entries[1]])
    said = [one.caption for one in find_pictures(subject, PriorSettings(), resolution=64).photos]
    assert said == [*["rex dog"] * 3, "rex asleep", *["mwf, a dog"] * 2]


def test_a_photo_of_two_subjects_is_reported(entries: list[dict[str, Any]]) -> None:
    rex, mwf = (Path(one["photos"]) for one in entries[:2])
    (mwf / "3.png").write_bytes((rex / "1.png").read_bytes())
    found = find_pictures(parsed(subjects=entries), PriorSettings(), resolution=64).problems
    assert [(one.path, one.message) for one in found if "also" in one.message] == [
        (mwf / "3.png", f"is also a photo of rex: {rex / '1.png'}")
    ]


def test_class_images_of_a_subject_are_those_of_its_class(
    entries: list[dict[str, Any]], make_photo: MakePhoto, tmp_path: Path
) -> None:
    make_photo("a.png", seed=20, folder=tmp_path / "cats")
    subject = parsed(subjects=[*entries[:2], {**entries[2], "prior_images": str(tmp_path / "cats")}])
    assert [one.caption for one in find_pictures(subject, PriorSettings(), resolution=64).given_priors] == ["photo of a cat"]
    assert find_pictures(subject, PriorSettings(prior_weight=0), resolution=64).given_priors == ()


def test_archives_of_subjects_are_unpacked(entries: list[dict[str, Any]], tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "rex-photos"), "zip", entries[0]["photos"])
    subject = with_photo_folders(parsed(subjects=[{**entries[0], "photos": archive}, entries[1]]), tmp_path / "unpacked")
    assert [one.photos.parent for one in subject.each()] == [tmp_path / "unpacked", tmp_path]
    assert subject.photos == subject.subjects[0].photos


@pytest.mark.parametrize("weights", [(1, 1, 1), (2, 1, 1), (0.5, 1.5, 0.25)])
def test_subjects_are_shown_as_often_as_their_weights_say(weights: tuple[float, ...]) -> None:
    numbers = (3, 2, 5)
    of = Shares(tuple(Share(num, weight) for num, weight in zip(numbers, weights, strict=True)), 4, seed=23)
    subject_of = [0] * 3 + [1] * 2 + [2] * 5
    num_draws = 10 * 9 * 4
    seen = Counter(subject_of[of.index("instance", draw)] for draw in range(num_draws))
    for subject, weight in enumerate(weights):
        assert seen[subject] == num_draws * weight / sum(weights)


def test_shares_are_counted_as_they_are_drawn() -> None:
    of = Shares((Share(3, 1), Share(2, 2)), 7, seed=23)
    for num_draws in (0, 1, 5, 17, 60):
        drawn = Counter(of.index("instance", draw) for draw in range(num_draws))
        assert of.exposures("instance", num_draws) == tuple(drawn[index] for index in range(5))
    assert of.num_reached("instance") == 5 and of.num_reached("prior") == 7
    rounds = drawing(PerRole(5, 7), None, seed=23)
    assert [of.index("prior", draw) for draw in range(30)] == [rounds.index("prior", draw) for draw in range(30)]
    assert of.exposures("prior", 30) == rounds.exposures("prior", 30)
    others = Shares((Share(3, 1), Share(2, 2)), 7, seed=24)
    assert [of.index("instance", draw) for draw in range(60)] != [others.index("instance", draw) for draw in range(60)]
    firsts = [[of.index("instance", 3 * turn + place) < 3 for place in range(3)] for turn in range(20)]
    orders = {tuple(turn) for turn in firsts}
    assert len(orders) == 3, "each turn has an order of its own"


def test_without_shares_everything_is_drawn_as_before() -> None:
    assert drawing(PerRole(3, 7), None, seed=5, shares=()) == drawing(PerRole(3, 7), None, seed=5)
