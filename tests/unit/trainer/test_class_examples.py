"""Which class examples a run has, and what becomes of subjects that its base model knows."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dreambooth.data.pictures import Pictures
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.trainer.class_examples import (
    balanced,
    classes_without_images,
    earlier_subjects,
    given_by_class,
    made_classes,
    num_class_examples,
    own_subjects,
    prior_target,
    replay_text,
    replayed,
    same_token_warnings,
)
from dreambooth.weights.subjects import SUBJECTS, LearnedSubject, learned_subjects, subjects_text

REX = LearnedSubject("sks", "dog", "photo of a sks dog")
ADA = LearnedSubject("zwx", "cat", "a zwx cat")


def photo(name: str, caption: str = "x") -> CaptionedPhoto:
    return CaptionedPhoto(Photo(path=Path("photos") / name, digest=name, width=64, height=64, caption=None), caption)


def model(*subjects: LearnedSubject, text: str | None = None) -> Any:
    return SimpleNamespace(metadata={SUBJECTS: subjects_text((), subjects) if text is None else text})


PICTURES = Pictures((photo("1"), photo("2")), (photo("class"),), ())
CAT = SubjectSettings(photos=Path("photos"), class_word="cat", token="zwx", instance_prompt="a {token} {class_word}")


def test_a_list_of_subjects_is_read_as_it_was_written() -> None:
    assert learned_subjects(model(REX, ADA)) == (REX, ADA)
    assert json.loads(subjects_text((REX,), (ADA,)))[1] == {"token": "zwx", "class_word": "cat", "prompt": "a zwx cat"}
    assert [one["token"] for one in json.loads(subjects_text((REX, ADA), (REX,)))] == ["sks", "zwx"], "each once"


@pytest.mark.parametrize("text", ["", "[", "[1]", '[{"token": "sks"}]', '"x"'])
def test_a_list_that_is_none_names_nobody(text: str) -> None:
    assert learned_subjects(model(text=text)) == ()


def test_the_subjects_that_the_base_model_knows_are_those_that_the_run_does_not_learn_itself() -> None:
    assert own_subjects(PICTURES.photos, CAT) == (ADA,)
    assert earlier_subjects(model(REX, ADA), PICTURES, CAT) == (REX,), "training ada further"
    assert earlier_subjects(model(), PICTURES, CAT) == ()


@pytest.mark.parametrize(
    ("values", "kept", "target"),
    [
        ({}, (REX,), "prediction"),
        ({"replay": False}, (), "noise"),
        ({"prior_weight": 0}, (), "noise"),
        ({"original_pairing": True}, (), "noise"),
        ({"prior_target": "noise"}, (REX,), "noise"),
        ({"replay": False, "prior_examples": "photos"}, (), "prediction"),
        ({"replay": False, "prior_target": "prediction"}, (), "prediction"),
    ],
)
def test_earlier_subjects_are_replayed_and_predicted_unless_the_settings_say_otherwise(
    values: dict[str, Any], kept: tuple[LearnedSubject, ...], target: str
) -> None:
    prior = PriorSettings(**values)
    assert replayed((REX,), prior) == kept
    assert prior_target(prior, (REX,)) == target
    assert ("--no-replay turns this off" in replay_text((REX,), prior)) == bool(kept)
    assert "'sks dog'" in replay_text((REX,), prior)


def test_every_kind_of_class_example_is_drawn_equally_often() -> None:
    images, photos = [photo("a"), photo("b"), photo("c")], [photo("p")]
    found = balanced([images, photos, []], PriorSettings())
    assert [one.photo.digest for one in found] == ["a", "b", "c", "p", "p", "p"]
    assert balanced([images, [], []], PriorSettings()) == tuple(images)
    paired = balanced([images, photos], PriorSettings(original_pairing=True))
    assert [one.photo.digest for one in paired] == ["a", "b", "c", "p"]


@pytest.mark.parametrize(
    ("values", "num_replayed", "expected"),
    [
        ({"num_prior_images": 4}, 0, 5),
        ({"prior_weight": 0}, 0, 1),
        ({"prior_examples": "photos"}, 0, 2 * 2),
        ({"prior_examples": "both", "num_prior_images": 4}, 0, 2 * 5),
        ({"num_prior_images": 4, "replay_images": 9}, 2, 3 * 9),
    ],
)
def test_their_number_is_known_before_any_is_made(values: dict[str, Any], num_replayed: int, expected: int) -> None:
    prior = PriorSettings(**values)
    assert num_class_examples(PICTURES, prior, CAT, num_replayed=num_replayed) == expected


def test_one_word_for_two_subjects_is_warned_of() -> None:
    other = LearnedSubject("sks", "cat", "photo of a sks cat")
    (said,) = same_token_warnings((REX,), (other, ADA))
    assert said == "'sks' already names a subject of the base model ('sks dog'): choose another --token, or both mix"


PETS = SubjectSettings.model_validate(
    {
        "subjects": [
            {"photos": "rex", "token": "rex", "class_word": "dog"},
            {"photos": "mwf", "token": "mwf", "class_word": "dog", "instance_prompt": "{token}, a {class_word}"},
            {"photos": "ada", "token": "ada", "class_word": "cat", "prior_images": "cats"},
        ]
    }
)


def in_folder(folder: str, name: str = "1") -> CaptionedPhoto:
    return CaptionedPhoto(Photo(Path(folder) / name, f"{folder} {name}", 64, 64, None), "x")


def test_a_class_that_two_subjects_share_is_generated_once() -> None:
    assert classes_without_images(PETS) == made_classes(PETS, PriorSettings()) == ("dog",)
    assert made_classes(PETS, PriorSettings(prior_weight=0)) == ()
    assert classes_without_images(CAT) == ("cat",)


def test_given_images_belong_to_the_class_of_their_folder() -> None:
    cat, other = in_folder("cats"), in_folder("others")
    assert given_by_class((cat, other), PETS) == {"dog": (), "cat": (cat,), "": (other,)}
    assert given_by_class((cat, other), CAT) == {"cat": (cat, other)}


def test_every_class_counts_alike() -> None:
    pictures = Pictures((photo("1"),), (in_folder("cats"), in_folder("cats", "2"), in_folder("others")), ())
    assert num_class_examples(pictures, PriorSettings(num_prior_images=5), PETS, num_replayed=0) == 3 * 5


def test_each_listed_subject_is_learned_with_its_own_prompt() -> None:
    photos = tuple(in_folder(folder) for folder in ("rex", "mwf", "ada"))
    assert [one.prompt for one in own_subjects(photos, PETS)] == ["photo of a rex dog", "mwf, a dog", "photo of a ada cat"]
