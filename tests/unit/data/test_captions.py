from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.data.captions import Role, fill, fixed, instance_caption, prior_caption, read_caption
from dreambooth.data.photos import Photo
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.errors import PhotoError

SUBJECT = SubjectSettings(photos=Path("photos"), class_word="dog", token="sks")


def photo(caption: str | None) -> Photo:
    return Photo(Path("a.jpg"), "0" * 64, 64, 64, caption)


def test_default_captions_are_the_original_ones() -> None:
    assert instance_caption(photo(None), SUBJECT) == "photo of a sks dog"
    assert prior_caption(photo(None), PriorSettings(), "dog") == "photo of a dog"


def test_a_photo_s_own_caption_takes_the_template_s_place() -> None:
    assert instance_caption(photo("the {token} {class_word} asleep"), SUBJECT) == "the sks dog asleep"
    assert prior_caption(photo("a sleeping {class_word}"), PriorSettings(), "dog") == "a sleeping dog"
    assert instance_caption(photo("{{literal}}"), SUBJECT) == "{literal}"


def test_templates_of_the_settings() -> None:
    subject = SubjectSettings(photos=Path("photos"), class_word="old dog", token="zwx", instance_prompt="{class_word} {token}")
    assert instance_caption(photo(None), subject) == "old dog zwx"
    assert prior_caption(photo(None), PriorSettings(class_prompt="one {class_word}"), "cat") == "one cat"


def test_a_fixed_caption_fills_to_itself() -> None:
    assert fill(fixed("a {token} {"), token="sks", class_word="dog") == "a {token} {"


@pytest.mark.parametrize(
    ("data", "caption"),
    [
        (b"a photo", "a photo"),
        (b"\xef\xbb\xbf  a photo\r\n", "a photo"),
        (b"first line\n\n  second line \n", "first line second line"),
        ("caf\u00e9 {token}".encode(), "caf\u00e9 {token}"),
        (b"", None),
        (b"\xef\xbb\xbf \n", None),
    ],
)
def test_reading_a_caption(tmp_path: Path, data: bytes, caption: str | None) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert read_caption(path, role="instance") == caption


@pytest.mark.parametrize(
    ("data", "role", "message"),
    [
        (b"caf\xe9", "instance", "is not UTF-8 text"),
        ("a".encode("utf-16"), "instance", "is not UTF-8 text"),
        (b"a {subject}", "instance", "'a {subject}' has the placeholder {subject}; known are {class_word} and {token}"),
        (b"a {token}", "prior", "'a {token}' has the placeholder {token}; known are {class_word}"),
        (b"a {token", "instance", "'a {token' is not a template: expected '}' before end of string"),
    ],
)
def test_captions_that_cannot_be_used(tmp_path: Path, data: bytes, role: Role, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(PhotoError) as caught:
        read_caption(path, role=role)
    assert caught.value.problems[0].startswith(message)
    assert caught.value.hint
