"""YAML that would hang, fill the memory, or crash the library."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dreambooth.config import parse_settings, read_yaml, yaml_value
from dreambooth.errors import SettingsError
from dreambooth.files import expanded
from dreambooth.schema.verbs import TrainSettings
from dreambooth.yaml_reading import parse_yaml

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 20,000 values"),
        ("a: &a [*a]", "nested too deeply, or a reference to itself"),
        ("a: " + "[" * 200 + "]" * 200, "nested too deeply"),
        ("[" * 5000, "nested too deeply|expected"),
        ("a: " + "9" * 5000, "beyond 64 bits"),
        ("a: 0x" + "f" * 50, "beyond 64 bits"),
        ("a: 2024-13-45", "month must be in 1..12"),
        ("a: 2024-01-01T99:99:99", "hour must be in 0..23"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("? [a, b]\n: 1", "unhashable key"),
        ("a: 1\na: 2", "line 2: a is given twice"),
        ("a: \x00", "special characters are not allowed"),
        ("x" * 300_000, "larger than 262,144 bytes"),
    ],
)
def test_yaml_beyond_all_use_is_a_value_error(text: str, reason: str) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=reason):
        parse_yaml(text)
    assert time.process_time() - start < 5


def test_references_as_people_use_them_are_followed() -> None:
    repeated = {"b": [1, 2.5, True, "text"]}
    assert parse_yaml("a: &a {b: [1, 2.5, yes, text]}\nc: *a") == {"a": repeated, "c": repeated}
    assert parse_yaml("") is None


def test_a_value_that_is_no_yaml_stays_text() -> None:
    assert [yaml_value(text) for text in ("2024-13-45", "[" * 3000, "3", "&a [*a]")] == ["2024-13-45", "[" * 3000, 3, "&a [*a]"]


def problems_of(tmp_path: Path, text: str) -> SettingsError:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        parse_settings(TrainSettings, read_yaml(path), where=str(path))
    return caught.value


@pytest.mark.parametrize("key", ["my.note", "loop.stepz", "a.b.c", ".", "loop.", "{0}", "{original_pairing}", "views.{x.y}"])
def test_keys_with_dots_and_braces_are_unknown_settings(tmp_path: Path, key: str) -> None:
    assert f"unknown setting '{key}'" in problems_of(tmp_path, f'"{key}": x').text
    assert f"unknown setting 'prior.{key}'" in problems_of(tmp_path, f'prior: {{"{key}": x}}').text


@pytest.mark.parametrize("key", ["1", "true", "null", "2024-01-01", "1.5"])
def test_keys_that_are_no_text_are_refused(tmp_path: Path, key: str) -> None:
    assert "expected names of settings" in problems_of(tmp_path, f"{key}: x").text
    assert problems_of(tmp_path, f"prior: {{{key}: x}}").problems


def test_ten_thousand_unknown_keys_are_told_shortly_and_at_once(tmp_path: Path) -> None:
    start = time.process_time()
    error = problems_of(tmp_path, "".join(f"key{number}: 1\n" for number in range(9_000)))
    assert time.process_time() - start < 10 and len(error.text) < 20_000
    assert error.problems[-1].endswith("more problems")


def test_a_long_value_is_shortened_in_the_message(tmp_path: Path) -> None:
    [problem] = [one for one in problems_of(tmp_path, "loop: {steps: [" + "1, " * 5000 + "1]}").problems if "1, 1" in one]
    assert len(problem) < len(str(tmp_path)) + 400


def test_limits_of_settings_are_told_and_nul_is_in_no_name(tmp_path: Path) -> None:
    text = problems_of(
        tmp_path, 'prior: {num_prior_images: 1000000000000}\noutput: {output: "a\\0b"}\nsubject: {token: "a\\0b"}'
    ).text
    assert "num_prior_images' is 1000000000000: expected at most 1000000" in text
    assert "'output.output': contains a NUL character" in text
    assert "'subject.token'" in text


def test_a_home_of_nobody_is_a_folder_that_is_not_there() -> None:
    assert expanded(Path("~nosuchuser/a")) == Path("~nosuchuser/a")
    assert expanded(Path("~/a")) == Path.home() / "a"


def test_deep_nesting_is_refused_while_it_is_scanned() -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_yaml("a: {b: " + "[" * 3000)
    assert time.process_time() - start < 0.1, "it took 0.7 s when the library went all the way down"
