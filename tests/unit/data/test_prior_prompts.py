"""Class prompts: one, a file of them, or the bundled list; and photos that stand for the class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from dreambooth.data.prior_prompts import class_prompts, photos_as_class_examples
from dreambooth.data.records import CaptionedPhoto, Photo
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.errors import SettingsError


def test_without_a_file_there_is_the_one_class_prompt() -> None:
    assert class_prompts(PriorSettings(class_prompt="a {class_word}")) == ("a {class_word}",)


def test_a_file_holds_one_prompt_per_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text('# a comment\n  photo of a {class_word}\n\n""\na red {class_word}\na red {class_word}\n', encoding="utf-8")
    assert class_prompts(PriorSettings(prior_prompts=str(file))) == ("photo of a {class_word}", "", "a red {class_word}")


def test_the_bundled_list_asks_for_the_class_in_several_ways() -> None:
    prompts = class_prompts(PriorSettings(prior_prompts="varied"))
    assert prompts[0] == PriorSettings().class_prompt
    assert "" in prompts and len(prompts) >= 12
    assert all("{class_word}" in prompt for prompt in prompts if prompt)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            b"photo of a {token}\na {class_word}\n",
            r"prompts\.txt: 'photo of a \{token\}' has the unknown placeholder \{token\}",
        ),
        (b"# nothing\n", r"prompts\.txt holds no prompt"),
        (b"\xff\xfe", r"prompts\.txt cannot be read \(it is not UTF-8 text\)"),
        (None, r"prompts\.txt cannot be read \(No such file or directory\)\nGive a text file with one class prompt per line"),
    ],
)
def test_a_file_that_is_none_is_refused(text: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(SettingsError, match=said):
        class_prompts(PriorSettings(prior_prompts=str(file)))


def test_every_photo_stands_under_every_class_caption_of_its_own_subject(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text('a {class_word}\n""\n', encoding="utf-8")
    photos = [
        CaptionedPhoto(cast(Photo, _photo(tmp_path / "photos" / token / word / "1.png")), f"{token} {word}")
        for token, word in (("sks", "dog"), ("zwx", "cat"))
    ]
    subject = SubjectSettings(photos=tmp_path / "photos", class_word="animal", captions="filename")
    found = photos_as_class_examples(photos, PriorSettings(prior_prompts=str(file)), subject)
    assert [(one.photo.path.parent.name, one.caption) for one in found] == [
        *(("dog", "a dog"), ("dog", "")),
        *(("cat", "a cat"), ("cat", "")),
    ]


def _photo(path: Path) -> Any:
    return Photo(path=path, digest=path.parent.name, width=64, height=64, caption=None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"prior_target": "noise", "prior_examples": "photos"},
            "prior_examples is photos: with prior_target noise the photos would teach the class",
        ),
        ({"prior_target": "noise", "prior_examples": "both"}, "prior_examples is both: with prior_target noise"),
        ({"prior_target": "noise", "keep_predictions": False}, "keep_predictions would have no effect with prior_target noise"),
        ({"prior_prompts": "varied", "class_prompt": "a {class_word}"}, "prior_prompts takes the place of class_prompt"),
        (
            {"prior_target": "prediction", "prior_examples": "photos", "num_prior_images": 9},
            "prior_examples is photos, so num_prior_images would have no effect",
        ),
        ({"prior_weight": 0, "prior_target": "prediction"}, "prior_weight is 0, so prior_target would have no effect"),
    ],
)
def test_a_setting_without_effect_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PriorSettings(**values)


def test_photos_in_the_place_of_class_images_need_none() -> None:
    assert PriorSettings(prior_target="prediction", prior_examples="photos").num_made == 0
    assert PriorSettings(prior_target="prediction", prior_examples="both").num_made == 200
