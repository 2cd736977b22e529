"""Captions are written for photos without one, say the token, and never replace what a hand wrote."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreambooth.config import parse_settings
from dreambooth.data.pictures import find_pictures
from dreambooth.data.settings import PriorSettings, SubjectSettings
from dreambooth.display import Display
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.measures.settings import CaptionSettings
from dreambooth.recipes import caption as recipe

ANSWERS = {"where is the dog?": "on a {red} sofa.", "what is the dog doing?": "dog", "what is the light like?": "no"}


class Captioner:
    """Knows three answers."""

    def answer(self, pixels_HWC: Any, question: str) -> str:
        return ANSWERS.get(question, question)


@pytest.fixture
def folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos, one with a caption and one with an empty caption file."""
    monkeypatch.setattr(recipe, "load_captioner", lambda folder, device: Captioner())
    for number, source in enumerate(sorted(photos.glob("*.jpg"))):
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / "photos" / f"{number}.jpg")
    (tmp_path / "photos" / "0.txt").write_text("{token} by hand")
    (tmp_path / "photos" / "1.txt").write_text("")
    return tmp_path / "photos"


def write(folder: Path, display: Display, **more: Any) -> recipe.WrittenCaptions:
    given = {"photos": str(folder), "class_word": "dog", "captioner": str(folder), **more}
    return recipe.write_captions(parse_settings(CaptionSettings, given, where="test"), display)


def test_photos_without_a_caption_get_one_that_says_the_token(folder: Path, display: Display, said: Callable[[], str]) -> None:
    found = write(folder, display)
    assert [path.name for path in found.written] == ["1.txt", "2.txt"]
    assert [path.name for path in found.kept] == ["0.jpg"]
    assert (folder / "0.txt").read_text() == "{token} by hand"
    assert (folder / "2.txt").read_text() == "photo of a {token} {class_word}, on a {{red}} sofa\n"
    subject = SubjectSettings(photos=folder, class_word="dog", token="zwx")
    captions = [one.caption for one in find_pictures(subject, PriorSettings(), resolution=16).photos]
    assert captions == ["zwx by hand", *["photo of a zwx dog, on a {red} sofa"] * 2]
    assert "2 captions written, 1 kept." in said()
    assert write(folder, display).written == ()


def test_other_questions_can_be_asked(folder: Path, display: Display) -> None:
    write(folder, display, questions=["which season?", "near the {class_word}"])
    assert (folder / "2.txt").read_text() == "photo of a {token} {class_word}, which season?, near the dog\n"
    with pytest.raises(SettingsError, match=r"unknown placeholder \{token\}"):
        write(folder, display, questions=["who is {token}?"])


def test_a_model_that_is_not_there(folder: Path, display: Display) -> None:
    with pytest.raises(ModelFileError, match="no/such/folder: no such folder"):
        write(folder, display, captioner="no/such/folder")
