"""Messages on a terminal break between words, and nowhere in what a person copies."""

from __future__ import annotations

import pytest

from dreambooth.display_wrapping import wrapped


def test_prose_breaks_between_words() -> None:
    text = "the folder holds photographs of several well-known subjects"
    assert wrapped(text, 24).split("\n") == ["the folder holds", "photographs of several", "well-known subjects"]


def test_room_is_left_for_the_label() -> None:
    assert wrapped("one two three", 14, start=7).split("\n") == ["one two", "three"]


def test_items_of_a_list_are_indented() -> None:
    lines = ["- one two", "  three", "  the", "  hint", "- four"]
    assert wrapped("- one two three\n  the hint\n- four", 9).split("\n") == lines


@pytest.mark.parametrize(
    "text",
    [
        "  dreambooth train --resume runs/rex --steps 1200",
        "/a/folder/with-a-long-name/and-more-of-it/photo-1.jpg:",
        "'my photos of rex/the best one.jpg'",
        "`python main.py --resume logs`",
    ],
)
def test_commands_paths_and_quotes_stay_whole(text: str) -> None:
    assert wrapped(text, 20) == text
    assert wrapped(f"first\n{text}\nlast", 20) == f"first\n{text}\nlast"


def test_a_file_gets_no_line_breaks() -> None:
    assert wrapped("word " * 50, None) == "word " * 50
