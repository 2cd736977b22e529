"""The command `dreambooth`, run from a notebook in a process of its own: when it ends, the memory of the GPU is free."""

from __future__ import annotations

import subprocess
import sys

from dreambooth.errors import DreamboothError
from dreambooth.runs.process import ask_to_stop, command_line, error_text, started_command

__all__ = ["run_command"]


def run_command(verb: str, *places: object, **settings: object) -> None:
    """Run `dreambooth VERB ...` and show its lines as they come. `settings` are its flags, with underscores.

    Interrupting the cell asks the command to stop, which keeps what it has made. Raises DreamboothError with the command's own
    words when it fails.
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
        raise DreamboothError(f"dreambooth {verb} did not finish:\n{error_text(said)}")


def _echo(line: str, said: list[str]) -> None:
    said.append(line.rstrip("\r\n"))
    sys.stdout.write(line)
    sys.stdout.flush()
