"""What a run says about its pictures before it begins: problems, captions, and what would never be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dreambooth.data.drawing import PerRole
from dreambooth.data.pictures import Pictures, find_pictures, unseen_warnings
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.data.settings import PriorSettings
from dreambooth.display import Display
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer.preflight_tables import show_captions

MakeSettings = Callable[..., TrainSettings]


def make_pictures(folder: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng([seed, *folder.name.encode()]).integers(0, 256, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((80, 72), Image.Resampling.BICUBIC).save(path)
    return folder


def captioned(*captions: str) -> tuple[CaptionedPhoto, ...]:
    return tuple(CaptionedPhoto(Photo(Path("a.jpg"), "0", 64, 64, None), caption) for caption in captions)


def test_photos_and_class_images_are_captioned_by_their_names(run_settings: MakeSettings, tmp_path: Path) -> None:
    photos = make_pictures(tmp_path / "photos", "bingo/dog/1.jpg", "effy/person/2@S asleep.jpg", "3.jpg")
    regs = make_pictures(tmp_path / "regs", "dog/1.jpg", "person/2.jpg", "3.jpg")
    settings = run_settings(
        subject={"photos": photos, "captions": "filename"},
        prior={"prior_images": regs, "num_prior_images": 200, "prior_sampling_steps": 50},
    )
    pictures = find_pictures(settings.subject, settings.prior, resolution=64)
    assert [one.caption for one in pictures.photos] == ["sks backpack", "bingo dog", "effy asleep"]
    assert [one.caption for one in pictures.given_priors] == ["backpack", "dog", "person"]
    assert pictures.problems == ()


def test_photos_with_nothing_to_say_are_a_problem_beside_all_others(run_settings: MakeSettings, tmp_path: Path) -> None:
    photos = make_pictures(tmp_path / "photos", "1@.jpg", "2@S.jpg", "3.jpg")
    (photos / "4.jpg").write_bytes(b"")
    settings = run_settings(subject={"photos": photos, "captions": "filename"})
    pictures = find_pictures(settings.subject, settings.prior, resolution=64)
    assert [(problem.path.name, problem.message) for problem in pictures.problems] == [
        ("4.jpg", "is empty (0 bytes)"),
        ("photos", "contains 1 image without a caption"),
    ]
    assert pictures.problems[1].advice == "Write a caption after the @ of each name, or remove the @."


def test_captions_are_counted(display: Display, said: Callable[[], str]) -> None:
    show_captions(Pictures(captioned("rex dog", "bingo dog", "rex dog"), captioned("dog"), ()), display)
    lines = [line.split() for line in said().splitlines() if "dog" in line or "caption" in line]
    assert lines == [
        ["caption", "photos"],
        ["rex", "dog", "2"],
        ["bingo", "dog", "1"],
        ["caption", "class", "images"],
        ["dog", "1"],
    ]


@pytest.mark.parametrize(("num", "last"), [(12, ["caption", "11", "2"]), (13, ["and", "1", "more", "2"]), (20, None)])
def test_a_table_has_twelve_captions_at_most(
    display: Display, said: Callable[[], str], num: int, last: list[str] | None
) -> None:
    show_captions(
        Pictures(captioned(*(f"caption {number}" for number in range(num)), *(f"caption {n}" for n in range(num))), (), ()),
        display,
    )
    lines = [line.split() for line in said().splitlines() if line.strip()]
    assert lines[-1] == (last or ["and", "8", "more", "16"])
    assert sum(line[0] == "caption" and line[1].isdigit() and len(line) == 3 for line in lines) == 12
    assert not any("class images" in line for line in said().splitlines())


def test_the_unseen_tail_is_told() -> None:
    pairs = PriorSettings(original_pairing=True)
    (warning,) = unseen_warnings(pairs, PerRole(10, 1500))
    assert warning == (
        "original_pairing: an epoch has 1000 pairs (10 photos x 100 repeats), so 500 of 1500 class images will never be seen; "
        "--photo-repeats 150 reaches all"
    )
    assert unseen_warnings(PriorSettings(original_pairing=True, photo_repeats=150), PerRole(10, 1500)) == []
    assert unseen_warnings(pairs, PerRole(10, 1000)) == []
    assert unseen_warnings(PriorSettings(), PerRole(10, 1500)) == []


def test_unseen_photos_are_told_too() -> None:
    (warning,) = unseen_warnings(PriorSettings(original_pairing=True), PerRole(25, 2))
    assert warning == (
        "original_pairing: an epoch has 20 pairs (2 class images x 10 repeats), so 5 of 25 photos will never be seen; "
        "--prior-repeats 13 reaches all"
    )
    assert unseen_warnings(PriorSettings(original_pairing=True, prior_repeats=13), PerRole(25, 2)) == []
