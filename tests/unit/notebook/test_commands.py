"""The command, run from a notebook."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dreambooth.errors import DreamboothError
from dreambooth.notebook import commands
from dreambooth.notebook.commands import command_environment, command_line, error_text, flags, run_command


def test_settings_become_flags() -> None:
    assert flags({"class_word": "dog", "steps": 3}) == ["--class-word=dog", "--steps=3"]
    assert flags({"train_text_encoder": False, "tensorboard": True}) == ["--no-train-text-encoder", "--tensorboard"]
    assert flags({"prompt": ["a", "b c"], "photos": Path("x y")}) == ["--prompt", "a", "b c", "--photos=x y"]
    assert flags({"preset": None, "also_prior": ()}) == []
    assert flags({"negative_prompt": "-5 degrees"}) == ["--negative-prompt=-5 degrees"]


def test_the_command_is_this_interpreters() -> None:
    assert command_line("inspect", "a.ckpt", token=["x"]) == [
        sys.executable,
        "-m",
        "dreambooth",
        "inspect",
        "a.ckpt",
        "--token",
        "x",
    ]


def test_the_colours_that_a_kernel_asks_for_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("CLICOLOR", "1")
    monkeypatch.setenv("HF_TOKEN", "secret")
    environment = command_environment()
    assert not {"FORCE_COLOR", "CLICOLOR"} & environment.keys()
    assert environment["HF_TOKEN"] == "secret"
    assert environment["PYTHONUNBUFFERED"] == "1"


def test_its_words_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run_command("inspect", token=["sks"])
    assert "48136" in capsys.readouterr().out


def test_its_mistake_is_raised_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DreamboothError, match=r"dreambooth inspect did not finish:\nerror: .*\n- Unknown option: --tokken"):
        run_command("inspect", tokken="sks")
    assert "Unknown option: --tokken" in capsys.readouterr().out


def test_the_text_of_a_mistake_begins_where_it_begins() -> None:
    lines = ["loading", "error: 2 problems", "- one", "- two", "Do this."]
    assert error_text(lines) == "error: 2 problems\n- one\n- two\nDo this."
    assert error_text([f"line {number}" for number in range(50)]).splitlines()[0] == "line 30"


def test_interrupting_the_cell_lets_the_command_stop_by_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = (
        "import signal, sys, time\n"
        "def stop(*_):\n    print('kept what was made'); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, stop)\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    monkeypatch.setattr(commands, "command_line", lambda *_, **__: [sys.executable, "-c", script])

    def interrupt_when_ready(line: str, said: list[str]) -> None:
        said.append(line)
        sys.stdout.write(line)
        if line == "ready\n":
            raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_echo", interrupt_when_ready)
    with pytest.raises(KeyboardInterrupt):
        run_command("prior")
    assert capsys.readouterr().out == "ready\nkept what was made\n"
