"""The command, run from a notebook."""

from __future__ import annotations

import sys

import pytest

from dreambooth.errors import DreamboothError
from dreambooth.notebook import commands
from dreambooth.notebook.commands import run_command


def test_its_words_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run_command("inspect", token=["sks"])
    assert "48136" in capsys.readouterr().out


def test_its_mistake_is_raised_in_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DreamboothError, match=r"inspect failed:\nerror: unknown option --tokken; did you mean --token"):
        run_command("inspect", tokken="sks")
    assert "unknown option --tokken" in capsys.readouterr().out


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
