"""Captions beside pictures and in tables: alternatives, choices, JSON, Hugging Face's imagefolder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dreambooth.data.caption_files import read_captions
from dreambooth.data.photos import PhotoReport, scan_photos
from dreambooth.data.records import Role
from dreambooth.errors import PhotoError

MakePhoto = Callable[..., Path]


def written(folder: Path, name: str, text: object) -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def read(folder: Path, name: str, text: object, role: Role = "instance") -> tuple[str, ...]:
    return read_captions(written(folder, name, text), role=role)


def test_lines_are_alternatives(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "the {token}\n\n  asleep   on a sofa \nthe {token}\n") == ("the {token}", "asleep on a sofa")
    assert read(tmp_path, "a.caption", "\n") == ()


def test_choices_stand_for_all_their_combinations(tmp_path: Path) -> None:
    captions = read(tmp_path, "a.txt", "{token} on a {red|blue} sofa{| at night}")
    assert captions == (
        "{token} on a red sofa",
        "{token} on a red sofa at night",
        "{token} on a blue sofa",
        "{token} on a blue sofa at night",
    )


def test_doubled_braces_are_no_choice(tmp_path: Path) -> None:
    assert read(tmp_path, "a.txt", "{token} {{a|b}}") == ("{token} {{a|b}}",)
    assert read(tmp_path, "a.txt", "{{{a|b}}}") == ("{{a}}", "{{b}}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ({"caption": "a {token}"}, ("a {token}",)),
        ({"captions": ["a {token}", "the {token}"], "seed": 1}, ("a {token}", "the {token}")),
        ({"text": "a {token}", "tags": "red"}, ("a {token}",)),
        ({"tags": ["{token}", "red"]}, ("{token}, red",)),
        ({"tags": "{token}, red"}, ("{token}, red",)),
        ({"width": 5}, ()),
        ("", ()),
    ],
)
def test_json_says_captions_or_tags(tmp_path: Path, text: object, expected: tuple[str, ...]) -> None:
    assert read(tmp_path, "a.json", text) == expected


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.json", "{", "is not valid JSON: "),
        ("a.json", [], "holds no JSON object"),
        ("a.json", {"caption": 5}, "has 5 as its caption"),
        ("a.json", {"captions": ["a", 5]}, "has ['a', 5] as its captions"),
        ("a.txt", "a {subject}", "'a {subject}' has the unknown placeholder {subject}; expected {class_word} and {token}"),
        ("a.txt", "\n".join(f"line {number}" for number in range(65)), "has more than 64 captions"),
        ("a.txt", "{a|b}" * 40, "has more than 64 captions"),
    ],
)
def test_faults_are_named(tmp_path: Path, name: str, text: object, problem: str) -> None:
    with pytest.raises(PhotoError) as caught:
        read(tmp_path, name, text)
    assert caught.value.problems[0].startswith(problem)
    assert caught.value.hint


@pytest.fixture
def folder(tmp_path: Path, make_photo: MakePhoto) -> Path:
    for index in range(3):
        make_photo(f"{index}.png", seed=index)
    make_photo("sub/3.png", seed=3)
    return tmp_path / "photos"


def scan(folder: Path, role: Role = "instance") -> PhotoReport:
    return scan_photos(folder, role=role, resolution=16)


def problems(report: PhotoReport) -> list[tuple[str, str, str]]:
    return [(one.path.name, one.severity, one.message) for one in report.problems]


def test_a_table_gives_captions_to_pictures_that_have_no_file(folder: Path) -> None:
    written(folder, "1.json", {"caption": "from its file"})
    lines = [
        {"file_name": "0.png", "text": "first"},
        {"file_name": "0.png", "text": "second"},
        {"file_name": "1.png", "text": "from the table"},
        {"file_name": "sub/3.png", "prompt": "deep"},
        {"file_name": "gone.png", "text": "nobody"},
    ]
    written(folder, "metadata.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    report = scan(folder)
    found = [(photo.caption, photo.other_captions) for photo in report.photos]
    assert found == [("first", ("second",)), ("from its file", ()), (None, ()), ("deep", ())]
    assert problems(report) == [
        ("metadata.jsonl", "warning", "names 1 image that cannot be found, such as gone"),
        ("metadata.jsonl", "warning", "has a caption for 1, which has a caption file; the file is used"),
    ]


def test_a_table_may_be_a_csv(folder: Path) -> None:
    written(folder, "metadata.csv", 'file_name,text\n0.png,"red, on a sofa"\n2.png,\n')
    assert [photo.caption for photo in scan(folder).photos] == ["red, on a sofa", None, None, None]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"file_name": "0.png"}\n{', "line 2 is not valid JSON: "),
        ('{"image": "0.png"}', "line 1 has no file_name"),
        ('{"file_name": "0.png", "text": 5}', "line 1 has 5 as its text"),
        ('{"file_name": "0.png", "text": "a {subject}"}', "0: 'a {subject}' has the unknown placeholder {subject}"),
    ],
)
def test_a_faulty_table_is_an_error(folder: Path, text: str, problem: str) -> None:
    written(folder, "metadata.jsonl", text)
    (error,) = scan(folder).errors
    assert (error.path.name, error.message[: len(problem)]) == ("metadata.jsonl", problem)


def test_json_files_that_belong_to_no_picture_are_skipped(folder: Path) -> None:
    written(folder, "workflow.json", {"nodes": []})
    assert problems(scan(folder)) == [("workflow.json", "warning", "is not an image; skipped")]


def test_captions_of_class_images_may_be_alternatives_without_the_token(folder: Path) -> None:
    written(folder, "0.txt", "a {class_word}\nthe {class_word}")
    written(folder, "1.json", {"caption": "a {token}"})
    report = scan(folder, "prior")
    assert report.photos[0].other_captions == ("the {class_word}",)
    assert [error.path.name for error in report.errors] == ["1.json"]
