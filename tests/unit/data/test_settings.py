from __future__ import annotations

import subprocess
import sys

import pytest

from dreambooth.config import parse_settings
from dreambooth.data.settings import ViewSettings, check_template
from dreambooth.errors import SettingsError

ALLOWED = frozenset({"token", "class_word"})


@pytest.mark.parametrize("background", ["white", "RebeccaPurple", "#fff", "#102030", "rgb(1, 2, 3)"])
def test_colours_are_accepted_as_written(background: str) -> None:
    assert ViewSettings(background=background).background == background


def test_an_unknown_colour_names_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(ViewSettings, {"background": "withe"}, where="command line")
    assert caught.value.text.endswith(
        "'background': 'withe' is not a colour; give a name such as white or a value such as #ffffff; did you mean 'white'?"
    )


@pytest.mark.parametrize("background", ["#ffff", "#ffffff80", "rgba(1, 2, 3, 4)"])
def test_a_transparent_background_is_refused(background: str) -> None:
    with pytest.raises(SettingsError, match="is itself transparent; give an opaque one such as white or #ffffff"):
        parse_settings(ViewSettings, {"background": background}, where="command line")


@pytest.mark.parametrize("template", ["", "a photo", "{token} {class_word}", "{{literal}} {token}"])
def test_templates_with_known_placeholders_are_themselves(template: str) -> None:
    assert check_template(template, ALLOWED) == template


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a {subject}", "has the placeholder {subject}; known are {class_word} and {token}"),
        ("a {}", "has the placeholder {}; known are {class_word} and {token}"),
        ("a {token.upper}", "has the placeholder {token.upper}; known are"),
        ("a {token!r}", "has more than the name in {token}; write {token} alone"),
        ("a {token:d}", "has more than the name in {token}; write {token} alone"),
        ("a {token", "is not a template: expected '}' before end of string; write a brace that is to stay twice"),
    ],
)
def test_templates_that_could_not_be_filled_are_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_template(template, ALLOWED)
    assert message in str(caught.value)


def test_settings_load_neither_torch_nor_pillow() -> None:
    code = "import sys, dreambooth.data.settings; print([name for name in ('torch', 'PIL') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
