"""The command `dreambooth`, run from a notebook in a process of its own: when it ends, the memory of the GPU is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from dreambooth.errors import DreamboothError

__all__ = ["command_environment", "command_line", "error_text", "flags", "run_command"]

# A notebook's kernel asks every program for colours; the bars that come with them cannot be drawn in a cell.
_COLOURS = ("CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR")
_COLUMNS = "120"
_LAST_LINES = 20


def flags(settings: Mapping[str, object]) -> list[str]:
    """Settings by name as flags: class_word="dog" is --class-word=dog, False is --no-flag, None is left out."""
    typed = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            typed.append(flag if value else f"--no-{flag.removeprefix('--')}")
        elif isinstance(value, list | tuple):
            typed += [flag, *map(str, value)] if value else []
        elif value is not None:
            typed.append(f"{flag}={value}")
    return typed


def command_line(verb: str, *places: object, **settings: object) -> list[str]:
    """The command with this interpreter, so that it is found whatever the shell's path is."""
    return [sys.executable, "-m", "dreambooth", verb, *map(str, places), *flags(settings)]


def command_environment() -> dict[str, str]:
    """The environment of a command whose words are shown in a cell: plain lines, at once, as wide as a cell."""
    kept = {name: value for name, value in os.environ.items() if name not in _COLOURS}
    return {**kept, "COLUMNS": _COLUMNS, "PYTHONUNBUFFERED": "1"}


def run_command(verb: str, *places: object, **settings: object) -> None:
    """Run `dreambooth VERB ...` and show its lines as they come. `settings` are its flags, with underscores.

    Interrupting the cell asks the command to stop, which keeps what it has made. Raises DreamboothError with the command's own
    words when it fails.
    """
    said: list[str] = []
    with subprocess.Popen(
        command_line(verb, *places, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=command_environment(),
        # The kernel's interrupt goes to its whole group. The command is to hear it once: a second one means quit at once.
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                _echo(line, said)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            for line in process.stdout:
                _echo(line, said)
            raise
    if process.returncode != 0:
        raise DreamboothError(f"dreambooth {verb} did not finish:\n{error_text(said)}")


def _echo(line: str, said: list[str]) -> None:
    said.append(line.rstrip("\n"))
    sys.stdout.write(line)
    sys.stdout.flush()


def error_text(lines: Sequence[str]) -> str:
    """What a command said of its mistake: from its line `error:` on, or its last lines when it died without one."""
    starts = [number for number, line in enumerate(lines) if line.startswith("error:")]
    return "\n".join(lines[starts[-1] :] if starts else lines[-_LAST_LINES:])
