"""Runs the command `dreambooth` from a notebook in a separate process, which frees the GPU memory when it ends."""

from __future__ import annotations

import subprocess
import sys

from dreambooth.errors import DreamboothError
from dreambooth.runs.process import ask_to_stop, command_line, error_text, started_command

__all__ = ["run_command"]


def run_command(verb: str, *places: object, **settings: object) -> None:
    """Run `dreambooth VERB ...` and print its output live. `settings` are its flags, with underscores.

    Interrupting the cell stops the command, which keeps the files it has made. Raises DreamboothError with the command's
    error message when it fails.
    """
    said: list[str] = []
    with started_command(command_line(verb, *places, **settings), output=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                _echo(line.decode("utf-8", errors="replace"), said)
        except KeyboardInterrupt:
            ask_to_stop(process)
            for line in process.stdout:
                _echo(line.decode("utf-8", errors="replace"), said)
            raise
    if process.returncode != 0:
        raise DreamboothError(f"dreambooth {verb} failed:\n{error_text(said)}")


def _echo(line: str, said: list[str]) -> None:
    said.append(line.rstrip("\r\n"))
    sys.stdout.write(line)
    sys.stdout.flush()
