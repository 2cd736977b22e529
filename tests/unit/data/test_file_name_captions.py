"""Captions told by names: the whole table of what the original made of them, and what it made wrongly."""

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

EFFY = Words("effy", "person")


@pytest.mark.parametrize(
    ("place", "caption"),
    [
        ("a.jpg", "effy person"),
        ("img-001@a photo of effy.jpg", "a photo of effy"),
        ("001@S being a good C.jpg", "effy being a good person"),
        ("x@image_of_S.jpg", "image of effy"),
        ("bingo/i.jpg", "bingo person"),
        ("bingo/dog/i@S being a good C.jpg", "bingo being a good dog"),
        ("effy/person/a picture of/i.jpg", "a picture of effy person"),
        ("effy/person/a picture of/i@being a C.jpg", "a picture of being a person"),
        ("bingo/dog/a_pic_of_S/i.jpg", "a pic of bingo"),
        ("bingo/dog/l3/l4/i.jpg", "l3 l4 bingo dog"),
    ],
)
def test_the_original_s_captions_of_photos(place: str, caption: str) -> None:
    assert caption_of_photo(PurePath(place), EFFY) == caption


@pytest.mark.parametrize(
    ("place", "caption"),
    [
        ("a.jpg", "person"),
        ("man/x.jpg", "man"),
        ("x@a C outdoors.jpg", "a person outdoors"),
        ("man/x@a C outdoors.jpg", "a man outdoors"),
        ("man/outdoor/x.jpg", "outdoor man"),
        ("man/outdoor/x@a C.jpg", "outdoor a man"),
        ("man/one_C_outdoors/x.jpg", "one man outdoors"),
        ("x@S and C.jpg", "S and person"),
    ],
)
def test_the_original_s_captions_of_class_images(place: str, caption: str) -> None:
    assert caption_of_class_image(PurePath(place), class_word="person") == caption


@pytest.mark.parametrize(
    ("place", "caption"),
    [
        ("bingo/dog/of_C/i.jpg", "of dog"),
        ("bingo/dog/a_C/i@on S.jpg", "a dog on bingo"),
        ("jane_doe/i.jpg", "jane_doe person"),
        ("bingo/dog/aS/bC/i.jpg", "aS bC bingo dog"),
        ("x@SC SS cs s c.jpg", "SC SS cs s c"),
        ("x@v1.5 of {S}.png", "v1.5 of {S}"),
        ("S/i.jpg", "S person"),
    ],
)
def test_only_whole_words_stand_for_something(place: str, caption: str) -> None:
    assert caption_of_photo(PurePath(place), EFFY) == caption


@pytest.mark.parametrize(
    ("place", "caption"),
    [
        ("x@S, smiling.jpg", "effy, smiling"),
        ("x@look: S!.jpg", "look: effy!"),
        ("x@S's (C).jpg", "effy's (person)"),
        ('x@"S" the C...jpg', '"effy" the person..'),
        ("x@C++ by S&S.jpg", "C++ by S&S"),
    ],
)
def test_signs_beside_a_word_stay(place: str, caption: str) -> None:
    assert caption_of_photo(PurePath(place), EFFY) == caption


@pytest.mark.parametrize("place", ["x@ S  on_ _grass .jpg", "x@_S on__grass_.jpg", "effy/person/S on /_grass /x.jpg"])
def test_no_blank_is_doubled_or_at_an_end(place: str) -> None:
    assert caption_of_photo(PurePath(place), EFFY) == "effy on grass"


def test_a_second_at_cuts_nothing_off() -> None:
    assert caption_of_photo(PurePath("a@S @ home@last.jpg"), EFFY) == "effy @ home@last"


@pytest.mark.parametrize(
    ("place", "caption"),
    [
        ("a.jpg", "effy"),
        ("a@S being a good C.jpg", "effy being a good"),
        ("a@the C S.jpg", "the effy"),
        ("a@the (C), S.jpg", "the effy"),
        ("bingo/a.jpg", "bingo"),
        ("bingo/dog/a.jpg", "bingo dog"),
        ("a@C.jpg", ""),
        ("a@.jpg", ""),
    ],
)
def test_without_a_class_word_the_class_is_left_out(place: str, caption: str) -> None:
    assert caption_of_photo(PurePath(place), Words("effy", "")) == caption


def test_a_class_image_without_a_class_has_no_caption() -> None:
    assert caption_of_class_image(PurePath("a.jpg"), class_word="") == ""
    assert caption_of_class_image(PurePath("man/a.jpg"), class_word="") == "man"


def test_a_folder_changes_no_caption_but_its_own() -> None:
    """The original went on with the class of the last folder."""
    places = ["a.jpg", "man/b.jpg", "c.jpg"]
    assert [caption_of_class_image(PurePath(place), class_word="person") for place in places] == ["person", "man", "person"]
    photos = ["a.jpg", "bingo/dog/b.jpg", "c.jpg", "rex/d.jpg"]
    captions = ["effy person", "bingo dog", "effy person", "rex person"]
    assert [caption_of_photo(PurePath(place), EFFY) for place in photos] == captions


def test_words_come_from_the_first_folders() -> None:
    assert words_of_photo(PurePath("a.jpg"), EFFY) == EFFY
    assert words_of_photo(PurePath("bingo/a.jpg"), EFFY) == Words("bingo", "person")
    assert words_of_photo(PurePath("bingo/dog/more/a.jpg"), EFFY) == Words("bingo", "dog")
    assert class_of_class_image(PurePath("a.jpg"), class_word="person") == "person"
    assert class_of_class_image(PurePath("man/more/a.jpg"), class_word="person") == "man"
