"""Folder names of kohya's trainer: what they say, and what only looks like one."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from dreambooth.data.file_name_captions import (
    Words,
    caption_of_class_image,
    caption_of_photo,
    class_of_class_image,
    words_of_photo,
)
from dreambooth.data.repeat_folders import RepeatFolder, repeat_folder, without_parents

DEFAULT = Words("ohwx", "dog")


@pytest.mark.parametrize(
    ("name", "repeats", "words"),
    [
        ("10_sks vase", 10, ("sks", "vase")),
        ("1_vase", 1, ("vase",)),
        ("100_sks_golden retriever", 100, ("sks", "golden", "retriever")),
        ("5_犬", 5, ("犬",)),
    ],
)
def test_a_name_says_repeats_and_words(name: str, repeats: int, words: tuple[str, ...]) -> None:
    assert repeat_folder(name) == RepeatFolder(name, repeats, words)


@pytest.mark.parametrize("name", ["rex", "10", "10_", "10_2", "2024_summer", "10 sks vase", "sks_10", "10_20_30", "_sks"])
def test_other_names_say_nothing(name: str) -> None:
    assert repeat_folder(name) is None


def test_folders_above_only_sort() -> None:
    assert without_parents(("img", "10_sks vase", "day")) == ("10_sks vase", "day")
    assert without_parents(("rex", "dog")) == ("rex", "dog") and without_parents(()) == ()


@pytest.mark.parametrize(
    ("place", "words", "caption"),
    [
        ("10_sks vase/a.jpg", ("sks", "vase"), "sks vase"),
        ("img/10_sks_golden_retriever/a.jpg", ("sks", "golden retriever"), "sks golden retriever"),
        ("10_sks/a.jpg", ("sks", "dog"), "sks dog"),
        ("10_sks/vase/a.jpg", ("sks", "vase"), "sks vase"),
        ("10_sks vase/at night/1@S outdoors.jpg", ("sks", "vase"), "at night sks outdoors"),
    ],
)
def test_captions_of_photos(place: str, words: tuple[str, str], caption: str) -> None:
    assert words_of_photo(PurePath(place), DEFAULT) == Words(*words)
    assert caption_of_photo(PurePath(place), DEFAULT) == caption


def test_captions_of_class_images() -> None:
    assert class_of_class_image(PurePath("reg/1_golden retriever/a.jpg"), class_word="dog") == "golden retriever"
    assert caption_of_class_image(PurePath("reg/1_golden retriever/a.jpg"), class_word="dog") == "golden retriever"
