from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dreambooth.sampling.names import file_stem, folder_problems, next_number, reserved, reserved_by


@pytest.mark.parametrize(
    ("prompt", "stem"),
    [
        ("photo of a sks dog", "photo-of-a-sks-dog"),
        ("a/b\\c:d*e?f", "a-b-c-d-e-f"),
        ("../../etc/passwd", "etc-passwd"),
        (".hidden", "hidden"),
        ("ein Käse, süß", "ein-Käse-süß"),
        ("Ка́рта 犬の写真", "Ка́рта-犬の写真"),
        ("हिन्दी", "हिन्दी"),
        ("", "untitled"),
        ("🐶 ... !!", "untitled"),
        ("NUL", "NUL-"),
        ("com1", "com1-"),
        ("console", "console"),
        ("two\nlines\tand\0zero", "two-lines-and-zero"),
        ("snake_case", "snake_case"),
    ],
)
def test_stems_are_safe_and_readable(prompt: str, stem: str) -> None:
    assert file_stem(prompt) == stem


def test_stems_are_short_in_characters_and_bytes() -> None:
    assert file_stem("word " * 100) == ("word-" * 16)[:80].strip("-")
    assert len(file_stem("x" * 500)) == 80
    wide = file_stem("犬" * 500)
    assert len(wide.encode()) <= 160
    assert set(wide) == {"犬"}


@pytest.mark.parametrize(
    ("prompt", "stem"),
    [
        ("photo of a sks dog", "photo of a sks dog"),
        (" a  dog, on\tthe moon! ", "a dog on the moon"),
        ("either/or - both", "either-or both"),
        ("", "untitled"),
        ("nul", "nul-"),
        ("word " * 100, "word " * 15 + "word"),
    ],
)
def test_words_may_be_parted_by_spaces(prompt: str, stem: str) -> None:
    assert file_stem(prompt, blank=" ") == stem


def test_one_letter_has_one_name_however_it_is_written() -> None:
    assert file_stem("Ka\u0308se") == file_stem("K\u00e4se")


def test_numbers_go_on_and_names_are_never_taken_twice(tmp_path: Path) -> None:
    assert next_number(tmp_path / "missing") == 0
    assert next_number(tmp_path) == 0
    for name in ("00004-a.png", "00003-grid-b.png", "123456-c.png", "7-other.png", "notes.txt"):
        (tmp_path / name).touch()
    assert next_number(tmp_path) == 123457
    with reserved(tmp_path, 4, "a") as path:
        assert path == tmp_path / "00005-a.png"
        assert not path.exists(), "a killed program must leave no empty picture"
        with reserved(tmp_path, 4, "a") as other:
            assert other == tmp_path / "00006-a.png"


def test_a_killed_program_leaves_no_empty_picture_and_its_claim_ends(tmp_path: Path) -> None:
    claim = tmp_path / ".00000-a.png.partial-claim"
    claim.touch()
    with reserved(tmp_path, 0, "a") as path:
        assert path == tmp_path / "00001-a.png"
    assert list(tmp_path.iterdir()) == [claim]
    os.utime(claim, (0, 0))
    with reserved(tmp_path, 0, "a") as path:
        assert path == tmp_path / "00000-a.png"
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_given_back_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), reserved(tmp_path, 0, "a"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_numbers_and_names_of_another_form(tmp_path: Path) -> None:
    for name in ("a_0.png", "a_2.jpg", "a_x.png", "b_7.png", "00009-a_11.png"):
        (tmp_path / name).touch()
    number = next_number(tmp_path, re.compile(r"a_(\d+)\."))
    assert number == 3
    (tmp_path / "a_3.png").touch()
    with reserved_by(lambda free: tmp_path / f"a_{free}.png", number) as path:
        assert path == tmp_path / "a_4.png"


def test_a_folder_is_made_and_tried(tmp_path: Path) -> None:
    assert folder_problems(tmp_path / "a" / "b", name="output") == []
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    expected = f"--outdir is {tmp_path / 'file'}: images cannot be written there: File exists"
    assert folder_problems(tmp_path / "file", name="--outdir") == [expected]
