"""Prompts of a file: what CLIP is told of them, and what is refused of a file, all at once and by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.data.settings import SubjectSettings
from dreambooth.errors import SettingsError
from dreambooth.evaluation.prompts import read_subject_prompts, subject_prompt

MUG = SubjectSettings(photos=Path("photos"), class_word="mug", token="sks")


def described(template: str, subject: SubjectSettings = MUG) -> str:
    return subject_prompt(template, subject).description


@pytest.mark.parametrize(
    "template",
    [
        *("photo of a {token} {class_word} on the beach", "photo of a sks mug on the beach", "photo of a SKS mug on the beach"),
        *("photo of a sks {class_word} on the beach", "photo of a {token}  mug on the beach"),
    ],
)
def test_clip_is_not_told_the_token_however_it_got_there(template: str) -> None:
    one = subject_prompt(template, MUG)
    assert one.description == "photo of a mug on the beach"
    assert one.names_subject


def test_only_a_whole_word_is_the_token() -> None:
    assert described("tusks, sksy skies of sks2, sks's mug and a_sks") == "tusks, sksy skies of sks2, 's mug and a_"
    assert not subject_prompt("a sksy mug", MUG).names_subject
    assert not subject_prompt("a {token}{class_word}", MUG).names_subject


def test_a_token_may_be_words_or_signs_or_the_class() -> None:
    assert described("a big  rex of {token}", MUG.model_copy(update={"token": "big rex"})) == "a of"
    assert described("a <rex>, new", MUG.model_copy(update={"token": "<rex>"})) == "a , new"
    assert described("a {token} {class_word}", MUG.model_copy(update={"token": "mug"})) == "a mug"
    assert described("a {token} {class_word} asleep", MUG.model_copy(update={"class_word": ""})) == "a asleep"


def test_what_the_model_is_told_is_what_stands_there() -> None:
    assert subject_prompt("a {token} {class_word} & {{a}} sks", MUG).prompt == "a sks mug & {a} sks"


def test_everything_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    lines = [
        *("a {token} mug", "", "a dog", "  A sks   {class_word} ", "{token}!", "a {tokn} mug", "a sks mug", "a {token} cup"),
        "a sks cup",
    ]
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_subject_prompts(file, MUG)
    assert [problem.removeprefix(f"prompts is {file}: ") for problem in caught.value.problems] == [
        "line 6: 'a {tokn} mug' has the unknown placeholder {tokn}; expected {class_word} and {token}",
        "line 3: 'a dog' does not name the subject; write {token} where it belongs, as a word",
        "line 5: 'sks!' contains only the token, which CLIP does not know; CLIP-T needs more words",
        "lines 1, 4 and 7: the same prompt, 'a sks mug'; its images would count 3 times",
        "lines 8 and 9: the same prompt, 'a sks cup'; its images would count 2 times",
    ]
    assert caught.value.hint is not None and "each only once and naming the subject" in caught.value.hint


def test_a_file_that_is_none_is_told_as_always(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"prompts is .*gone\.txt: cannot be read"):
        read_subject_prompts(tmp_path / "gone.txt", MUG)


def test_prompts_keep_their_order(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa {token} b\r\n\r\na sks a\r\n", encoding="utf-8")
    assert [one.prompt for one in read_subject_prompts(file, MUG)] == ["a sks b", "a sks a"]
