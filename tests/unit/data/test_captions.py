from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.data.caption_files import read_captions
from dreambooth.data.captions import (
    default_caption,
    default_prior_caption,
    empty_captions,
    fill,
    fixed,
    instance_caption,
    prior_caption,
)
from dreambooth.data.records import CaptionedPhoto, Photo, Role
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.errors import PhotoError

SUBJECT = SubjectSettings(photos=Path("photos"), class_word="dog", token="sks")


BY_NAME = SUBJECT.model_copy(update={"captions": "filename"})
REGS = Path("regs")


def photo(caption: str | None, path: str = "a.jpg") -> Photo:
    return Photo(Path(path), "0" * 64, 64, 64, caption)


def of_class(photo: Photo, subject: SubjectSettings = SUBJECT) -> str:
    return prior_caption(photo, PriorSettings(prior_images=REGS), subject, folder=REGS)


def test_default_captions_are_the_original_ones() -> None:
    assert instance_caption(photo(None), SUBJECT) == "photo of a sks dog"
    assert of_class(photo(None)) == "photo of a dog"


def test_a_photo_s_own_caption_takes_the_template_s_place() -> None:
    assert instance_caption(photo("the {token} {class_word} asleep"), SUBJECT) == "the sks dog asleep"
    assert of_class(photo("a sleeping {class_word}")) == "a sleeping dog"
    assert instance_caption(photo("{{literal}}"), SUBJECT) == "{literal}"


def test_templates_of_the_settings() -> None:
    subject = SubjectSettings(photos=Path("photos"), class_word="old dog", token="zwx", instance_prompt="{class_word} {token}")
    assert instance_caption(photo(None), subject) == "old dog zwx"
    assert prior_caption(photo(None), PriorSettings(class_prompt="one {class_word}"), SUBJECT, folder=REGS) == "one dog"


def test_a_fixed_caption_fills_to_itself() -> None:
    assert fill(fixed("a {token} {"), token="sks", class_word="dog") == "a {token} {"


def test_an_empty_class_word_leaves_no_gaps() -> None:
    assert fill("photo of a {token} {class_word}", token="sks", class_word="") == "photo of a sks"
    assert fill("one {class_word} {token}", token="sks", class_word=" ") == "one sks"
    assert fill("two  blanks, {class_word}", token="", class_word="dog") == "two  blanks, dog"  # as it was typed


def test_names_take_the_template_s_place() -> None:
    assert instance_caption(photo(None, "photos/a.jpg"), BY_NAME) == "sks dog"
    assert instance_caption(photo(None, "photos/rex/cat/001@S asleep.jpg"), BY_NAME) == "rex asleep"
    assert instance_caption(photo(None, "photos/rex/cat/001@S asleep.jpg"), SUBJECT) == "photo of a sks dog"
    assert of_class(photo(None, "regs/a.jpg"), BY_NAME) == "dog"
    assert of_class(photo(None, "regs/cat/a.jpg"), BY_NAME) == "cat"
    assert of_class(photo(None, "regs/cat/a.jpg")) == "photo of a dog"


def test_a_text_file_wins_over_a_name_and_speaks_of_its_folder() -> None:
    text = "the {token} {class_word} asleep"
    assert instance_caption(photo(text, "photos/a@S awake.jpg"), BY_NAME) == "the sks dog asleep"
    assert instance_caption(photo(text, "photos/rex/cat/a@S awake.jpg"), BY_NAME) == "the rex cat asleep"
    assert instance_caption(photo(text, "photos/rex/cat/a.jpg"), SUBJECT) == "the sks dog asleep"
    assert of_class(photo("a {class_word} asleep", "regs/cat/a.jpg"), BY_NAME) == "a cat asleep"
    assert of_class(photo("a {class_word} asleep", "regs/cat/a.jpg")) == "a dog asleep"


def test_default_captions() -> None:
    made, given = PriorSettings(), PriorSettings(prior_images=REGS)
    assert (default_caption(SUBJECT), default_caption(BY_NAME)) == ("photo of a sks dog", "sks dog")
    assert default_caption(BY_NAME.model_copy(update={"class_word": ""})) == "sks"
    assert default_prior_caption(made, SUBJECT) == default_prior_caption(given, SUBJECT) == "photo of a dog"
    assert (default_prior_caption(made, BY_NAME), default_prior_caption(given, BY_NAME)) == ("photo of a dog", "dog")


def test_pictures_without_a_caption_are_told_by_folder() -> None:
    said = {"a/0.jpg": "", "a/1.jpg": " ", "a/2.jpg": "dog", "b/0.jpg": "", "c/0.jpg": "cat"}
    problems = empty_captions([CaptionedPhoto(photo(None, path), caption) for path, caption in said.items()], "Say it.")
    assert [(str(problem.path), problem.severity, problem.message, problem.advice) for problem in problems] == [
        ("a", "error", "contains 2 images without a caption", "Say it."),
        ("b", "error", "contains 1 image without a caption", "Say it."),
    ]


@pytest.mark.parametrize(
    ("data", "captions"),
    [
        (b"a photo", ("a photo",)),
        (b"\xef\xbb\xbf  a photo\r\n", ("a photo",)),
        (b"first line\n\n  second line \n", ("first line", "second line")),
        ("caf\u00e9 {token}".encode(), ("caf\u00e9 {token}",)),
        (b"", ()),
        (b"\xef\xbb\xbf \n", ()),
    ],
)
def test_reading_captions(tmp_path: Path, data: bytes, captions: tuple[str, ...]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert read_captions(path, role="instance") == captions


@pytest.mark.parametrize(
    ("data", "role", "message"),
    [
        (b"caf\xe9", "instance", "is not UTF-8 text"),
        ("a".encode("utf-16"), "instance", "is not UTF-8 text"),
        (b"a {subject}", "instance", "'a {subject}' has the unknown placeholder {subject}; expected {class_word} and {token}"),
        (b"a {token}", "prior", "'a {token}' has the unknown placeholder {token}; expected {class_word}"),
        (b"a {token", "instance", "'a {token' is not a valid template: expected '}' before end of string"),
    ],
)
def test_captions_that_cannot_be_used(tmp_path: Path, data: bytes, role: Role, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(PhotoError) as caught:
        read_captions(path, role=role)
    assert caught.value.problems[0].startswith(message)
    assert caught.value.hint
