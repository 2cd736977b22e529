"""A verb of the command line in a process of its own: started, watched and asked to stop.

Its output goes into a file, so nothing that happens to the program that started it holds it up.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

__all__ = [
    "STOPPED_CODES",
    "Job",
    "ask_to_stop",
    "command_environment",
    "command_line",
    "error_text",
    "flags",
    "signal_previews",
    "signal_save",
    "signal_stop",
    "started_command",
]

# The program that starts a job may ask every program for colors; the bars that come with them are no lines of a log.
_COLORS = ("CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR")
_COLUMNS = "120"
_LAST_LINES = 20
_NOTHING: Mapping[str, str] = MappingProxyType({})
STOPPED_CODES = (129, 130, 143)
"""Exit codes of a command that was asked to stop and saved."""

_STOP: signal.Signals = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT)  # the first is Windows'


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
    """The environment of a command whose output a program reads: plain lines in UTF-8, unbuffered, 120 columns wide."""
    kept = {name: value for name, value in os.environ.items() if name not in _COLORS}
    return {**kept, "COLUMNS": _COLUMNS, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:replace"}


def started_command(
    command: Sequence[str],
    *,
    output: int,
    before: Callable[[], None] | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] = _NOTHING,
) -> subprocess.Popen[bytes]:
    """A process with a group of its own that writes everything it says to `output`, a file descriptor or subprocess.PIPE.

    Of its own, because an interrupt goes to a whole group, and a command that hears two of them quits without saving.
    `before` is called in the new process before the command begins (not on Windows; only where there is no second thread);
    if it raises, subprocess.SubprocessError is raised here and the command does not begin. `environment` is added to that of
    `command_environment`; `folder` is where the command runs.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**command_environment(), **environment},
        start_new_session=True,
        preexec_fn=before,  # noqa: PLW1509 - whoever passes it has no second thread
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a running command to finish its step, save and end, as Ctrl-C does; nothing when it has ended."""
    if process.poll() is None:
        process.send_signal(_STOP)


def signal_stop(number: int) -> None:
    """As `ask_to_stop`, for a process that somebody else started; nothing when it is gone."""
    with suppress(ProcessLookupError):
        os.kill(number, _STOP)


def signal_save(number: int) -> None:
    """Ask a running training to save and go on; only past its first step, and not on Windows, which has no such signal."""
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGUSR1)


def signal_previews(number: int) -> None:
    """Ask a running training to make preview images and go on; as with `signal_save`, only past its first step."""
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGUSR2)


@dataclass(frozen=True)
class Job:
    """A command that runs in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    """What it has said."""

    @classmethod
    def start(
        cls, command: Sequence[str], *, log: Path, folder: Path | None = None, environment: Mapping[str, str] = _NOTHING
    ) -> Job:
        """Start a command in `folder`; what an earlier one wrote into `log` is replaced. See `started_command`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as output:
            return cls(started_command(command, output=output.fileno(), folder=folder, environment=environment), log)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    @property
    def has_failed(self) -> bool:
        """Whether it ended by a mistake, and not by itself or because it was asked to stop."""
        return not self.is_running and self.process.returncode not in (0, *STOPPED_CODES)

    @property
    def was_stopped(self) -> bool:
        """Whether it ended because it was asked to stop."""
        return self.process.poll() in STOPPED_CODES

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it ends, for at most `seconds`; returns whether it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return not self.is_running

    def stop(self) -> None:
        """Ask it to finish its step, save and end."""
        ask_to_stop(self.process)

    def lines(self) -> list[str]:
        """What it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.is_file() else []


def error_text(lines: Sequence[str]) -> str:
    """What a command said of its mistake: from its line `error:` on, or its last lines when it died without one."""
    starts = [number for number, line in enumerate(lines) if line.startswith("error:")]
    return "\n".join(lines[starts[-1] :] if starts else lines[-_LAST_LINES:])
