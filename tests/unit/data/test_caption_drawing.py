"""Which of a picture's captions a step sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dreambooth.config import parse_settings
from dreambooth.data.captions import instance_captions
from dreambooth.data.examples import ExampleSource
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.data.settings import SubjectSettings, ViewSettings
from dreambooth.data.size import Size
from dreambooth.data.tags import NUM_TAG_VERSIONS, tag_versions
from dreambooth.errors import SettingsError

CAPTION = "photo of sks dog, red, on a sofa, at night, blurred"


def subject(**values: Any) -> SubjectSettings:
    return parse_settings(SubjectSettings, {"photos": "photos", "class_word": "dog", **values}, where="test")


def photo(*captions: str, name: str = "a.jpg") -> Photo:
    return Photo(Path("photos") / name, name, 64, 64, captions[0] if captions else None, other_captions=captions[1:])


def source(*instances: CaptionedPhoto, **changes: object) -> ExampleSource:
    priors = (CaptionedPhoto(photo(name="class.jpg"), "a dog"),)
    plain = ExampleSource(instances, priors, ViewSettings(), Size.square(64), 2, 23)
    return replace(plain, **changes)  # type: ignore[arg-type]


def said(of: ExampleSource, steps: int, role: str = "instance") -> list[str]:
    return [example.caption for step in range(1, steps + 1) for example in of.examples_at(step) if example.role == role]


def test_every_alternative_is_drawn_equally_often_and_known_beforehand() -> None:
    one = CaptionedPhoto(photo(), "a", ("b", "c"))
    captions = said(source(one), 300)
    assert set(captions) == {"a", "b", "c"}
    assert min(Counter(captions).values()) > 150
    assert said(source(one), 300) == captions
    assert source(one).captions() == ("a", "b", "c", "a dog")


def test_alternatives_move_neither_order_nor_views() -> None:
    several = source(CaptionedPhoto(photo(), "a", ("b",)), CaptionedPhoto(photo(name="b.jpg"), "c"))
    single = source(CaptionedPhoto(photo(), "a"), CaptionedPhoto(photo(name="b.jpg"), "c"))
    for step in range(1, 9):
        pairs = zip(several.examples_at(step), single.examples_at(step), strict=True)
        assert all((one.photo, one.view, one.slot) == (other.photo, other.view, other.slot) for one, other in pairs)


def test_dropout_shows_photos_and_not_class_images_without_a_caption() -> None:
    dropped = source(CaptionedPhoto(photo(), "a"), caption_dropout=0.25)
    captions = Counter(said(dropped, 400))
    assert set(captions) == {"a", ""}
    assert captions[""] == pytest.approx(200, abs=40)
    assert set(said(dropped, 400, "prior")) == {"a dog"}
    assert dropped.captions() == ("a", "a dog", "")


def test_shuffled_tags_keep_the_first_and_all_others() -> None:
    versions = tag_versions(CAPTION, subject(shuffle_tags=True), token="sks")
    assert len(versions) == NUM_TAG_VERSIONS and len(set(versions)) > 8
    for version in versions:
        tags = version.split(", ")
        assert tags[0] == "photo of sks dog"
        assert sorted(tags) == sorted(CAPTION.split(", "))


def test_dropped_tags_keep_their_order() -> None:
    versions = tag_versions(CAPTION, subject(tag_dropout=0.5, keep_tags=2), token="sks")
    tags = CAPTION.split(", ")
    for version in versions:
        left = version.split(", ")
        assert left[:2] == tags[:2]
        assert left == [tag for tag in tags if tag in left]
    dropped = sum(3 - (len(version.split(", ")) - 2) for version in versions)
    assert dropped == pytest.approx(0.5 * 3 * NUM_TAG_VERSIONS, abs=10)


def test_the_token_is_always_said() -> None:
    caption = "red, on a sofa, a SKS dog, blurred"
    for version in tag_versions(caption, subject(shuffle_tags=True, tag_dropout=0.9, keep_tags=0), token="sks"):
        assert version.startswith("a SKS dog")


def test_something_is_said_even_if_all_tags_are_dropped() -> None:
    versions = tag_versions("red, blue", subject(tag_dropout=0.99, keep_tags=0), token="sks")
    assert set(versions) <= {"red", "blue", "red, blue"}


@pytest.mark.parametrize("caption", [CAPTION, "red", ""])
def test_without_options_a_caption_stays_as_it_is(caption: str) -> None:
    assert tag_versions(caption, subject(), token="sks") == (caption,)


def test_every_alternative_of_a_photo_has_its_versions() -> None:
    templates = photo("{token} {class_word}, red, blue", "{token} {class_word} in the rain")
    one = instance_captions(templates, subject(shuffle_tags=True))
    assert len(one.captions) == NUM_TAG_VERSIONS + 1
    assert set(one.captions) == {"sks dog, red, blue", "sks dog, blue, red", "sks dog in the rain"}
    assert instance_captions(photo(), subject()).captions == ("photo of a sks dog",)


def test_an_option_without_effect_is_refused() -> None:
    with pytest.raises(SettingsError, match="keep_tags would have no effect without shuffle_tags or tag_dropout"):
        subject(keep_tags=2)
