"""The dataset's own file is read without running it, and everything wrong with a folder is told at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dreambooth.errors import SettingsError
from dreambooth.evaluation.dataset import PROMPTS_FILE, chosen, read_dataset, toybox_dataset
from dreambooth.toybox.subjects import SUBJECTS
from dreambooth.toybox.world import COLOURS, PLACES

TEXT = (Path(__file__).parents[2] / "data" / PROMPTS_FILE).read_text(encoding="utf-8")


def folder(path: Path, text: str = TEXT, names: tuple[str, ...] = ("can", "dog6"), num: int = 3) -> Path:
    """A dataset in which some of the subjects have photos."""
    (path / PROMPTS_FILE).write_text(text, encoding="utf-8")
    for name in names:
        (path / name).mkdir()
        for number in range(num):
            Image.new("RGB", (8, 8)).save(path / name / f"{number:02d}.jpg")
    return path


def problems_of(path: Path, names: tuple[str, ...] = ("can", "dog6")) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        read_dataset(path, names)
    return raised.value.problems


def test_the_file_of_the_dataset_gives_thirty_subjects(tmp_path: Path) -> None:
    names = tuple(line.split(",")[0] for line in TEXT.splitlines()[3:33])
    subjects = read_dataset(folder(tmp_path, names=names))
    assert tuple(one.name for one in subjects) == names
    assert len({one.class_word for one in subjects}) == 15
    assert [one.name for one in subjects if one.is_live] == [
        *("cat", "cat2", "dog", "dog2", "dog3", "dog5", "dog6", "dog7", "dog8")
    ]
    assert {len(set(one.prompts)) for one in subjects} == {25}


def test_live_subjects_are_dressed_and_objects_are_not(tmp_path: Path) -> None:
    can, dog = read_dataset(folder(tmp_path), ["dog6", "can"])
    assert (can.name, can.class_word, can.photos) == ("can", "can", tmp_path / "can")
    assert (can.prompts[0], can.prompts[13]) == (
        "a {token} {class_word} in the jungle",
        "a {token} {class_word} floating on top of water",
    )
    assert dog.prompts[11] == "a {token} {class_word} wearing a santa hat"
    assert can.prompts[20:] == dog.prompts[20:]


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    path = folder(tmp_path)
    unix = read_dataset(path, ["can"])
    (path / PROMPTS_FILE).write_bytes(TEXT.replace("\n", "\r\n").encode())
    assert read_dataset(path, ["can"]) == unix


def test_folders_that_are_missing_or_nearly_empty_are_all_told(tmp_path: Path) -> None:
    path = folder(tmp_path, names=("can",), num=2)
    assert problems_of(path, ("can", "dog6", "candel")) == (
        "subjects: no subject is called 'candel'; did you mean 'candle'?",
        f"{path / 'can'}: 2 photos; expected at least 3",
        f"{path / 'dog6'}: no such folder; expected the photos of dog6",
    )


def test_a_name_of_another_case_is_near_and_is_no_fault_of_the_dataset(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        read_dataset(folder(tmp_path), ("DOG6", "can"))
    assert raised.value.problems == ("subjects: no subject is called 'DOG6'; did you mean 'dog6'?",)
    assert raised.value.hint is None


def test_where_to_get_the_dataset_is_told_when_photos_are_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        read_dataset(folder(tmp_path, names=("can",)), ("dog6",))
    assert raised.value.hint is not None
    assert raised.value.hint.startswith("Get the dataset from")


BROKEN: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text.replace("subject_name,class", "subjects"), "found no table that begins with subject_name,class"),
    (lambda text: text.replace("clock,clock\n", ""), "the table has 29 subjects; expected 30"),
    (lambda text: text.replace("clock,clock", "candle,clock"), "candle appears 2 times in the table"),
    (
        lambda text: text.replace("clock,clock", "../clock,clock"),
        "'../clock,clock' in the table: expected a subject's folder and its class, separated by a comma",
    ),
    (lambda text: text.replace("Live Subject Prompts", "Others"), "found no list of prompts below 'Live Subject Prompts'"),
    (
        lambda text: text.replace("'a {0} {1} floating on top of water'.format(unique_token, class_token),\n", ""),
        "Object Prompts: 24 prompts; expected 25",
    ),
    (
        lambda text: text.replace("wearing a santa hat'.format(unique_token, class_token)", "'.format(open('x'), class_token)"),
        "Live Subject Prompts: expected '...'.format(unique_token, class_token), "
        "found 'a {0} {1} '.format(open('x'), class_token)",
    ),
    (
        lambda text: text.replace("wearing a santa hat'.format(unique_token, class_token)", "'.upper()"),
        "Live Subject Prompts: expected '...'.format(unique_token, class_token), found 'a {0} {1} '.upper()",
    ),
    (
        lambda text: text.replace("{1} wearing a santa hat", "{1.__class__}"),
        "Live Subject Prompts: 'a {0} {1.__class__}' has placeholders other than {0} and {1}",
    ),
    (
        lambda text: text.replace("{1} wearing a santa hat", "{1!r:>9}"),
        "Live Subject Prompts: 'a {0} {1!r:>9}' has placeholders other than {0} and {1}",
    ),
    (
        lambda text: text.replace("wearing a santa hat'", "wearing a santa hat"),
        "Live Subject Prompts: not a list of Python strings: unterminated string literal (detected at line 13), "
        "line 13 of the list",
    ),
]


@pytest.mark.parametrize(("break_it", "problem"), BROKEN, ids=[problem[-40:] for _, problem in BROKEN])
def test_a_file_that_is_not_the_dataset_s_is_refused(break_it: Callable[[str], str], problem: str, tmp_path: Path) -> None:
    path = folder(tmp_path, text=break_it(TEXT))
    assert problems_of(path)[0] == f"{path / PROMPTS_FILE}: {problem}"


def test_a_brace_of_a_prompt_stays_one(tmp_path: Path) -> None:
    path = folder(tmp_path, text=TEXT.replace("in the jungle", "in {{braces}}"))
    (can,) = read_dataset(path, ["can"])
    assert can.prompts[0].format(token="sks", class_word="can") == "a sks can in {braces}"


def test_a_folder_without_the_file_is_refused(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == (f"{tmp_path / PROMPTS_FILE}: no such file",)


def test_the_small_world_has_five_subjects_that_differ_in_class_and_pattern(tmp_path: Path) -> None:
    subjects = toybox_dataset(tmp_path)
    looks = [SUBJECTS[one.name] for one in subjects]
    assert len({look.class_word for look in looks}) == len({look.pattern for look in looks}) == len(subjects) == 5
    assert [one.class_word for one in subjects] == [look.class_word for look in looks]
    (prompts,) = {one.prompts for one in subjects}
    assert [place for place in PLACES.values() if any(prompt.endswith(place) for prompt in prompts)] == [*PLACES.values()]
    assert sum(f" {colour} " in prompt for prompt in prompts for colour in COLOURS) == 4
    assert [one.name for one in chosen(subjects, ["belted-vase"])] == ["belted-vase"]
    with pytest.raises(SettingsError, match="no subject is called 'vase'"):
        chosen(subjects, ["vase"])
