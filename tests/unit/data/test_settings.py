from __future__ import annotations

import subprocess
import sys

import pytest

from dreambooth.config import parse_settings
from dreambooth.data.settings import PriorSettings, SubjectSettings, ViewSettings
from dreambooth.errors import SettingsError
from dreambooth.reading import check_template

ALLOWED = frozenset({"token", "class_word"})


@pytest.mark.parametrize("background", ["white", "RebeccaPurple", "#fff", "#102030", "rgb(1, 2, 3)"])
def test_colours_are_accepted_as_written(background: str) -> None:
    assert ViewSettings(background=background).background == background


def test_an_unknown_colour_names_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(ViewSettings, {"background": "withe"}, where="command line")
    assert caught.value.text.endswith(
        "'background': 'withe' is not a color; give a name such as white or a value such as #ffffff; did you mean 'white'?"
    )


@pytest.mark.parametrize("background", ["#ffff", "#ffffff80", "rgba(1, 2, 3, 4)"])
def test_a_transparent_background_is_refused(background: str) -> None:
    with pytest.raises(SettingsError, match="is a transparent color; give an opaque one such as white or #ffffff"):
        parse_settings(ViewSettings, {"background": background}, where="command line")


@pytest.mark.parametrize("template", ["", "a photo", "{token} {class_word}", "{{literal}} {token}"])
def test_templates_with_known_placeholders_are_themselves(template: str) -> None:
    assert check_template(template, ALLOWED) == template


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a {subject}", "has the unknown placeholder {subject}; expected {class_word} and {token}"),
        ("a {}", "has the unknown placeholder {}; expected {class_word} and {token}"),
        ("a {token.upper}", "has the unknown placeholder {token.upper}; expected"),
        ("a {token!r}", "has more than a name in {token}; write {token} alone"),
        ("a {token:d}", "has more than a name in {token}; write {token} alone"),
        ("a {token", "is not a valid template: expected '}' before end of string; double a literal brace"),
    ],
)
def test_templates_that_could_not_be_filled_are_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_template(template, ALLOWED)
    assert message in str(caught.value)


def test_a_prompt_beside_captions_from_names_is_refused() -> None:
    named = {"photos": "photos", "class_word": "dog", "captions": "filename"}
    assert parse_settings(SubjectSettings, named, where="command line").captions == "filename"
    with pytest.raises(SettingsError, match="captions is filename, so instance_prompt would have no effect; use only one of"):
        parse_settings(SubjectSettings, {**named, "instance_prompt": "a {token}"}, where="command line")


def test_a_class_word_may_be_empty() -> None:
    words = {"": False, " ": False, "dog": True}
    assert {word: SubjectSettings.model_validate({"photos": "p", "class_word": word}).has_class for word in words} == words


def test_repeats_are_of_the_original_s_pairs_alone() -> None:
    repeats = {"photo_repeats": 7, "prior_repeats": 3}
    assert parse_settings(PriorSettings, {**repeats, "original_pairing": True}, where="command line").photo_repeats == 7
    with pytest.raises(SettingsError, match="photo_repeats, prior_repeats would have no effect without original_pairing; add"):
        parse_settings(PriorSettings, repeats, where="command line")


def test_without_class_images_there_are_no_pairs() -> None:
    with pytest.raises(SettingsError, match="prior_weight is 0, so original_pairing would have no effect"):
        parse_settings(PriorSettings, {"prior_weight": 0, "original_pairing": True}, where="command line")


def test_settings_load_neither_torch_nor_pillow() -> None:
    code = "import sys, dreambooth.data.settings; print([name for name in ('torch', 'PIL') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
