"""Runs a command and writes down how it ended, for a program that may itself end earlier.

`python -m dreambooth.runs.supervisor JOB COMMAND...` writes JOB.process.json (the command's process) when it starts,
JOB.log (everything it says), and JOB.end.json (its exit code, negative for a signal) when it ends. It outlives the program that
started it and hears no Ctrl-C of its own: whoever wants the command to stop asks the command's process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dreambooth.files import write_json
from dreambooth.reading import read_json
from dreambooth.runs.alive import is_alive, start_time
from dreambooth.runs.process import started_command

__all__ = ["JobFiles", "ProcessRecord", "supervise", "supervisor_command"]


@dataclass(frozen=True)
class ProcessRecord:
    """A process by its number and the time of its start, which tells it from a later one of the same number."""

    process: int
    started: float

    @property
    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        return is_alive(self.process, self.started)


@dataclass(frozen=True)
class JobFiles:
    """The files of a supervised command, which all begin with the same path."""

    stem: Path

    @property
    def log(self) -> Path:
        """What the command says."""
        return self.stem.with_suffix(".log")

    @property
    def process(self) -> Path:
        """The command's process."""
        return self.stem.with_suffix(".process.json")

    @property
    def end(self) -> Path:
        """How it ended."""
        return self.stem.with_suffix(".end.json")

    def read_process(self) -> ProcessRecord | None:
        """The command's process; None before it started."""
        return self._read("process", "started")

    def read_supervisor(self) -> ProcessRecord | None:
        """The process that waits for the command's end; None before the command started."""
        return self._read("supervisor", "supervisor_started")

    def _read(self, process: str, started: str) -> ProcessRecord | None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            values = read_json(self.process)
            return ProcessRecord(int(values[process]), float(values[started]))
        return None

    def read_end(self) -> tuple[int, float] | None:
        """The exit code (negative for a signal) and the time of the end; None while it runs, or when nobody saw the end."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            values = read_json(self.end)
            return int(values["code"]), float(values["ended"])
        return None


def supervisor_command(stem: Path, command: list[str]) -> list[str]:
    """The command that runs `command` under supervision; `stem` is the beginning of the paths of its files."""
    return [sys.executable, "-m", "dreambooth.runs.supervisor", str(stem), *command]


def supervise(stem: Path, command: list[str]) -> int:
    """Run the command, write its files, and return its exit code."""
    files = JobFiles(stem)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _heard)  # and not SIG_IGN, which the command would inherit
    with files.log.open("w", encoding="utf-8") as output:
        process = started_command(command, output=output.fileno())
    own = {"supervisor": os.getpid(), "supervisor_started": start_time(os.getpid())}
    write_json(files.process, {"process": process.pid, "started": start_time(process.pid), **own})
    code = process.wait()
    write_json(files.end, {"code": code, "ended": time.time()})
    return code


def _heard(number: int, frame: FrameType | None) -> None:
    """Nothing: the command is asked by itself."""


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), sys.argv[2:])
