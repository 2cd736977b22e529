"""Texts of unknown origin: bounded, strict, and harmless where they are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreambooth.errors import ModelFileError, RunError
from dreambooth.reading import parse_json, printable, read_json, read_text, reading, shown_value, without_controls


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": ' * 2000 + "1" + "}" * 2000, "nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("[" * 150 + "]" * 150, "nested too deeply"),
        (f'{{"step": {"9" * 5000}}}', "a whole number of 5000 digits"),
        ('{"step": 18446744073709551616}', "a whole number of 20 digits"),
        ('{"step": 1', "Expecting"),
        ('{"a": "\ud800"', "Expecting"),
    ],
)
def test_json_beyond_all_use_is_a_value_error(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_other_json_is_read_as_it_is(tmp_path: Path) -> None:
    value = {"a": [1, -2.5, None, True, {"b": "\n"}], "large": 2**63, "deep": json.loads("[" * 90 + "]" * 90)}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    assert read_json(path) == value


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="has no such device")
def test_a_device_without_an_end_is_as_a_large_file() -> None:
    with pytest.raises(ValueError, match="larger than 1,000 bytes"):
        read_text(Path("/dev/zero"), most_bytes=1000)


def test_a_terminal_is_not_controlled_by_what_it_shows() -> None:
    assert without_controls("a\x1b[31mred\x07\x9b2J\u202eevil\r") == r"a\x1b[31mred\x07\x9b2J\u202eevil\r"
    harmless = "lines\nand\ttabs, éß漢\N{NO-BREAK SPACE}\udc80"
    assert without_controls(harmless) == harmless


def test_values_are_shown_in_one_short_line() -> None:
    assert shown_value("a\nb\x1b") == r"'a\nb\x1b'"
    assert len(shown_value("x" * 10_000)) == 203 == len(printable("x" * 10_000))
    assert shown_value(10**5000) == "a whole number of thousands of digits"
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown_value(deep) == "a deeply nested list"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (KeyError("a\x1bb"), r"'a\x1bb'"),
        (OverflowError("int too large"), "int too large"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (MemoryError(), "MemoryError"),
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
    ],
)
def test_any_exception_of_a_reader_becomes_ours(failure: Exception, reason: str) -> None:
    with pytest.raises(RunError) as caught, reading("x.json", RunError, hint="Do this."):
        raise failure
    assert caught.value.text == f"x.json: cannot be read ({reason})\nDo this."
    assert caught.value.__cause__ is failure


def test_but_not_one_of_ours() -> None:
    with pytest.raises(ModelFileError, match="ours"), reading("x", RunError):
        raise ModelFileError("ours")


def test_lines_end_the_same_on_every_system(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\r\nb\rc\n")
    assert read_text(path) == "a\nb\nc\n"
