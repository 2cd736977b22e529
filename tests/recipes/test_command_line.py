"""The installed command, as a person meets it before anything is trained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreambooth import __version__

COMMAND = Path(sys.executable).with_name("dreambooth")


def _run(*arguments: str, command: tuple[str, ...] = (str(COMMAND),), **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
        env={**os.environ, "COLUMNS": "80", "CUDA_VISIBLE_DEVICES": "", **environment},
    )


def test_the_command_is_installed_and_the_module_is_the_same() -> None:
    for command in ((str(COMMAND),), (sys.executable, "-m", "dreambooth")):
        result = _run("--version", command=command)
        assert (result.returncode, result.stdout, result.stderr) == (0, f"{__version__}\n", "")


def test_help_is_silent_about_anything_else() -> None:
    for arguments in (("--help",), ("train", "--help"), ("convert", "-h")):
        result = _run(*arguments)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("Usage: dreambooth")


def test_help_can_be_shown_in_ascii() -> None:
    result = _run("train", "--help", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert (result.returncode, result.stderr) == (0, "")
    assert "--class-word" in result.stdout


@pytest.mark.skipif(os.name != "posix", reason="processor time of children is only counted on POSIX")
def test_help_needs_less_than_half_a_second_of_processor_time() -> None:
    seconds = []
    for _ in range(3):
        before = os.times()
        assert _run("--help").returncode == 0
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.5


def test_a_mistake_is_told_without_a_traceback_and_with_its_own_code() -> None:
    result = _run("train", "--model", "a", "--stepz", "3", "--flip-probability", "2")
    assert (result.returncode, result.stdout) == (2, "")
    first, *problems, last = result.stderr.splitlines()
    assert first == "error: 4 problems"
    assert [problem.split(":")[0] for problem in problems] == [
        "- unknown option --stepz; did you mean --steps?",
        "- --photos is missing",
        "- --class-word is missing",
        "- --flip-probability is '2'",
    ]
    assert last == "See `dreambooth train --help`."


@pytest.mark.slow
def test_a_model_that_is_not_there_is_a_mistake_of_another_code(tmp_path: Path) -> None:
    result = _run("inspect", str(tmp_path / "nowhere.ckpt"))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "nowhere.ckpt" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [("--version",), ("train", "--help")])
def test_a_reader_that_goes_away_is_no_mistake(arguments: tuple[str, ...]) -> None:
    with subprocess.Popen([str(COMMAND), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
